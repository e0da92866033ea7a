"""A study as it is remembered: everything that can be asked of it without model or images."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from objectives.comparison import Comparison, compare_on
from objectives.metrics import METRICS, Measurement
from spaces import Architecture, Budget, InvalidInput
from storage.axis import axis_of, overrun_line, timing_of
from storage.export import layout_of, write_layout
from storage.records import MeasurementKind, StudyRecord, StudyState, TrialRecord, TrialState
from storage.results import best_of, front_of, fronts_of
from storage.store import Store

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["DEFAULT_DB", "DENSE", "RememberedStudy", "describe", "state_of"]

DEFAULT_DB = "sqlite:///prunefront.db"
DENSE = "dense"


class RememberedStudy:
    """One study's rows, read anew each time they are asked for."""

    def __init__(self, store: Store, record: StudyRecord) -> None:
        self._store = store
        self._name, self._id = record.name, record.id

    @classmethod
    def find(cls, name: str, *, db: str = DEFAULT_DB) -> RememberedStudy:
        """Find a study.

        Raises:
            InvalidInput: there is none of that name, or no database.
            DatabaseError: the database cannot be used.
        """
        store = Store(db)
        return RememberedStudy(store, store.study(name))

    def close(self) -> None:
        """Close the database."""
        self._store.close()

    @property
    def record(self) -> StudyRecord:
        """The study as it is remembered now."""
        return self._store.study(self._name)

    @property
    def architecture(self) -> Architecture:
        """The model's dimensions."""
        return Architecture.model_validate(self.record.spec["architecture"])

    def trials(self) -> list[TrialRecord]:
        """List all trials in the order in which they were proposed."""
        return self._store.trials(self._id)

    def trial(self, number: int) -> TrialRecord:
        """Find one trial. Raises InvalidInput if there is none of that number."""
        return self._store.trial(self._id, number)

    def dense(self, kind: MeasurementKind = MeasurementKind.SEARCH) -> Measurement | None:
        """Give the dense model's measurement on the search or the confirm images."""
        return self._store.dense(self._id, kind)

    def front(self) -> list[TrialRecord]:
        """Find the trials that none other beats at no greater cost, by rising cost."""
        return front_of(self.record, self.trials())

    def fronts(self) -> dict[str, list[TrialRecord]]:
        """Find each method's own front, by rising cost."""
        return fronts_of(self.record, self.trials())

    def best(self, budget: str | None = None) -> TrialRecord:
        """Find the trial with the highest metric on the search images, under a further budget if one is given.

        Raises:
            InvalidInput: no trial is that cheap, or none is complete.
        """
        record = self.record
        limit = None if budget is None else _limit(budget, record.dense_gflops)
        found = best_of(record, self.trials(), limit)
        if found is None:
            under = "" if limit is None else f" within {limit:.4g} GFLOPs"
            n_over = self._store.count_trials(self._id).get(TrialState.INFEASIBLE, 0)
            over = f"; {n_over} were measured to be over the budget" if n_over else ""
            raise InvalidInput(f"the study {record.name!r} has no complete trial{under} yet{over}")
        return found

    def measurement(self, which: int | str, kind: MeasurementKind) -> Measurement | None:
        """Give what was measured of a trial, or of the ``dense`` model, on all of the search or the confirm images."""
        if which == DENSE:
            return self.dense(kind)
        trial = self.trial(int(which))
        if trial.state is not TrialState.COMPLETE:
            return None
        return trial.measurement if kind is MeasurementKind.SEARCH else trial.confirmation

    def n_kept(self, number: int, kind: MeasurementKind = MeasurementKind.SEARCH) -> NDArray[np.int64] | None:
        """Give how many patches each layer of a trial kept of each image; ``None`` where no image decides that."""
        return self._store.n_kept(self._id, number, kind)

    def compare(
        self, first: int | str, second: int | str, *, other: RememberedStudy | None = None
    ) -> tuple[Comparison, MeasurementKind]:
        """Compare two trials, or one with the dense model, image by image.

        The confirm images are used where both were confirmed, else the search images.

        Args:
            first: a trial's number, or ``dense``.
            second: likewise.
            other: the study of the second, if it is another.

        Raises:
            InvalidInput: one of them is not complete, or they were not measured on the same images.
        """
        other = other or self
        metric = METRICS[self.record.metric].name
        for kind in (MeasurementKind.CONFIRM, MeasurementKind.SEARCH):
            one, two = self.measurement(first, kind), other.measurement(second, kind)
            if one is None or two is None or one.image_list_hash != two.image_list_hash:
                continue
            if metric in one.outcomes and metric in two.outcomes:
                return compare_on(self.record.metric, one, two), kind
        raise InvalidInput(
            f"{first} and {second} cannot be compared: both must be complete, and measured on the same images"
        )

    def chosen(self, number: int | None = None, *, budget: str | None = None) -> TrialRecord:
        """Find a trial by its number, or the best one, within this budget if one is given.

        Raises:
            InvalidInput: there is no such trial.
        """
        return self.best(budget) if number is None else self.trial(number)

    def export(self, path: str | Path, number: int | None = None, *, budget: str | None = None) -> TrialRecord:
        """Write a trial's layout to a JSON or YAML file that ``pruning.prune`` reads.

        ``search.bundling.export_bundle`` writes it with the model.

        Args:
            path: the file.
            number: the trial; the best one if ``None``.
            budget: the best one within this budget.

        Raises:
            InvalidInput: there is no such trial, it was stopped before it had seen all images, or it is over the
                budget.
        """
        trial = self.chosen(number, budget=budget)
        write_layout(self.layout(trial), Path(path))
        return trial

    def layout(self, trial: TrialRecord) -> dict[str, Any]:
        """Make the document of a trial's layout; see ``storage.export.layout_of``.

        Raises:
            InvalidInput: it was stopped before it had seen all images, or it is over the budget.
        """
        if trial.state is TrialState.INFEASIBLE:
            raise InvalidInput(
                f"trial {trial.number} {overrun_line(self.record, trial)}: export another, or search under a higher "
                "budget"
            )
        if trial.state is TrialState.STOPPED:
            raise InvalidInput(
                f"trial {trial.number} was stopped after {trial.measurement and trial.measurement.n_images} images, "
                f"when it had lost against trial {trial.rival}: export that one, or search again with --no-race"
            )
        return layout_of(self.record, trial, {kind: self.dense(kind) for kind in MeasurementKind})

    def trials_dataframe(self) -> pd.DataFrame:
        """Make a pandas table of all trials: state, cost, metrics with intervals, and the layout's settings."""
        from storage.table import dataframe_of  # pandas takes half a second to import

        return dataframe_of(self.trials())

    def describe(self) -> dict[str, Any]:
        """Give the study's state for programs: settings that matter, counts of trials, the best so far."""
        record = self.record
        best = best_of(record, self.trials())
        return describe(record, self._store.count_trials(self._id), None if best is None else best.number)


