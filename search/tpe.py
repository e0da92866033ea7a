"""TPE over the trials of a study: which of them are good, which of the others it looks at, and of which method."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from search.parzen import ParzenSpace
from search.surrogate import Surrogate, in_one_thread
from spaces.domains import Choice, Parameter, ParameterValue
from spaces.method_choice import METHOD

__all__ = ["MethodsTpe", "Profiles", "Tpe", "best", "thinned", "tpe_over"]

_GOOD_SHARE = 0.1
_MOST_GOOD, _MOST_GOOD_OF_FRONT = 25, 100
# With 100, 200 or all others, thinned evenly or the latest, searches of 1,000 trials ended alike; time grows with them.
_MOST_OTHERS = 200
_N_ANYWHERE = 8  # of the candidates
_LEAST_GAIN, _GAIN_DIGITS, _PROFILE_DIGITS = 1e-12, 7, 9
_N_OWN_FIRST = 5  # trials of a method, before they say anything of the next

Array = npt.NDArray[np.float64]
Indices = npt.NDArray[np.int64]
Profiles = Callable[[Sequence[Mapping[str, Any]]], Array]  # (n, n_number) of n draws


class Tpe:
    """Remembers what was measured, and proposes what is like the good trials and unlike the others.

    It looks at a bounded number of them: a proposal takes as long after 10,000 trials as after 1,000.
    """

    def __init__(self, parameters: Sequence[Parameter], *, is_front: bool, profiles: Profiles | None = None) -> None:
        """Start without trials.

        Args:
            parameters: what to propose.
            is_front: whether trials have two merits instead of one.
            profiles: describes what draws become, see ``SearchSpace.profiles``; without it draws are compared as such.
        """
        # Of two merits, the expected improvement would have to be one of an area.
        self._profiles = None if is_front else profiles
        self._described: dict[bytes, Array] = {}  # by row
        # For one budget the parameters of a layout are modelled together; for a front, each alone did better.
        self._space = ParzenSpace(parameters, is_joint=not is_front)
        self._most_good = _MOST_GOOD_OF_FRONT if is_front else _MOST_GOOD
        self._rows: list[Array] = []
        self._merits: tuple[list[float], ...] = ([], []) if is_front else ([],)
        self._missed_by: list[float] = []

    @property
    def n_observed(self) -> int:
        """Trials observed."""
        return len(self._rows)

    def observe(self, params: Mapping[str, Any], merits: Sequence[float], missed_by: float = 0.0) -> None:
        """Take in a measured trial; of each merit, more is better.

        Args:
            params: of the trial.
            merits: likewise.
            missed_by: how far a draw that was not measured missed the budget; any such draw is worse than all others.
        """
        self._rows.append(self._space.encode(params))
        self._missed_by.append(missed_by)
        for known, merit in zip(self._merits, merits, strict=True):
            known.append(merit)

    def propose(self, running: Iterable[Mapping[str, Any]], rng: np.random.RandomState) -> dict[str, ParameterValue]:
        """Propose parameters.

        Args:
            running: of trials whose results are still out. They count as not good, so that the next is another.
            rng: what decides the draw.
        """
        good, others = self.looked_at()
        rows = np.array([self._rows[trial] for trial in good])
        out = [self._space.encode(each) for each in running]
        if self._profiles is None or any(self._missed_by):
            beside = [*(self._rows[trial] for trial in others), *out]
            return self._space.draw(rows, np.array(beside), rng)
        with in_one_thread():
            return self._most_promising(self._profiles, np.concatenate((good, others)), rows, out, rng)

    def _most_promising(
        self, profiles: Profiles, trials: Indices, good: Array, out: Sequence[Array], rng: np.random.RandomState
    ) -> dict[str, ParameterValue]:
        """Choose, of candidates near the good rows and anywhere, the one with the highest expected improvement."""
        candidates = self._space.candidates(good, _N_ANYWHERE, rng)
        rows = [*(self._rows[trial] for trial in trials), *out]
        known, new = self._describe(profiles, rows, candidates)
        surrogate = Surrogate(known[: len(trials)], np.array(self._merits[0])[trials])
        if out:
            surrogate.pretend(known[len(trials) :])
        gain = surrogate.expected_improvement(new)
        told = {each.tobytes() for each in known}
        gain[[each.tobytes() in told for each in new]] = -1.0  # how it does is known, or soon will be
        # Last digits depend on the machine's matrix products, and shall not decide.
        return candidates[int((gain / max(gain.max(), _LEAST_GAIN)).round(_GAIN_DIGITS).argmax())]

    def _describe(
        self, profiles: Profiles, rows: Sequence[Array], candidates: Sequence[Mapping[str, Any]]
    ) -> tuple[Array, Array]:
        """Give the profiles of rows, which are remembered, and of candidates: all that are new at once."""
        keys = [row.tobytes() for row in rows]
        new = {key: self._space.decode(row) for key, row in zip(keys, rows, strict=True) if key not in self._described}
        # Rounded, for the last digits may depend on how many are described together.
        described = profiles([*new.values(), *candidates]).round(_PROFILE_DIGITS)
        self._described.update(zip(new, described, strict=False))
        return np.array([self._described[key] for key in keys]), described[len(new) :]

    def looked_at(self) -> tuple[Indices, Indices]:
        """Choose the good trials and the others, by their position among those observed."""
        n_good = min(math.ceil(_GOOD_SHARE * self.n_observed), self._most_good)
        missed_by = np.array(self._missed_by)
        within = np.flatnonzero(missed_by == 0)
        good = within[best(np.array(self._merits)[:, within], min(n_good, len(within)))]
        if len(good) < n_good:
            nearly = missed_by.argsort(kind="stable")[len(within) :]
            good = np.sort(np.concatenate((good, nearly[: n_good - len(good)])))
        others = np.delete(np.arange(self.n_observed), good)
        return good, others[thinned(len(others), _MOST_OTHERS)]


class MethodsTpe:
    """TPE over several methods: it draws a method as often as it was good, then learns from that method's trials alone.

    What other methods' trials drew for a method's parameters had no effect, so they say nothing of them.
    """

    def __init__(self, parameters: Sequence[Parameter], *, is_front: bool, profiles: Profiles | None = None) -> None:
        """Start without trials.

        Args:
            parameters: what to propose: the method, parameters of single methods, and parameters of all.
            is_front: whether trials have two merits instead of one.
            profiles: see ``Tpe``.
        """

        def of_method(name: ParameterValue) -> Profiles | None:
            return profiles and (lambda draws: profiles([{METHOD: name, **values} for values in draws]))

        (choice,) = (each for each in parameters if each.name == METHOD)
        names = choice.domain.values if isinstance(choice.domain, Choice) else ()
        self._all = Tpe([choice], is_front=is_front)
        self._methods: list[ParameterValue] = []  # of the trials observed
        own = {
            name: [each for each in parameters if each.method in (None, name) and each is not choice] for name in names
        }
        self._own = {name: Tpe(of_one, is_front=is_front, profiles=of_method(name)) for name, of_one in own.items()}

    @property
    def n_observed(self) -> int:
        """Trials observed, of all methods."""
        return len(self._methods)

    def observe(self, params: Mapping[str, Any], merits: Sequence[float], missed_by: float = 0.0) -> None:
        """Take in a measured trial; see ``Tpe.observe``."""
        self._all.observe(params, merits, missed_by)
        self._methods.append(params[METHOD])
        self._own[params[METHOD]].observe(params, merits, missed_by)

    def propose(self, running: Iterable[Mapping[str, Any]], rng: np.random.RandomState) -> dict[str, ParameterValue]:
        """Propose a method, and its parameters once it has a few trials.

        Args:
            running: of trials whose results are still out. They count as not good, so that the next is another.
            rng: what decides the draw.

        Returns:
            Parameters; those that are not among them are to be drawn at random.
        """
        method = list(self._own)[rng.choice(len(self._own), p=self.shares())]
        own = self._own[method]
        if own.n_observed < _N_OWN_FIRST:
            return {METHOD: method}
        return {METHOD: method} | own.propose([each for each in running if each[METHOD] == method], rng)

    def shares(self) -> Array:
        """Say how often each method is proposed: as the kernels about the good trials have it, see ``search.parzen``.

        Not by how much likelier it is among the good than among the others: that leaves a method that is good when it
        is set well, but has not been yet.
        """
        good, _ = self._all.looked_at()
        n_kernel, n_method = len(good) + 1, len(self._own)
        n_good = np.array([sum(self._methods[trial] == method for trial in good) for method in self._own])
        of_kernels = (n_good + len(good) / n_kernel) / (1 + n_method / n_kernel)
        return (of_kernels + 1 / n_method) / n_kernel


def tpe_over(parameters: Sequence[Parameter], *, is_front: bool, profiles: Profiles | None = None) -> Tpe | MethodsTpe:
    """Make the TPE that suits the parameters: of one method, or of several."""
    is_choice = any(parameter.name == METHOD for parameter in parameters)
    return (MethodsTpe if is_choice else Tpe)(parameters, is_front=is_front, profiles=profiles)


def best(merits: Array, n_best: int) -> Indices:
    """Find the trials that did best, in their order.

    With two merits, first those that nothing dominates, then those that only these dominate, and so on; of the last
    such layer those that one by one add most to the area that they dominate together.

    Args:
        merits: (1 or 2, n_trial), more is better.
        n_best: how many to find, at most ``n_trial``.

    >>> best(np.array([[3.0, 9.0, 5.0]]), 2)
    array([1, 2])
    >>> best(np.array([[3.0, 2.0, 1.0, 1.0], [1.0, 2.0, 1.0, 3.0]]), 2)
    array([0, 1])
    """
    if len(merits) == 1:
        return np.sort((-merits[0]).argsort(kind="stable")[:n_best])
    first, second = merits
    left = np.lexsort((-second, -first))
    found = np.empty(0, np.int64)
    while len(found) < n_best:
        so_far = np.maximum.accumulate(second[left])
        is_beaten = np.concatenate(([False], second[left[1:]] <= so_far[:-1]))
        layer = left[~is_beaten]
        n_missing = n_best - len(found)
        if len(layer) > n_missing:
            layer = layer[_spanning(merits[:, layer], n_missing)]
        found = np.concatenate((found, layer))
        left = left[is_beaten]
    return np.sort(found)


def _spanning(front: Array, n: int) -> Indices:
    """Choose ``n`` points of a front one by one, each time the one that adds most to the area dominated.

    Args:
        front: (2, n_point), by falling first and so by rising second merit.
        n: how many to choose, at most ``n_point``.

    >>> _spanning(np.array([[9.0, 8.0, 5.0, 1.0], [1.0, 2.0, 5.0, 9.0]]), 2)
    array([1, 2])
    """
    worst = front.min(axis=1, keepdims=True)
    # The area ends a tenth beyond the worst, as in Optuna, so that the ends of the front have some too.
    floor = np.repeat(np.minimum(0.9 * worst, 1.1 * worst), front.shape[1], axis=1)
    chosen: list[int] = []
    for _ in range(n):
        area = np.prod(front - floor, axis=0)
        area[chosen] = -1.0
        point = int(area.argmax())
        chosen.append(point)
        floor[0, :point] = np.maximum(floor[0, :point], front[0, point])
        floor[1, point + 1 :] = np.maximum(floor[1, point + 1 :], front[1, point])
    return np.sort(chosen)


def thinned(n: int, n_most: int) -> Indices:
    """Choose at most ``n_most`` of ``n`` positions, evenly, the first and the last among them.

    >>> thinned(3, 5), thinned(9, 3)
    (array([0, 1, 2]), array([0, 4, 8]))
    """
    return np.linspace(0, n - 1, min(n, n_most)).round().astype(np.int64)
