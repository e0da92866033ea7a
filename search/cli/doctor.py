"""``prunefront doctor``: what is installed, what it can run on, what is missing."""

from __future__ import annotations

import importlib.util
import os
import shutil

import click

from search.cli.options import db_option, json_option
from search.cli.output import print_json, print_table
from spaces.errors import PrunefrontError

__all__ = ["doctor"]

_OPTIONAL = {"psycopg": "PostgreSQL databases (pip install 'prunefront[postgres]')"}


@click.command(short_help="Say what is installed, what it can run on, and what is missing.")
@db_option
@json_option
def doctor(db: str, as_json: bool) -> None:
    """Check versions, devices, memory and the database; fail if something needed is missing.

    \b
    Example:
      prunefront doctor
    """
    checks = [*_packages(), *_machine(), _bundled_model(), _database(db)]
    if as_json:
        print_json([{"check": name, "found": found, "ok": ok} for name, found, ok in checks])
    else:
        print_table([[name, found, "" if ok else "PROBLEM"] for name, found, ok in checks], ["check", "found", ""])
    if not all(ok for _, _, ok in checks):
        raise PrunefrontError("something needed is missing or broken; see the lines marked PROBLEM")


Check = tuple[str, str, bool]


def _packages() -> list[Check]:
    from search.provenance import versions

    checks = [(name, version, version != "not installed") for name, version in versions().items()]
    for package, purpose in _OPTIONAL.items():
        there = importlib.util.find_spec(package) is not None
        checks.append((package, "installed" if there else f"not installed; only for {purpose}", True))
    return checks


def _machine() -> list[Check]:
    import torch

    checks: list[Check] = [("cores", str(os.cpu_count()), True)]
    gpus = [torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count())]
    checks.append(("GPUs", ", ".join(gpus) or "none; the CPU is used", True))
    # Ray keeps the images in shared memory, and falls back to a slow disk where there is little.
    if os.path.isdir("/dev/shm"):
        shared = shutil.disk_usage("/dev/shm").free / 1e9
        checks.append(("shared memory", f"{shared:.1f} GB free", shared > 0.5))
    return checks


def _bundled_model() -> Check:
    from pruning.models import load_model

    try:
        loaded = load_model("shapes_vit_small")
    except PrunefrontError as error:
        return "shapes_vit_small", str(error), False
    return "shapes_vit_small", f"weights {loaded.weights_digest}", True


def _database(db: str) -> Check:
    from storage import Store

    try:
        with Store(db) as store:
            url, n_studies = store.url, len(store.studies())
    except PrunefrontError as error:
        missing = "there is no database" in str(error) or "no prunefront studies" in str(error)
        return "database", "none yet" if missing else str(error), missing
    return "database", f"{url}, {n_studies} studies", True
