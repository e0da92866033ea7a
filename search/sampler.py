"""Ask Optuna for parameters. The only module that imports Optuna."""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import numpy as np
import optuna
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)
from optuna.samplers import BaseSampler, GPSampler, NSGAIISampler, RandomSampler
from optuna.trial import FrozenTrial
from optuna.trial import TrialState as OptunaState

from search.tpe import Profiles, tpe_over
from spaces import Problem, PrunefrontError
from spaces.domains import Choice, IntRange, Parameter

__all__ = ["Asked", "Sampler", "Told", "distribution", "optuna"]

_Rejected = tuple[Mapping[str, Any], Mapping[str, Any]]  # the draw, and what the sampler keeps about it

_POPULATION = 30
_N_RANDOM_FIRST = 10
_MOST_DRAWS = 1000  # for one trial
_PATIENCE = 20  # draws, after which a sampler that keeps missing the budget makes way for random ones
_BUDGET = "budget"
_REJECTED = "prunefront:rejected"


@dataclass(frozen=True)
class Asked:
    """A draw: its number, its parameters, and what the sampler keeps about it.

    Attributes:
        number: of the trial.
        params: the draw.
        attrs: what the sampler keeps about it, and under ``_REJECTED`` the draws before it that missed the budget.
        n_rejected: how many were.
        settled: the draw as repair left it, from which TPE learns; ``None`` where it has none.
    """

    number: int
    params: Mapping[str, Any]
    attrs: Mapping[str, Any]
    n_rejected: int = 0
    settled: Mapping[str, Any] | None = None


@dataclass(frozen=True)
class Told:
    """What became of a draw.

    Attributes:
        value: the metric; ``None`` where it could not be measured.
        cost: what is minimised on a front: GFLOPs, or where latency is an objective, ms.
        missed_by: by how much it is over the budget, where only measuring told; see ``search.feasibility``.
    """

    value: float | None
    cost: float
    missed_by: float = 0.0


