"""Write what a benchmark found beside what it prints."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

__all__ = ["write_results"]


def write_results(results: Any, output: Path | None) -> None:
    """Write results as JSON, if a file is asked for; its folder is made."""
    if output is not None:
        output.parent.mkdir(parents=True, exist_ok=True)
        output.write_text(json.dumps(results, indent=2) + "\n")
