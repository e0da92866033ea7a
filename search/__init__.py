"""What to try next, and where it runs: searches from Python and from the command line.

``Study`` is the notebook's entry.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from search.config import DataSettings, ModelSettings, SearchSettings
    from search.execution import Execution
    from search.study import Study

__all__ = ["DataSettings", "Execution", "ModelSettings", "SearchSettings", "Study"]

_HOMES = {"Execution": "search.execution", "Study": "search.study"}


def __getattr__(name: str) -> Any:
    """Import on first use: torch and Optuna take seconds, and ``prunefront status`` needs neither."""
    if name in __all__:
        return getattr(import_module(_HOMES.get(name, "search.config")), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
