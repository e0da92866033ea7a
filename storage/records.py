"""What the store remembers, as plain records. No SQL here."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any

from objectives.metrics import Measurement

__all__ = [
    "MeasurementKind",
    "MeasurementRecord",
    "NewStudy",
    "NewTrial",
    "Provenance",
    "StudyRecord",
    "StudyState",
    "TrialRecord",
    "TrialState",
]


class StudyState(StrEnum):
    """The life of a study.

    CREATED -> RUNNING -> FINISHED, or INTERRUPTED by a person or a lost driver, or FAILED; from any of the last
    three ``resume`` leads back to RUNNING.
    """

    CREATED = "created"
    RUNNING = "running"
    FINISHED = "finished"
    INTERRUPTED = "interrupted"
    FAILED = "failed"


class TrialState(StrEnum):
    """The life of a trial.

    WAITING (proposed) -> RUNNING (a worker has it) -> COMPLETE (measured on all images, or known from an equal
    candidate), INFEASIBLE (likewise, but what it costs, which only measuring told, is over the budget), STOPPED (it
    lost its race before it had seen them all) or FAILED (with its reason). A trial whose driver is gone goes back to
    WAITING.
    """

    WAITING = "waiting"
    RUNNING = "running"
    COMPLETE = "complete"
    INFEASIBLE = "infeasible"
    STOPPED = "stopped"
    FAILED = "failed"

    @property
    def is_finished(self) -> bool:
        """Whether nothing more will happen to the trial."""
        return self not in (TrialState.WAITING, TrialState.RUNNING)


class MeasurementKind(StrEnum):
    """Which images a measurement saw: those of the search, or those kept from it."""

    SEARCH = "search"
    CONFIRM = "confirm"


@dataclass(frozen=True)
class Provenance:
    """Where a study's numbers come from.

    Attributes:
        weights_digest: names the model's weights.
        search_list_hash: names the search images.
        confirm_list_hash: names the confirm images; ``None`` where there are none.
        command_line: what started the study.
        host: the driver's machine.
        versions: of Python and the packages that decide a result.
    """

    weights_digest: str
    search_list_hash: str
    confirm_list_hash: str | None
    command_line: str
    host: str
    versions: Mapping[str, str]


@dataclass(frozen=True)
class NewStudy:
    """A study as it is created.

    Attributes:
        name: unique in its database.
        model: as it was asked for.
        data: as it was asked for.
        method: of the space; several are joined by ``+``.
        sampler: its name.
        metric: what is maximised, a key of ``objectives.metrics.METRICS``.
        seed: decides every proposal.
        look_ahead: proposals made before the first result is told; decides every proposal too.
        n_trials: trials asked for so far.
        budget_low_gflops: where a front begins; ``None`` for one best layout.
        budget_high_gflops: what no evaluated layout exceeds.
        dense_gflops: of the model with nothing pruned.
        spec: everything else that is needed to resume: the search's settings, space and architecture.
        provenance: where the numbers come from.
    """

    name: str
    model: str
    data: str
    method: str
    sampler: str
    metric: str
    seed: int
    look_ahead: int
    n_trials: int
    budget_low_gflops: float | None
    budget_high_gflops: float
    dense_gflops: float
    spec: Mapping[str, Any]
    provenance: Provenance

    @property
    def methods(self) -> tuple[str, ...]:
        """The methods searched."""
        return tuple(self.method.split("+"))


@dataclass(frozen=True)
class StudyRecord(NewStudy):
    """A study as it is remembered.

    Attributes:
        id: its row.
        state: where it is in its life.
        created_at: UTC.
        sampler_attrs: what the sampler keeps about the study as a whole.
        error: why it failed.
        owner: the driver that holds the study, ``None`` if no lease lives.
    """

    id: int
    state: StudyState
    created_at: datetime
    sampler_attrs: Mapping[str, Any]
    error: str | None
    owner: str | None


@dataclass(frozen=True)
class NewTrial:
    """A trial as it is proposed.

    Attributes:
        number: from 0, without gaps, in the order of proposals.
        method: of its layout.
        digest: names its layout by effect.
        config: its layout.
        params: the sampler's draw.
        gflops: closed form, overhead included. Where the images decide what a layout costs: the most that an image
            can, and once it was measured, the mean over the images measured.
        overhead_gflops: the method's share of it.
        drawn_gflops: what the draw would have cost before it was brought onto the budget.
        sampler_attrs: what the sampler keeps about the trial.
        n_rejected: draws before it that were over the budget and were drawn again.
        duplicate_of: the earlier trial with the same digest, whose measurement it shares.
    """

    number: int
    method: str
    digest: str
    config: Mapping[str, Any]
    params: Mapping[str, Any]
    gflops: float
    overhead_gflops: float
    drawn_gflops: float
    sampler_attrs: Mapping[str, Any] = field(default_factory=dict)
    n_rejected: int = 0
    duplicate_of: int | None = None


@dataclass(frozen=True)
class TrialRecord(NewTrial):
    """A trial as it is remembered.

    Attributes:
        state: where it is in its life.
        measurement: on the search images, once it is complete or infeasible; on the first of them, if it was stopped;
            an equal earlier trial's for a duplicate.
        confirmation: on the confirm images, if it was confirmed.
        rival: the trial against which it lost its race, if it was stopped.
        worker: who measured it.
        attempts: how often it was started.
        created_at: UTC, when it was proposed.
        started_at: UTC.
        finished_at: UTC.
        error: why it failed, one line.
        traceback: the whole story.
    """

    state: TrialState = TrialState.WAITING
    measurement: Measurement | None = None
    confirmation: Measurement | None = None
    rival: int | None = None
    worker: str | None = None
    attempts: int = 0
    created_at: datetime | None = None
    started_at: datetime | None = None
    finished_at: datetime | None = None
    error: str | None = None
    traceback: str | None = field(default=None, repr=False)


@dataclass(frozen=True)
class MeasurementRecord:
    """A measurement with what it is of: trial ``number``, or the dense model where that is ``None``."""

    number: int | None
    kind: MeasurementKind
    measurement: Measurement
