"""Jobs as plain records. No SQL here."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any

__all__ = ["JobKind", "JobRecord", "JobState"]


class JobKind(StrEnum):
    """What a job does.

    SEARCH begins a study or goes on with it, CONFIRM measures trials on unseen images, PICTURES shows what becomes of
    a layout's tokens on real images, ARCHITECTURE reads a model's dimensions, BUNDLE writes a layout with its model.
    """

    SEARCH = "search"
    CONFIRM = "confirm"
    PICTURES = "pictures"
    ARCHITECTURE = "architecture"
    BUNDLE = "bundle"

    @property
    def drives_study(self) -> bool:
        """Whether it measures for a study: such jobs take all of the machine, and go one after another."""
        return self in (JobKind.SEARCH, JobKind.CONFIRM)


class JobState(StrEnum):
    """The life of a job.

    QUEUED -> RUNNING -> DONE, FAILED (with its reason) or CANCELLED by a person. A job whose runner is gone, or was
    stopped, goes back to QUEUED.
    """

    QUEUED = "queued"
    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"
    CANCELLED = "cancelled"

    @property
    def is_over(self) -> bool:
        """Whether nothing more will happen to the job."""
        return self not in (JobState.QUEUED, JobState.RUNNING)


@dataclass(frozen=True)
class JobRecord:
    """A job as it is remembered.

    Attributes:
        id: its row.
        kind: what it does.
        state: where it is in its life.
        study: the study that it is about; ``None`` for none.
        request: what was asked for, as plain values.
        progress: how far it is, as its kind tells it.
        result: what came of it, as its kind tells it.
        error: why it failed.
        is_cancelling: whether a person asked it to stop.
        attempts: how often a runner took it.
        runner: who has it.
        created_at: UTC.
        started_at: UTC.
        finished_at: UTC.
    """

    id: int
    kind: JobKind
    state: JobState
    study: str | None
    request: Mapping[str, Any]
    progress: Mapping[str, Any] | None
    result: Mapping[str, Any] | None
    error: str | None
    is_cancelling: bool
    attempts: int
    runner: str | None
    created_at: datetime
    started_at: datetime | None
    finished_at: datetime | None