class Sampler:
    """Proposes parameters, and learns from what is told, in the order of the proposals.

    The same seed, and the same things told before each ask, give the same proposals: each ask uses a sampler
    seeded afresh by the study's seed and the trial's number. What a study was told lives in Optuna's memory only,
    and is rebuilt from rows by ``restore``.
    """

    def __init__(
        self,
        kind: str,
        parameters: Sequence[Parameter],
        *,
        seed: int,
        is_front: bool,
        learns_from_rejected: bool = False,
        learns_from_infeasible: bool = False,
        openings: Sequence[Mapping[str, Any]] = (),
        profiles: Profiles | None = None,
    ) -> None:
        """Make a sampler.

        Args:
            kind: one of ``search.config.SAMPLERS``.
            parameters: what to draw.
            seed: of the study.
            is_front: whether cost is an objective beside the metric.
            learns_from_rejected: whether draws that miss the budget are told to it, by how much they miss it.
            learns_from_infeasible: whether it is told likewise of trials that were measured to be over the budget.
            openings: parts of the first draws of TPE; chance decides the rest.
            profiles: describes what draws become, from which TPE predicts how it will do; see ``search.surrogate``.
        """
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        self._kind, self._seed, self._is_front = kind, seed, is_front
        self._learns_from_rejected = learns_from_rejected
        self._learns_from_infeasible = learns_from_infeasible
        self._openings = openings if kind == "tpe" else ()
        self._ours: list[int] = []  # by trial number: Optuna's number for it
        self._distributions = {parameter.name: distribution(parameter) for parameter in parameters}
        self._known = _Known(parameters, is_front=is_front, profiles=profiles)
        maximize, minimize = optuna.study.StudyDirection.MAXIMIZE, optuna.study.StudyDirection.MINIMIZE
        directions = [maximize, minimize] if is_front else [maximize]
        self._study = optuna.create_study(directions=directions, sampler=self._seeded(0))

    @classmethod
    def of(cls, problem: Problem, kind: str, *, seed: int, learns_from_infeasible: bool = False) -> Sampler:
        """Make the sampler of a search; see ``__init__``."""
        return cls(
            kind,
            problem.parameters(),
            seed=seed,
            is_front=problem.is_front,
            learns_from_rejected=problem.budget_by == "constraint",
            learns_from_infeasible=learns_from_infeasible,
            openings=problem.openings(),
            profiles=problem.profiles,
        )

    @property
    def study_attrs(self) -> dict[str, Any]:
        """What the sampler keeps about the study as a whole; NSGA-II its parents."""
        # No public call gives the attributes that samplers set.
        return dict(self._study._storage.get_study_system_attrs(self._study._study_id))

    def restore(
        self, told: Iterable[tuple[Asked, Told]], running: Iterable[Asked], study_attrs: Mapping[str, Any]
    ) -> None:
        """Put a new sampler where another was: after these results, with these draws out.

        Args:
            told: finished draws, from number 0.
            running: the draws behind them whose results were not told.
            study_attrs: as ``study_attrs`` gave them.
        """
        for asked, outcome in told:
            values = self._values(outcome)
            state = OptunaState.FAIL if values is None else OptunaState.COMPLETE
            self._add(asked, state, values, self._constraints(outcome))
        for asked in running:
            self._add(asked, OptunaState.RUNNING, None)
        for key, value in study_attrs.items():
            self._study._storage.set_study_system_attr(self._study._study_id, key, value)

    def ask(self, number: int, excess: Callable[[Mapping[str, Any]], float] = lambda _: 0.0) -> Asked:
        """Draw the parameters of trial ``number``, which must be the next.

        Args:
            number: of the trial.
            excess: gives the GFLOPs by which a draw misses the budget; it is drawn again until that is 0.

        Raises:
            PrunefrontError: no draw meets the budget.
        """
        if number != len(self._ours):
            raise RuntimeError(f"trial {number} was to be drawn, but the sampler stands at {len(self._ours)}")
        rejected: list[_Rejected] = []
        for attempt in range(_MOST_DRAWS):
            self._study.sampler = self._seeded(number, attempt)
            if attempt == 0 and number < len(self._openings):
                self._study.enqueue_trial(dict(self._openings[number]))
            with warnings.catch_warnings():
                # GP is marked experimental; its options are written out and pinned here.
                warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
                trial = self._study.ask(self._distributions)
            missed_by = excess(trial.params)
            if self._learns_from_rejected:
                trial.set_constraint(_BUDGET, missed_by)
            drawn = self._study.get_trials(deepcopy=False)[trial.number]
            if missed_by == 0:
                self._ours.append(trial.number)
                before = {_REJECTED: rejected} if rejected else {}
                return Asked(number, dict(drawn.params), {**drawn.system_attrs, **before}, n_rejected=attempt)
            rejected.append((dict(drawn.params), dict(drawn.system_attrs)))
            if self._learns_from_rejected:
                self._study.tell(trial.number, self._worthless())
            else:
                self._study.tell(trial.number, state=OptunaState.FAIL)
        raise PrunefrontError(
            f"none of {_MOST_DRAWS} draws for trial {number} meets the budget: bring them onto it with "
            "--budget-by repair"
        )

    def settle(self, number: int, params: Mapping[str, Any]) -> None:
        """Say what repair made of the draw of trial ``number``: what TPE shall learn from in its place."""
        self._known.settled[self._ours[number]] = params

    def tell(self, number: int, outcome: Told) -> None:
        """Say what became of trial ``number``; results are told in the order of the proposals."""
        values = self._values(outcome)
        trial_id = self._study.get_trials(deepcopy=False)[self._ours[number]]._trial_id
        for key, constraint in self._constraints(outcome).items():
            self._study._storage.set_trial_system_attr(trial_id, key, constraint)
        if values is None:
            self._study.tell(self._ours[number], state=OptunaState.FAIL)
        else:
            self._study.tell(self._ours[number], values)

    def _constraints(self, outcome: Told) -> dict[str, Any]:
        """Give the attributes by which samplers know that a trial is over the budget, and by how much.

        Optuna sets a constraint through the object that ``ask`` gave, which after a stop there is none of any more.
        """
        if not self._learns_from_infeasible:
            return {}
        bearer = optuna.trial.create_trial(value=0.0)
        bearer.set_constraint(_BUDGET, outcome.missed_by)
        return dict(bearer.system_attrs)

    def _worthless(self) -> list[float]:
        """Give the values of a draw that is not measured; samplers rank it by its excess alone."""
        return [0.0, 0.0] if self._is_front else [0.0]

    def _values(self, outcome: Told) -> list[float] | None:
        if outcome.value is None:
            return None
        return [outcome.value, outcome.cost] if self._is_front else [outcome.value]

    def _add(
        self,
        asked: Asked,
        state: OptunaState,
        values: list[float] | None,
        constraints: Mapping[str, Any] = MappingProxyType({}),
    ) -> None:
        attrs = dict(asked.attrs)
        for params, kept in attrs.pop(_REJECTED, ()):
            # Also where nothing is learnt from them: NSGA-II names its parents by Optuna's numbers.
            if self._learns_from_rejected:
                self._add_trial(params, OptunaState.COMPLETE, self._worthless(), kept)
            else:
                self._add_trial(params, OptunaState.FAIL, None, kept)
        self._ours.append(len(self._study.get_trials(deepcopy=False)))
        if asked.settled is not None:
            self.settle(asked.number, asked.settled)
        self._add_trial(asked.params, state, values, {**attrs, **constraints})

    def _add_trial(
        self, params: Mapping[str, Any], state: OptunaState, values: list[float] | None, attrs: Mapping[str, Any]
    ) -> None:
        self._study.add_trial(
            optuna.trial.create_trial(
                state=state,
                values=values,
                params=dict(params),
                distributions=self._distributions,
                system_attrs=dict(attrs),
            )
        )

    def _seeded(self, number: int, attempt: int = 0) -> BaseSampler:
        again = f":{attempt}" if attempt else ""
        digest = hashlib.sha256(f"{self._seed}:{number}{again}".encode()).digest()
        seed = int.from_bytes(digest[:4], "big")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            return self._make("random" if attempt >= _PATIENCE else self._kind, seed)

    def _make(self, kind: str, seed: int) -> BaseSampler:
        """Make the sampler with every option written out: Optuna's defaults change between versions."""
        if kind == "random":
            return RandomSampler(seed=seed)
        if kind == "nsga2":
            return NSGAIISampler(population_size=_POPULATION, seed=seed)
        if kind == "gp":
            return GPSampler(seed=seed, n_startup_trials=_N_RANDOM_FIRST, deterministic_objective=False)
        return _TPE(self._known, self._distributions, seed=seed)


