"""Make a study: load, check and measure everything first, and only then write its row."""

from __future__ import annotations

from collections.abc import Callable

from dashboard.words import measurement_line
from objectives.diagnosis import require_dense_top1
from objectives.evaluator import DenseReference
from objectives.images import PreparedImages
from search.calibration import calibrate
from search.config import SearchSettings
from search.provenance import provenance
from search.workbench import Workbench, load
from spaces import InvalidInput, dense_cost
from storage import MeasurementKind, NewStudy, Store, StudyRecord
from storage.database import NoDatabase, require_creatable

__all__ = ["create"]


def create(
    settings: SearchSettings, n_trials: int, db: str, say: Callable[[str], None]
) -> tuple[Store, StudyRecord, Workbench, DenseReference]:
    """Check everything a search needs, and remember it as a new study; see ``search.Study.create``."""
    if n_trials < 1:
        raise InvalidInput(f"at least one trial must be asked for, got {n_trials}")
    _require_free_name(db, settings.study)
    settings = settings.settled()
    bench = load(settings)
    for line in bench.findings():
        say(line)
    calibrated = calibrate(bench, say)
    bench, dense, reference = calibrated.bench, calibrated.dense, calibrated.reference
    if isinstance(bench.search_images, PreparedImages):
        require_dense_top1(
            dense, settings.expect_top1, loaded=bench.loaded, images=bench.search_images, logits=reference.logits
        )
    say(f"dense model: {measurement_line(dense, settings.metric)}")
    new = _new_study(bench, n_trials)
    store = Store(db, create=True)
    record = store.create_study(new)
    store.add_measurement(record.id, None, MeasurementKind.SEARCH, dense)
    return store, record, bench, reference


def _new_study(bench: Workbench, n_trials: int) -> NewStudy:
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
