"""How far a search is, and who wants to know."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field

from objectives.metrics import Measurement

__all__ = ["Audience", "Progress"]


@dataclass
class Progress:
    """How far a search is, and where its driver's time went.

    Attributes:
        n_trials: asked for.
        n_complete: measured on all images, or known from an equal candidate that was.
        n_infeasible: measured to be over the budget, where only measuring tells, or known from an equal candidate.
        n_stopped: measured on some of them, until their race was lost, or known from an equal candidate.
        n_duplicates: of these three, the ones known from an equal candidate.
        n_failed: not measurable.
        n_retried: measured again, since a worker died under them.
        n_proposed: draws made.
        n_over_budget: of those, the ones that missed the budget; they were brought onto it, or drawn again.
        n_images_seen: images that candidates were measured on.
        n_images_spared: images that were left out because a race was lost.
        best: the best complete trial's number, metric and cost.
        seconds: of the driver, by what it did.
    """

    n_trials: int
    n_complete: int = 0
    n_infeasible: int = 0
    n_stopped: int = 0
    n_duplicates: int = 0
    n_failed: int = 0
    n_retried: int = 0
    n_proposed: int = 0
    n_over_budget: int = 0
    n_images_seen: int = 0
    n_images_spared: int = 0
    best: tuple[int, Measurement] | None = None
    seconds: dict[str, float] = field(default_factory=lambda: defaultdict(float))

    @property
    def n_finished(self) -> int:
        """Trials with which nothing more will happen."""
        return self.n_complete + self.n_infeasible + self.n_stopped + self.n_failed

    @property
    def spared_share(self) -> float:
        """The share of images that races spared."""
        return self.n_images_spared / max(1, self.n_images_seen + self.n_images_spared)

    @property
    def overhead_share(self) -> float:
        """The driver's own share of the time: everything but waiting for workers."""
        total = sum(self.seconds.values())
        return 0.0 if total == 0 else 1 - self.seconds["waiting"] / total


@dataclass(frozen=True)
class Audience:
    """Whoever waits for a search.

    Attributes:
        on_progress: is told after each trial.
        stop_requested: is asked between trials whether to stop cleanly.
        say: is told, line by line, what goes wrong on the way and is mended.
    """

    on_progress: Callable[[Progress], None] = lambda _: None
    stop_requested: Callable[[], bool] = lambda: False
    say: Callable[[str], None] = lambda _: None
