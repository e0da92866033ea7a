"""One job, in a process of its own, ``python -m search.job JOB RUNNER``: the runner starts it and hears it."""

from __future__ import annotations

import os
import signal
import sys
import time
import traceback
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from types import FrameType
from typing import Any

from dashboard.words import with_interval
from search.config import SearchSettings
from search.execution import Execution
from search.interruption import Interrupted, stop_on_signal
from search.parenthood import end_with_parent
from search.progress import Progress
from spaces.errors import PrunefrontError
from storage import JobKind, JobRecord, JobState, Store
from storage.remembered import RememberedStudy
from storage.results import estimate_of

__all__ = ["main"]

_SECONDS_BETWEEN_REPORTS = 1.0


def main(arguments: list[str]) -> None:
    """Do a job, and say in its row what came of it."""
    end_with_parent()
    job_id, runner = int(arguments[0]), arguments[1]
    with Store(os.environ["PRUNEFRONT_DB"]) as store, _interrupted_by_signals():
        job = store.jobs.get(job_id)
        do = {
            JobKind.SEARCH: _search,
            JobKind.CONFIRM: _confirm,
            JobKind.PICTURES: _pictures,
            JobKind.ARCHITECTURE: _architecture,
            JobKind.BUNDLE: _bundle,
        }[job.kind]
        try:
            result, files = do(store, job, lambda progress: store.jobs.report(job.id, runner, progress))
        except (Interrupted, KeyboardInterrupt):
            _say("stopped")
            raise SystemExit(130) from None
        except Exception as error:
            _say(traceback.format_exc() if not isinstance(error, PrunefrontError) else str(error))
            why = str(error) if isinstance(error, PrunefrontError) else f"{type(error).__name__}: {error}"
            store.jobs.finish(job.id, runner, JobState.FAILED, error=" ".join(why.split()))
            raise SystemExit(1) from None
        store.jobs.finish(job.id, runner, JobState.DONE, result=result, files=files)


Done = tuple[Mapping[str, Any], Mapping[str, bytes]]
Report = Callable[[Mapping[str, Any]], None]


def _search(store: Store, job: JobRecord, report: Report) -> Done:
    """Begin a study or go on with it. One that was begun by an earlier attempt of the same job is gone on with."""
    from search.study import Study

    db = os.environ["PRUNEFRONT_DB"]
    request, name = job.request, str(job.study)
    if "settings" in request and job.progress is None:
        settings = SearchSettings.parse(_on_this_machine(request["settings"]))
        execution = _execution(settings, request.get("n_workers"))
        study = Study.create(settings, n_trials=request["n_trials"], db=db, say=_say, execution=execution)
        report({"n_finished": 0, "n_trials": request["n_trials"]})  # from here on another attempt goes on with it
    else:
        study = Study.open(name, db=db)
        execution = _execution(study.settings, request.get("n_workers"))
        for change in study.changed_versions():
            _say(f"note: {change} since the study began; float results may differ in their last bits")
    with study, stop_on_signal(_say) as stop_requested:
        _say(f"study {name}: {request['n_trials'] or study.record.n_trials} trials")
        progress = study.run(
            n_trials=request["n_trials"],
            execution=execution,
            on_progress=_Reporter(study.record.metric, report),
            stop_requested=stop_requested,
        )
    _say(
        f"{progress.n_complete} measured on all images, {progress.n_stopped} stopped early, {progress.n_failed} failed"
    )
    return {"n_finished": progress.n_finished}, {}


def _confirm(store: Store, job: JobRecord, report: Report) -> Done:
    """Measure trials on unseen images."""
    from search.study import Study

    with Study.open(str(job.study), db=os.environ["PRUNEFRONT_DB"]) as study:
        confirmed = study.confirm(job.request["trials"], execution=_execution(study.settings, None))
        for trial in confirmed:
            _say(f"trial {trial.number}: {with_interval(estimate_of(trial.confirmation, study.record.metric))}")
    return {"trials": [trial.number for trial in confirmed]}, {}


def _pictures(store: Store, job: JobRecord, report: Report) -> Done:
    """Show what becomes of a layout's tokens on real images."""
    from search.pictures import take_pictures

    study = store.study(str(job.study))
    settings = SearchSettings.parse(study.spec["settings"])
    trial = store.trial(study.id, job.request["trial"])
    return take_pictures(settings, trial.config, job.request["n_images"])


def _architecture(store: Store, job: JobRecord, report: Report) -> Done:
    """Read a model's dimensions, from which costs follow."""
    from pruning.models import load_model

    request = job.request
    loaded = load_model(
        request["name"],
        checkpoint=request["checkpoint"],
        pretrained=request["pretrained"],
        random_weights=True,
        arguments=request["arguments"],
    )
    _say(f"{loaded.name}: {loaded.architecture.depth} blocks, {loaded.architecture.n_patch} patch tokens")
    return {"architecture": loaded.architecture.model_dump(mode="json")}, {}


def _bundle(store: Store, job: JobRecord, report: Report) -> Done:
    """Write a trial with its model into a folder."""
    from search.bundling import export_bundle

    request = job.request
    trial = export_bundle(
        RememberedStudy(store, store.study(str(job.study))),
        request["folder"],
        request["trial"],
        with_weights=request["weights"],
        formats=request["formats"],
    )
    _say(f"trial {trial.number}, {trial.gflops:.4g} GFLOPs, is written to {request['folder']}")
    return {"folder": request["folder"]}, {}


class _Reporter:
    """Says how far a search is, now and then."""

    def __init__(self, metric: str, report: Report) -> None:
        self._metric, self._report = metric, report
        self._started, self._reported = time.monotonic(), 0.0
        self._n_at_start: int | None = None

    def __call__(self, progress: Progress) -> None:
        now = time.monotonic()
        if self._n_at_start is None:
            self._n_at_start = progress.n_finished
        if now - self._reported < _SECONDS_BETWEEN_REPORTS and progress.n_finished < progress.n_trials:
            return
        self._reported = now
        n_done = progress.n_finished - self._n_at_start
        left = None if not n_done else (now - self._started) / n_done * (progress.n_trials - progress.n_finished)
        self._report(
            {
                "n_finished": progress.n_finished,
                "n_trials": progress.n_trials,
                "n_failed": progress.n_failed,
                "spared_share": progress.spared_share,
                "seconds_left": left,
            }
        )


def _execution(settings: SearchSettings, n_workers: int | None) -> Execution:
    """Use Ray's workers; one worker alone needs none, and where latency is timed there is but one."""
    if n_workers == 1 or settings.times_latency:
        return Execution(executor="local")
    return Execution(n_workers=n_workers)


def _on_this_machine(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Settle which device ``auto`` means here."""
    device = settings["device"]
    if device == "auto":
        import torch

        device = "cuda" if torch.cuda.is_available() else "cpu"
    return {**settings, "device": device}


@contextmanager
def _interrupted_by_signals() -> Iterator[None]:
    """Let SIGTERM and Ctrl-C end what is being done as an error would, so that everything is given back."""

    def interrupt(number: int, frame: FrameType | None) -> None:
        raise Interrupted("the job was stopped")

    before = {number: signal.signal(number, interrupt) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _say(line: str) -> None:
    print(line, flush=True)  # noqa: T201  the runner keeps it as the job's log


if __name__ == "__main__":
    main(sys.argv[1:])
