"""What pages and API have in common: where questions about studies are answered, and where jobs are asked for."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from typing import Any

from dashboard.asking import BudgetQuestion, Bundling, Confirming, Launch, Pictures, Resuming
from dashboard.roots import Roots
from dashboard.snapshot import StudySnapshot
from spaces import Architecture, Budget, InvalidInput, Problem, PrunefrontError, dense_cost, parse_space
from spaces.methods import method_names
from storage import JobKind, JobRecord, JobState, Store, StudyRecord, TrialRecord, TrialState
from storage.remembered import RememberedStudy, describe

__all__ = ["Desk"]

_N_ARCHITECTURES = 500


class Desk:
    """One store, seen by everybody who looks at the dashboard."""

    def __init__(self, store: Store, roots: Roots | None = None, *, max_queued: int = 32) -> None:
        """Take the store, the folders that jobs may use, and how many jobs may wait."""
        self.store, self.roots, self.max_queued = store, roots or Roots(), max_queued
        self._snapshots: dict[int, StudySnapshot] = {}
        self._lock = threading.Lock()

    # Looking

    def study(self, name: str) -> RememberedStudy:
        """Find a study. Raises NotThere if there is none of that name."""
        return RememberedStudy(self.store, self.store.study(name))

    def snapshot(self, name: str | StudyRecord) -> StudySnapshot:
        """Give all points of a study as they are now. Raises NotThere if there is none of that name."""
        study = self.store.study(name) if isinstance(name, str) else name
        with self._lock:
            snapshot = self._snapshots.setdefault(study.id, StudySnapshot(self.store, study))
        snapshot.refresh()
        return snapshot

    def front(self, snapshot: StudySnapshot) -> list[TrialRecord]:
        """Read the trials on a study's front, by rising cost."""
        return self.store.browse.trials(snapshot.study.id, [point.number for point in snapshot.front])

    def describe(self, study: StudyRecord) -> dict[str, Any]:
        """Give a study's state for programs."""
        snapshot = self.snapshot(study)
        counts = {state: count for state, count in snapshot.counts.items() if count}
        return describe(snapshot.study, counts, None if snapshot.best is None else snapshot.best.number)

    def job_of(self, study: str, *kinds: JobKind) -> JobRecord | None:
        """Find the newest job of a study, of these kinds or of those that drive it."""
        wanted = kinds or [kind for kind in JobKind if kind.drives_study]
        found, _ = self.store.jobs.page(study=study, kinds=wanted, limit=1)
        return found[0] if found else None

    def job_of_trial(self, study: str, number: int, kind: JobKind) -> JobRecord | None:
        """Find the newest job of a kind that is about one trial: its pictures, or its bundle."""
        found, _ = self.store.jobs.page(study=study, kinds=[kind], limit=1000)
        return next((job for job in found if job.request["trial"] == number), None)

    # Asking

    def launch(self, values: Mapping[str, Any]) -> JobRecord:
        """Ask for a search.

        Raises:
            InvalidInput: something in it does not fit, or there is or will be a study of that name.
            QueueFull: too many jobs wait.
        """
        launch = Launch.parse(values)
        request = launch.job(self.roots)
        if any(launch.study == study.name for study in self.store.studies()):
            raise InvalidInput(f"there is a study {launch.study!r} already: go on with it, or choose another name")
        return self._ask(JobKind.SEARCH, launch.study, request)

    def resume(self, name: str, values: Mapping[str, Any]) -> JobRecord:
        """Ask for a study to be gone on with.

        Raises:
            InvalidInput: something drives it already.
        """
        record = self.store.study(name)
        resuming = Resuming.parse(values)
        if record.owner is not None:
            raise InvalidInput(f"the study {name!r} is being driven by {record.owner}: it need not be gone on with")
        return self._ask(JobKind.SEARCH, name, resuming.model_dump())

    def confirm(self, name: str, values: Mapping[str, Any]) -> JobRecord:
        """Ask for trials to be measured on unseen images.

        Raises:
            InvalidInput: a trial is not complete, or the study keeps no such images.
        """
        confirming = Confirming.parse(values)
        record = self.store.study(name)
        if record.provenance.confirm_list_hash is None:
            raise InvalidInput(f"the study {name!r} keeps no images to confirm on")
        for number in confirming.trials or []:
            if self.store.trial(record.id, number).state is not TrialState.COMPLETE:
                raise InvalidInput(f"only complete trials can be confirmed, and trial {number} is not")
        return self._ask(JobKind.CONFIRM, name, confirming.model_dump())

    def ask_for_pictures(self, name: str, number: int, values: Mapping[str, Any]) -> JobRecord:
        """Ask for what becomes of a trial's tokens; what was made or is being made already is given at once."""
        pictures = Pictures.parse(values)
        self.store.trial(self.store.study(name).id, number)
        made = self.job_of_trial(name, number, JobKind.PICTURES)
        request = {"trial": number, **pictures.model_dump()}
        if made is not None and made.request == request and made.state not in (JobState.FAILED, JobState.CANCELLED):
            return made
        return self._ask(JobKind.PICTURES, name, request)

    def ask_for_bundle(self, name: str, number: int, values: Mapping[str, Any]) -> JobRecord:
        """Ask for a trial to be written with its model, into a folder named after both; see ``search.bundling``.

        What is being written already is given at once. A bundle that was written before is written anew.

        Raises:
            InvalidInput: the trial has no layout to export, or there is no folder for bundles.
        """
        bundling = Bundling.parse(values)
        study = self.study(name)
        study.layout(study.trial(number))
        folder = self.roots.output_path(f"{name}-trial-{number}")
        request = {"trial": number, "folder": folder, **bundling.model_dump()}
        asked = self.job_of_trial(name, number, JobKind.BUNDLE)
        if asked is not None and asked.request == request and not asked.state.is_over:
            return asked
        return self._ask(JobKind.BUNDLE, name, request)

    def cancel(self, job_id: int) -> JobRecord:
        """Ask for a job to be stopped, or take it out of the queue."""
        return self.store.jobs.cancel(job_id)

    def _ask(self, kind: JobKind, study: str | None, request: Mapping[str, Any]) -> JobRecord:
        return self.store.jobs.add(kind, study, request, max_queued=self.max_queued)

    # Budgets

    def budget_range(self, values: Mapping[str, Any]) -> dict[str, Any]:
        """Say what layouts can cost on a model, and whether a budget is satisfiable.

        A model that no study and no earlier job has read is read by a job; ask again when that is done.

        Args:
            values: of a ``BudgetQuestion``.

        Returns:
            ``state`` is ``known``, ``reading`` or ``failed``. If it is known: ``dense_gflops``, ``least_gflops`` and
            ``most_gflops``; and for a budget its ends, whether it ``is_satisfiable``, and else why not.

        Raises:
            InvalidInput: the values do not fit.
        """
        question = BudgetQuestion.parse(values)
        found = self._architecture(question.model_settings(self.roots))
        if isinstance(found, JobRecord):
            if found.state in (JobState.FAILED, JobState.CANCELLED):
                return {"state": "failed", "job": found.id, "error": found.error or "reading the model was cancelled"}
            return {"state": "reading", "job": found.id}
        return {"state": "known", "dense_gflops": dense_cost(found).gflops, **_range_on(found, question)}

    def _architecture(self, model: dict[str, Any]) -> Architecture | JobRecord:
        """Give the dimensions of a model, or the job that reads or could not read them."""
        names = ("name", "checkpoint", "arguments")
        wanted = [model[name] for name in names]
        for study in self.store.studies():
            of_study = study.spec["settings"].get("model")
            if isinstance(of_study, dict) and [of_study.get(name) for name in names] == wanted:
                return Architecture.model_validate(study.spec["architecture"])
        jobs, _ = self.store.jobs.page(kinds=[JobKind.ARCHITECTURE], limit=_N_ARCHITECTURES)
        job = next((job for job in jobs if [job.request.get(name) for name in names] == wanted), None)
        if job is None:
            return self._ask(JobKind.ARCHITECTURE, None, model)
        return job if job.result is None else Architecture.model_validate(job.result["architecture"])


def _range_on(architecture: Architecture, question: BudgetQuestion) -> dict[str, Any]:
    methods = method_names(question.method)
    space = parse_space(methods, question.preset, question.settings_of_space)
    budget = Budget.parse(question.budget or "100%", dense_cost(architecture).gflops)
    problem = Problem(space, architecture, budget)
    least, most = problem.cost_range()
    found: dict[str, Any] = {"least_gflops": least, "most_gflops": most, "methods": list(methods)}
    if question.budget:
        found |= {"budget_gflops": [budget.low_gflops, budget.high_gflops], "is_satisfiable": True, "left_out": []}
        try:
            found["left_out"] = list(problem.without_misfits()[1])
        except PrunefrontError as error:
            found |= {"is_satisfiable": False, "why": str(error)}
    return found
