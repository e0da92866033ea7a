"""Ask Optuna for parameters. The only module that imports Optuna."""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import optuna
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)
from optuna.samplers import BaseSampler, GPSampler, NSGAIISampler, RandomSampler, TPESampler
from optuna.trial import TrialState as OptunaState

from spaces.domains import Choice, IntRange, Parameter

__all__ = ["Asked", "Sampler", "Told"]

_POPULATION = 30
_N_RANDOM_FIRST = 10


@dataclass(frozen=True)
class Asked:
    """A draw: its number, its parameters, and what the sampler keeps about it."""

    number: int
    params: Mapping[str, Any]
    attrs: Mapping[str, Any]


@dataclass(frozen=True)
class Told:
    """What became of a draw: the metric and its cost, or ``None`` where it could not be measured."""

    value: float | None
    gflops: float


class Sampler:
    """Proposes parameters, and learns from what is told, in the order of the proposals.

    The same seed, and the same things told before each ask, give the same proposals: each ask uses a sampler
    seeded afresh by the study's seed and the trial's number. What a study was told lives in Optuna's memory only,
    and is rebuilt from rows by ``restore``.
    """

    def __init__(self, kind: str, parameters: Sequence[Parameter], *, seed: int, is_front: bool) -> None:
        """Make a sampler.

        Args:
            kind: one of ``search.config.SAMPLERS``.
            parameters: what to draw.
            seed: of the study.
            is_front: whether cost is an objective beside the metric.
        """
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        self._kind, self._seed, self._is_front = kind, seed, is_front
        self._distributions = {parameter.name: _distribution(parameter) for parameter in parameters}
        maximize, minimize = optuna.study.StudyDirection.MAXIMIZE, optuna.study.StudyDirection.MINIMIZE
        directions = [maximize, minimize] if is_front else [maximize]
        self._study = optuna.create_study(directions=directions, sampler=self._seeded(0))

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
            self._add(asked, state, values)
        for asked in running:
            self._add(asked, OptunaState.RUNNING, None)
        for key, value in study_attrs.items():
            self._study._storage.set_study_system_attr(self._study._study_id, key, value)

    def ask(self, number: int) -> Asked:
        """Draw the parameters of trial ``number``, which must be the next."""
        self._study.sampler = self._seeded(number)
        with warnings.catch_warnings():
            # GP and multivariate TPE are marked experimental; their options are written out and pinned here.
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            trial = self._study.ask(self._distributions)
        if trial.number != number:
            raise RuntimeError(f"trial {number} was to be drawn, but the sampler stands at {trial.number}")
        drawn = self._study.get_trials(deepcopy=False)[number]
        return Asked(number, dict(drawn.params), dict(drawn.system_attrs))

    def tell(self, number: int, outcome: Told) -> None:
        """Say what became of trial ``number``; results are told in the order of the proposals."""
        values = self._values(outcome)
        if values is None:
            self._study.tell(number, state=OptunaState.FAIL)
        else:
            self._study.tell(number, values)

    def _values(self, outcome: Told) -> list[float] | None:
        if outcome.value is None:
            return None
        return [outcome.value, outcome.gflops] if self._is_front else [outcome.value]

    def _add(self, asked: Asked, state: OptunaState, values: list[float] | None) -> None:
        self._study.add_trial(
            optuna.trial.create_trial(
                state=state,
                values=values,
                params=dict(asked.params),
                distributions=self._distributions,
                system_attrs=dict(asked.attrs),
            )
        )

    def _seeded(self, number: int) -> BaseSampler:
        digest = hashlib.sha256(f"{self._seed}:{number}".encode()).digest()
        seed = int.from_bytes(digest[:4], "big")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            return self._make(seed)

    def _make(self, seed: int) -> BaseSampler:
        """Make the sampler with every option written out: Optuna's defaults change between versions."""
        if self._kind == "random":
            return RandomSampler(seed=seed)
        if self._kind == "nsga2":
            return NSGAIISampler(population_size=_POPULATION, seed=seed)
        if self._kind == "gp":
            return GPSampler(seed=seed, n_startup_trials=_N_RANDOM_FIRST, deterministic_objective=False)
        return _TPE(
            self._distributions,
            seed=seed,
            n_startup_trials=_N_RANDOM_FIRST,
            n_ei_candidates=24,
            # For one budget the parameters of a layout are modelled together; for a front, each alone did better.
            multivariate=not self._is_front,
            group=False,
            constant_liar=True,
        )


class _TPE(TPESampler):
    """TPE that is told its search space.

    Optuna intersects the parameters of all trials to find it, anew for each sampler, which takes longer than the draw.
    """

    def __init__(self, distributions: Mapping[str, BaseDistribution], **options: Any) -> None:
        super().__init__(**options)
        together = distributions if options["multivariate"] else {}
        self._drawn_together = {name: each for name, each in sorted(together.items()) if not each.single()}

    def infer_relative_search_space(
        self, study: optuna.Study, trial: optuna.trial.FrozenTrial
    ) -> dict[str, BaseDistribution]:
        return self._drawn_together


def _distribution(parameter: Parameter) -> BaseDistribution:
    domain = parameter.domain
    if isinstance(domain, Choice):
        return CategoricalDistribution(list(domain.values))
    if isinstance(domain, IntRange):
        return IntDistribution(domain.low, domain.high, log=domain.log)
    return FloatDistribution(domain.low, domain.high, log=domain.log)