class _Known:
    """The trials of a study as TPE knows them; outlives the sampler of one draw, so that each is read once."""

    def __init__(self, parameters: Sequence[Parameter], *, is_front: bool, profiles: Profiles | None) -> None:
        self.tpe = tpe_over(parameters, is_front=is_front, profiles=profiles)
        self.settled: dict[int, Mapping[str, Any]] = {}  # by Optuna's number: the draw as repair left it
        self._n_read = 0

    def read(self, trials: Sequence[FrozenTrial]) -> list[Mapping[str, Any]]:
        """Observe what was told since the last time, and give the parameters of the trials that are still out."""
        while self._n_read < len(trials) and trials[self._n_read].state.is_finished():
            trial = trials[self._n_read]
            if trial.state is OptunaState.COMPLETE:
                value, *costs = trial.values
                merits = [value, *(-cost for cost in costs)]
                self.tpe.observe(self._params(trial), merits, sum(trial.constraints.values()))
            self.settled.pop(trial.number, None)
            self._n_read += 1
        # Behind the first that is out lie draws that were rejected; TPE learns of them in the order of all draws.
        return [self._params(trial) for trial in trials[self._n_read :] if not trial.state.is_finished()]

    def _params(self, trial: FrozenTrial) -> Mapping[str, Any]:
        return self.settled.get(trial.number, trial.params)


class _TPE(RandomSampler):
    """TPE in place of Optuna's, which reads and sorts all trials again for each draw; the first are drawn at random."""

    def __init__(self, known: _Known, distributions: dict[str, BaseDistribution], *, seed: int) -> None:
        super().__init__(seed=seed)
        self._known, self._distributions, self._seed = known, distributions, seed

    def infer_relative_search_space(self, study: optuna.Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        return self._distributions

    def sample_relative(
        self, study: optuna.Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        running = self._known.read(study.get_trials(deepcopy=False)[: trial.number])
        if self._known.tpe.n_observed < _N_RANDOM_FIRST:
            return {}
        return self._known.tpe.propose(running, np.random.RandomState(self._seed))


def distribution(parameter: Parameter) -> BaseDistribution:
    """Say in Optuna's terms what a parameter may be."""
    domain = parameter.domain
    if isinstance(domain, Choice):
        return CategoricalDistribution(list(domain.values))
    if isinstance(domain, IntRange):
        return IntDistribution(domain.low, domain.high, log=domain.log)
    return FloatDistribution(domain.low, domain.high, log=domain.log)
