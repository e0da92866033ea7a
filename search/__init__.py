"""What to try next, and where it runs: searches from Python and from the command line.

``Study`` is the notebook's entry.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from search.config import DataSettings, ModelSettings, SearchSettings
    from search.execution import Execution
    from search.study import Study

__all__ = ["DataSettings", "Execution", "ModelSettings", "SearchSettings", "Study"]


def __getattr__(name: str) -> Any:
    """Import on first use: torch and Optuna take seconds, and ``prunefront status`` needs neither."""
    if name == "Study":
        from search.study import Study

        return Study
    if name == "Execution":
        from search.execution import Execution

        return Execution
    if name in __all__:
        from search import config

        return getattr(config, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
