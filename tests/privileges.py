"""Run a command as somebody whom read-only folders stop."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path


def run_restricted(*command: str | Path, cwd: str | Path) -> tuple[int, str, str]:
    """Run a command that may write only where its user may; root is stripped of the right to write anywhere."""
    strip = ["setpriv", "--bounding-set=-all", "--inh-caps=-all", "--"] if os.geteuid() == 0 else []
    found = subprocess.run([*strip, *command], cwd=cwd, capture_output=True, text=True, check=False)
    return found.returncode, found.stdout, found.stderr
