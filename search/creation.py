"""Make a study: load, check and measure everything first, and only then write its row."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from dashboard.words import measurement_line
from objectives.diagnosis import require_dense_top1
from objectives.evaluator import DenseReference
from objectives.images import PreparedImages
from search.calibration import Calibrated, calibrate
from search.config import SearchSettings
from search.execution import Execution
from search.executors import Executor
from search.provenance import provenance
from search.timing import time_dense
from search.workbench import Workbench, load
from spaces import InvalidInput, dense_cost
from storage import MeasurementKind, NewStudy, Store, StudyRecord
from storage.axis import Timing
from storage.database import NoDatabase, require_creatable

__all__ = ["Created", "create"]


@dataclass(frozen=True)
class Created:
    """A new study, and what was loaded, measured and started for it.

    Attributes:
        executor: the workers, if they were asked for.
    """

    store: Store
    record: StudyRecord
    bench: Workbench
    reference: DenseReference
    executor: Executor | None


def create(
    settings: SearchSettings, n_trials: int, db: str, say: Callable[[str], None], execution: Execution | None = None
) -> Created:
    """Check everything a search needs, and remember it as a new study; see ``search.Study.create``."""
    if n_trials < 1:
        raise InvalidInput(f"at least one trial must be asked for, got {n_trials}")
    _require_free_name(db, settings.study)
    if execution is not None:
        execution.require_suits(settings)
    settings = settings.settled()
    bench = load(settings)
    for line in bench.findings():
        say(line)
    # The workers come up while this process measures.
    executor = None if execution is None else bench.start(execution, say)
    try:
        calibrated, timing = _calibrated(bench, say)
        store, record = _written(calibrated, timing, n_trials, db)
    except BaseException:
        if executor is not None:
            executor.close()
        raise
    return Created(store, record, calibrated.bench, calibrated.reference, executor)


def _calibrated(bench: Workbench, say: Callable[[str], None]) -> tuple[Calibrated, Timing | None]:
    """Settle what is left open, refuse a dense model that does not do what it should, and time it if need be."""
    settings, calibrated = bench.settings, calibrate(bench, say)
    images, dense, logits = bench.search_images, calibrated.dense, calibrated.reference.logits
    if isinstance(images, PreparedImages):
        require_dense_top1(dense, settings.expect_top1, loaded=bench.loaded, images=images, logits=logits)
    dense, timing = time_dense(calibrated.bench, dense, say)
    say(f"dense model: {measurement_line(dense, settings.metric)}")
    return replace(calibrated, dense=dense), timing


def _written(calibrated: Calibrated, timing: Timing | None, n_trials: int, db: str) -> tuple[Store, StudyRecord]:
    new = _new_study(calibrated.bench, n_trials, timing)
    store = Store(db, create=True)
    record = store.create_study(new)
    store.add_measurement(record.id, None, MeasurementKind.SEARCH, calibrated.dense)
    return store, record


def _new_study(bench: Workbench, n_trials: int, timing: Timing | None) -> NewStudy:
    settings, budget = bench.settings, bench.problem.budget
    confirm_images = bench.confirm_images
    return NewStudy(
        name=settings.study,
        model=settings.model.name,
        data=settings.data.data,
        method=bench.problem.space.method,
        sampler=settings.sampler,
        metric=settings.metric,
        seed=settings.seed,
        look_ahead=settings.settled_look_ahead,
        n_trials=n_trials,
        budget_low_gflops=budget.low_gflops,
        budget_high_gflops=budget.high_gflops,
        dense_gflops=dense_cost(bench.architecture).gflops,
        spec={
            "settings": settings.model_dump(mode="json"),
            "architecture": bench.architecture.model_dump(mode="json"),
            **({} if timing is None else {"timing": timing.to_spec()}),
        },
        provenance=provenance(
            bench.loaded.weights_digest,
            bench.search_images.list_hash,
            None if confirm_images is None else confirm_images.list_hash,
        ),
    )


def _require_free_name(db: str, name: str) -> None:
    """Refuse a taken name, or a database that cannot be used, before minutes are spent on loading."""
    try:
        with Store(db) as store:
            if name in (study.name for study in store.studies()):
                raise store.taken(name)
    except NoDatabase:
        require_creatable(db)
