"""Measure trials once more, on other images."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence

from objectives.metrics import Measurement
from search.executors import Executor
from spaces import PrunefrontError, parse_layout
from storage import TrialRecord

__all__ = ["measured_again"]

_WAIT_S = 0.5


def measured_again(
    trials: Sequence[TrialRecord],
    executor: Executor,
    n_retries: int,
    *,
    check_lease: Callable[[], None],
    say: Callable[[str], None],
) -> Iterator[tuple[int, Measurement]]:
    """Measure trials on the images that the executor holds.

    Args:
        trials: what to measure.
        executor: measures them, as many at a time as it has room for.
        n_retries: how often one is measured again whose worker died under it.
        check_lease: raises when the study was lost meanwhile.
        say: is told of workers that are lost.

    Yields:
        A trial's number and its measurement, as they come.

    Raises:
        PrunefrontError: one of them could not be measured.
    """
    waiting, n_left = list(trials), len(trials)
    n_lost: Counter[int] = Counter()
    while n_left:
        while waiting and executor.has_room():
            trial = waiting.pop(0)
            executor.submit(trial.number, parse_layout(trial.config))
        check_lease()
        outcome = executor.next_outcome(_WAIT_S)
        if outcome is None:
            continue
        if outcome.is_lost and n_lost[outcome.number] < n_retries:
            n_lost[outcome.number] += 1
            say(f"trial {outcome.number} is measured again, since its worker died: {outcome.error}")
            waiting += [trial for trial in trials if trial.number == outcome.number]
            continue
        if outcome.measurement is None:
            raise PrunefrontError(f"trial {outcome.number} could not be confirmed: {outcome.error}")
        n_left -= 1
        yield outcome.number, outcome.measurement
