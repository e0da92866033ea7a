"""The order of the packages, as it is felt: what starts without what."""

from __future__ import annotations

import pkgutil
import subprocess
import sys

import pytest

HEAVY = ("torch", "timm", "ray", "optuna")


@pytest.mark.parametrize("package", ["spaces", "storage", "dashboard"])
def test_the_light_packages_start_without_the_heavy_frameworks(package):
    module = __import__(package)
    names = [
        info.name
        for info in pkgutil.walk_packages(module.__path__, f"{package}.")
        if ".migrations" not in info.name  # run by Alembic alone
    ]
    program = f"import sys, {', '.join([package, *names])}; print(*(set(sys.modules) & {set(HEAVY)!r}))"
    found = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == ""


def test_pruning_starts_without_ray_sql_and_optuna():
    program = (
        "import sys, pruning, pruning.models; print(*(set(sys.modules) & {'ray', 'sqlalchemy', 'optuna', 'pandas'}))"
    )
    found = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == ""


def test_looking_at_studies_starts_without_torch():
    program = f"import sys, search.cli.looking, search.cli.main; print(*(set(sys.modules) & {set(HEAVY)!r}))"
    found = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == ""
