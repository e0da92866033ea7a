"""Where a study's numbers come from: versions, command line, host."""

from __future__ import annotations

import platform
import shlex
import socket
import sys
from importlib import metadata

from storage import Provenance
from storage.database import shown

__all__ = ["PACKAGES", "provenance", "versions"]

PACKAGES = ("prunefront", "torch", "timm", "optuna", "ray", "numpy", "pillow", "sqlalchemy")


def versions() -> dict[str, str]:
    """Give the versions of Python and of the packages that decide a result."""
    found = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            found[package] = "not installed"
    return found


def provenance(weights_digest: str, search_list_hash: str, confirm_list_hash: str | None) -> Provenance:
    """Describe where this process's results come from."""
    program = sys.argv[0].rpartition("/")[2] or "python"
    return Provenance(
        weights_digest=weights_digest,
        search_list_hash=search_list_hash,
        confirm_list_hash=confirm_list_hash,
        command_line=shown(shlex.join([program, *sys.argv[1:]])),
        host=socket.gethostname(),
        versions=versions(),
    )
