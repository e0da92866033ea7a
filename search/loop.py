"""The loop: ask, record, measure, record, tell; the same trials for any number of workers.

``look_ahead`` proposals are out before any result is told. From then on each proposal is made after exactly one
further result was told, in the order of the proposals, however fast the workers were. So proposal n has always
seen the results of trials 0 to n - look_ahead, and no others: that alone decides it, before a crash and after.
"""

from __future__ import annotations

import heapq
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

from objectives.metrics import Measurement
from search.executors import Executor, Outcome
from search.feasibility import cost_told, overrun
from search.interruption import Interrupted
from search.progress import Audience, Progress
from search.racing import Rivals
from search.sampler import Asked, Sampler, Told
from spaces import Problem, PrunefrontError, PruningConfig, parse_layout
from storage import NewTrial, Store, StudyRecord, TrialRecord
from storage.axis import timing_of
from storage.results import estimate_of

__all__ = ["SearchLoop"]

_WAIT_S = 0.5
_MAX_FAILURES_IN_A_ROW = 20
_EXACT = 1e-12  # GFLOPs; far below one multiply-add


class SearchLoop:
    """Drives one study. Owns what is known of its trials while it runs; rows are written before anything is told."""

    def __init__(
        self,
        store: Store,
        study: StudyRecord,
        sampler: Sampler,
        problem: Problem,
        executor: Executor,
        *,
        n_retries: int = 2,
        check_lease: Callable[[], None] = lambda: None,
        audience: Audience | None = None,
    ) -> None:
        self._store, self._study, self._sampler = store, study, sampler
        self._problem, self._executor = problem, executor
        settings, is_front = study.spec["settings"], problem.is_front
        self._timing = timing_of(study)
        self._rivals: Rivals | None = None
        if settings["race"]:
            margin = 0.0 if is_front else settings.get("race_margin", 0.0)  # a study of before has none
            self._rivals = Rivals(study.metric, is_front=is_front, margin_pct=margin)
        self._n_retries, self._check_lease = n_retries, check_lease
        self._audience = audience or Audience()
        self._configs: dict[int, PruningConfig] = {}  # of what is out at workers
        self._n_lost: Counter[int] = Counter()  # how often a trial's worker died under it
        self._outcomes: list[Told | None] = []  # by trial number; None until it is finished
        self._gflops: list[float] = []
        self._first_of: dict[str, int] = {}  # digest -> the trial that measures it
        self._duplicates: dict[int, list[int]] = defaultdict(list)  # trial -> later trials equal to it
        self._lost_to: dict[int, int] = {}  # a stopped trial -> its rival
        self._waiting: list[tuple[int, PruningConfig]] = []  # a heap: the lowest number goes first
        self._failures_in_a_row = 0
        self._kept_attrs: Mapping[str, Any] | None = None  # what the store has of the sampler's
        self.progress = Progress(study.n_trials)

    def run(self) -> Progress:
        """Go on until all trials asked for are finished.

        Raises:
            Interrupted: a person asked to stop.
            PrunefrontError: candidates fail one after another, or the study was taken by another driver.
        """
        self._restore()
        self._audience.on_progress(self.progress)
        while self.progress.n_finished < self._study.n_trials:
            self._ask_what_may_be_asked()
            self._hand_out()
            if self._audience.stop_requested():
                self._store.requeue_running(self._study.id)
                raise Interrupted(
                    f"stopped with {self.progress.n_finished} of {self._study.n_trials} trials finished; go on with "
                    f"prunefront resume {self._study.name}"
                )
            self._check_lease()
            if not (self._configs or self._waiting):  # all that was left equals earlier trials
                self._audience.on_progress(self.progress)
                continue
            with self._timed("waiting"):
                outcome = self._executor.next_outcome(_WAIT_S)
            if outcome is not None:
                self._hand_out()  # the worker that is free now need not wait for what follows
                self._record(outcome)
                self._audience.on_progress(self.progress)
        return self.progress

    def _ask_what_may_be_asked(self) -> None:
        while (number := len(self._outcomes)) < self._study.n_trials:
            due = number - self._study.look_ahead
            if due >= 0:
                outcome = self._outcomes[due]
                if outcome is None:
                    return
                with self._timed("telling"):
                    self._sampler.tell(due, outcome)
            with self._timed("asking"):
                asked = self._sampler.ask(number, self._problem.excess)
            self._propose(asked)

    def _propose(self, asked: Asked) -> None:
        with self._timed("asking"):
            proposal = self._problem.propose(asked.params)
            config, cost = proposal.config, proposal.cost
            digest = config.digest(self._problem.architecture)
        least = self._least_gflops(config)
        if least > self._problem.budget.high_gflops + _EXACT:
            raise PrunefrontError(
                f"trial {asked.number} costs {least} GFLOPs, over the budget of "
                f"{self._problem.budget.high_gflops}; it is not evaluated, and this is a defect of its space"
            )
        earlier = self._first_of.get(digest)
        trial = NewTrial(
            number=asked.number,
            method=config.method,
            digest=digest,
            config=config.model_dump(mode="json"),
            params=asked.params,
            gflops=cost.gflops,
            overhead_gflops=cost.overhead_macs / 1e9,
            drawn_gflops=proposal.drawn_gflops,
            sampler_attrs=asked.attrs,
            n_rejected=asked.n_rejected,
            duplicate_of=earlier,
        )
        with self._timed("recording"):
            attrs = self._sampler.study_attrs
            self._store.add_trial(self._study.id, trial, None if attrs == self._kept_attrs else attrs)
            self._kept_attrs = attrs
        self._sampler.settle(asked.number, self._problem.values_of(config, asked.params))
        self._take_in(trial)
        if earlier is None:
            heapq.heappush(self._waiting, (asked.number, config))
        elif self._outcomes[earlier] is not None:
            self._finish_duplicate(asked.number, earlier)

    def _hand_out(self) -> None:
        while self._waiting and self._executor.has_room():
            number, config = heapq.heappop(self._waiting)
            with self._timed("recording"):
                self._store.start_trial(self._study.id, number)
            # Those told before the trial was drawn, and no others: so its race, too, does not depend on the workers.
            told = number - self._study.look_ahead + 1
            race = None if self._rivals is None else self._rivals.race(self._least_gflops(config), before=told)
            self._configs[number] = config
            self._executor.submit(number, config, race)

    def _take_in(self, trial: NewTrial) -> None:
        self._outcomes.append(None)
        self._gflops.append(trial.gflops)
        self.progress.n_proposed += 1 + trial.n_rejected
        self.progress.n_over_budget += trial.n_rejected
        self.progress.n_over_budget += trial.drawn_gflops > self._problem.budget.high_gflops + _EXACT
        if trial.duplicate_of is None:
            self._first_of[trial.digest] = trial.number
        else:
            self._duplicates[trial.duplicate_of].append(trial.number)

    def _record(self, outcome: Outcome) -> None:
        number, measurement = outcome.number, outcome.measurement
        config = self._configs.pop(number)
        if outcome.is_lost:
            self._n_lost[number] += 1
            if self._n_lost[number] <= self._n_retries:
                self._retry(number, config, outcome)
                return
            outcome = replace(outcome, error=f"its worker died {self._n_lost[number]} times: {outcome.error}")
        if outcome.remark is not None:
            self._audience.say(f"trial {number}: {outcome.remark}")
        with self._timed("recording"):
            if measurement is not None:
                self._store.finish_trial(
                    self._study.id,
                    number,
                    measurement,
                    outcome.worker,
                    lost_to=outcome.lost_to,
                    gflops=measurement.gflops if measurement.measured_gflops else None,
                    is_infeasible=overrun(measurement, self._problem, self._timing) > 0,
                )
            else:
                self._store.fail_trial(self._study.id, number, outcome.error or "", outcome.traceback, outcome.worker)
        self._settle(number, measurement, outcome.lost_to)
        for duplicate in self._duplicates[number]:
            self._finish_duplicate(duplicate, number)
        self._failures_in_a_row = 0 if measurement is not None else self._failures_in_a_row + 1
        if self._failures_in_a_row >= _MAX_FAILURES_IN_A_ROW:
            raise PrunefrontError(
                f"{self._failures_in_a_row} candidates failed one after another, the last with: {outcome.error}"
            )

    def _retry(self, number: int, config: PruningConfig, outcome: Outcome) -> None:
        self._audience.say(f"trial {number} is measured again, since its worker died: {outcome.error}")
        with self._timed("recording"):
            self._store.requeue_trial(self._study.id, number)
        heapq.heappush(self._waiting, (number, config))
        self.progress.n_retried += 1

    def _finish_duplicate(self, number: int, earlier: int) -> None:
        outcome = self._outcomes[earlier]
        with self._timed("recording"):
            if outcome is not None and outcome.value is not None:
                self._store.finish_trial(
                    self._study.id,
                    number,
                    None,
                    None,
                    lost_to=self._lost_to.get(earlier),
                    gflops=self._gflops[earlier],
                    is_infeasible=outcome.missed_by > 0,
                )
            else:
                self._store.fail_trial(self._study.id, number, f"equal to trial {earlier}, which failed", "", None)
        self._settle_duplicate(number, earlier)

    def _settle_duplicate(self, number: int, earlier: int) -> None:
        told = self._outcomes[number] = self._outcomes[earlier]
        self._count(told, is_stopped=earlier in self._lost_to)
        self.progress.n_duplicates += told is not None and told.value is not None

    def _settle(self, number: int, measurement: Measurement | None, lost_to: int | None) -> None:
        """Take in what became of a trial that was measured, or failed."""
        estimate = estimate_of(measurement, self._study.metric)
        value = None if estimate is None else estimate.value
        cost = None if measurement is None else measurement.measured_gflops
        missed_by = overrun(measurement, self._problem, self._timing, is_stopped=lost_to is not None)
        if cost is not None:
            self._gflops[number] = cost.value
        if measurement is not None:
            self.progress.n_images_seen += measurement.n_images
        if measurement is not None and self._rivals is not None:
            if lost_to is None and not missed_by:
                self._rivals.add(number, self._gflops[number], measurement)
            elif lost_to is not None:
                self._lost_to[number] = lost_to
                self.progress.n_images_spared += self._rivals.n_images(lost_to) - measurement.n_images
        told = self._outcomes[number] = Told(
            value, cost_told(self._gflops[number], measurement, self._timing), missed_by
        )
        self._count(told, is_stopped=lost_to is not None)
        if lost_to is None and not missed_by and measurement is not None and estimate is not None:
            best = self.progress.best
            best_estimate = None if best is None else estimate_of(best[1], self._study.metric)
            if best_estimate is None or estimate.value > best_estimate.value:
                self.progress.best = number, measurement

    def _count(self, told: Told | None, *, is_stopped: bool) -> None:
        if told is None or told.value is None:
            self.progress.n_failed += 1
        elif is_stopped:
            self.progress.n_stopped += 1
        elif told.missed_by:
            self.progress.n_infeasible += 1
        else:
            self.progress.n_complete += 1

    def _restore(self) -> None:
        """Take the study up where its rows stand; what no worker finished is measured again."""
        self._store.requeue_running(self._study.id)
        trials = self._store.trials(self._study.id)
        for trial in trials:
            self._take_in(trial)
        for trial in trials:
            self._restore_outcome(trial)
        n_told = max(0, len(trials) - self._study.look_ahead)
        told = []
        for trial in trials[:n_told]:
            outcome = self._outcomes[trial.number]
            if outcome is None:
                raise PrunefrontError(
                    f"trial {trial.number} has no result, although later trials were proposed from it: the rows of "
                    f"study {self._study.name!r} were changed from outside"
                )
            told.append((self._asked(trial), outcome))
        self._sampler.restore(told, map(self._asked, trials[n_told:]), self._study.sampler_attrs)
        for trial in trials:
            if not trial.state.is_finished and trial.duplicate_of is None:
                heapq.heappush(self._waiting, (trial.number, parse_layout(trial.config)))

    def _asked(self, trial: TrialRecord) -> Asked:
        settled = self._problem.values_of(parse_layout(trial.config), trial.params)
        return Asked(trial.number, trial.params, trial.sampler_attrs, settled=settled)

    def _restore_outcome(self, trial: TrialRecord) -> None:
        if trial.duplicate_of is not None:
            if self._outcomes[trial.duplicate_of] is not None and not trial.state.is_finished:
                self._finish_duplicate(trial.number, trial.duplicate_of)
            elif trial.state.is_finished:
                self._settle_duplicate(trial.number, trial.duplicate_of)
        elif trial.state.is_finished:
            self._settle(trial.number, trial.measurement, trial.rival)

    def _least_gflops(self, config: PruningConfig) -> float:
        """Give what a layout costs, or the least that it can where only measuring tells."""
        return config.least_cost(self._problem.architecture).gflops

    @contextmanager
    def _timed(self, what: str) -> Iterator[None]:
        started = time.perf_counter()
        try:
            yield
        finally:
            self.progress.seconds[what] += time.perf_counter() - started