def describe(record: StudyRecord, counts: Mapping[TrialState, int], best: int | None) -> dict[str, Any]:
    """Give a study's state for programs: settings that matter, counts of trials, the best one's number."""
    timing = timing_of(record)
    return {
        "name": record.name,
        "state": state_of(record),
        "driver": record.owner,
        "error": record.error,
        "model": record.model,
        "data": record.data,
        "method": record.method,
        "sampler": record.sampler,
        "metric": record.metric,
        "seed": record.seed,
        "budget_gflops": [record.budget_low_gflops, record.budget_high_gflops],
        "dense_gflops": record.dense_gflops,
        "cost": axis_of(record).cost,
        "timing": None if timing is None else timing.to_spec(),
        "created_at": record.created_at.isoformat(),
        "n_trials": record.n_trials,
        "trials": {state.value: count for state, count in counts.items()},
        "best": best,
    }


def state_of(record: StudyRecord) -> str:
    """Name the state; a study that says running without a living driver was cut off."""
    if record.state is StudyState.RUNNING and record.owner is None:
        return StudyState.INTERRUPTED.value
    return record.state.value


def _limit(text: str, dense_gflops: float) -> float:
    budget = Budget.parse(text, dense_gflops)
    if budget.is_range:
        raise InvalidInput(f"the best layout is asked for within one budget, such as 3.0 or 65%, got {text!r}")
    return budget.high_gflops
