from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections import Counter

import pytest

from objectives.evaluator import Evaluator
from search import Execution, Study
from search.config import SAMPLERS, SearchSettings
from search.executors import LocalExecutor, Outcome, measure_safely
from search.interruption import Interrupted
from search.workbench import Workbench
from spaces import Proposal, PrunefrontError, RandomDrop
from spaces.problem import Problem
from storage import Store, StudyOwned, StudyState, TrialState
from storage.lease import new_owner
from storage.patience import DiskFull
from tests.storage.outages import fill_the_disk

LOCAL = Execution(executor="local")


def create(place, db, *, n_trials=12, **changes) -> Study:
    return Study.create(n_trials=n_trials, db=db, **place.settings(**changes))


def story(study: Study) -> list:
    """Tell what was proposed and what came of it, without times and places."""
    return [
        (
            t.number,
            t.state,
            t.params,
            t.config,
            t.duplicate_of,
            t.measurement and (t.measurement.values, t.measurement.outcomes),
        )
        for t in study.trials()
    ]


class ShuffledExecutor(LocalExecutor):
    """Several workers of any speed: measures for real, and hands results out in an order of its own."""

    def __init__(self, make_evaluator, *, threads: int, n_workers: int, seed: int) -> None:
        super().__init__(make_evaluator, threads=threads)
        self._n_workers, self._chance, self._jobs = n_workers, random.Random(seed), []

    def has_room(self) -> bool:
        return len(self._jobs) < self._n_workers

    def submit(self, number, config, race=None) -> None:
        self._jobs.append((number, config, race))

    def next_outcome(self, timeout_s: float) -> Outcome | None:
        if not self._jobs:
            return None
        return measure_safely(self._ready(), *self._jobs.pop(self._chance.randrange(len(self._jobs))))


class StopAfter:
    """Asks a search to stop once so many trials are finished."""

    def __init__(self, n_finished: int) -> None:
        self._limit, self._n_finished = n_finished, 0

    def watch(self, progress) -> None:
        self._n_finished = progress.n_finished

    def requested(self) -> bool:
        return self._n_finished >= self._limit


def shuffle(monkeypatch, n_workers: int) -> None:
    """Let searches in this process have so many workers, none of which is always the fastest."""
    start = lambda self, *_: ShuffledExecutor(self.evaluator, threads=1, n_workers=n_workers, seed=n_workers)  # noqa: E731
    monkeypatch.setattr(Workbench, "start", start)


@pytest.mark.parametrize(("budget", "race"), [("65%", True), ("65%", False), ("50%:90%", True)])
@pytest.mark.parametrize("sampler", SAMPLERS)
def test_the_trials_do_not_depend_on_which_worker_was_faster(place, tmp_path, monkeypatch, sampler, budget, race):
    n_trials = 12 if sampler == "gp" and not race else 14  # a draw of gp takes long, and its first ten do not
    stories = []
    for n_workers in (1, 2, 4):
        db = f"sqlite:///{tmp_path}/{n_workers}.db"
        study = create(place, db, sampler=sampler, budget=budget, n_trials=n_trials, race=race)
        shuffle(monkeypatch, n_workers)
        study.run(execution=LOCAL)
        stories.append(story(study))
    assert stories[0] == stories[1] == stories[2]
    if budget == "65%":  # few trials of a front have a rival at all
        assert (TrialState.STOPPED in {trial.state for trial in study.trials()}) == race


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_a_search_that_was_stopped_goes_on_as_if_it_had_not_been(place, tmp_path, sampler):
    n_trials = 40 if sampler == "nsga2" else 16
    whole = create(place, f"sqlite:///{tmp_path}/whole.db", sampler=sampler, n_trials=n_trials, race=True)
    whole.run(execution=LOCAL)

    stopped = create(place, f"sqlite:///{tmp_path}/stopped.db", sampler=sampler, n_trials=n_trials, race=True)
    for stop_after in (5, 9):
        stop = StopAfter(stop_after)
        with pytest.raises(Interrupted, match="finished; go on with prunefront resume small"):
            stopped.run(execution=LOCAL, on_progress=stop.watch, stop_requested=stop.requested)
        assert stopped.record.state is StudyState.INTERRUPTED
        assert TrialState.RUNNING not in {trial.state for trial in stopped.trials()}
    Study.open("small", db=f"sqlite:///{tmp_path}/stopped.db").run(execution=LOCAL)
    assert story(stopped) == story(whole)
    assert stopped.record.state is StudyState.FINISHED


def test_asking_for_more_trials_goes_on_as_if_they_had_been_asked_for_at_once(place, tmp_path):
    whole = create(place, f"sqlite:///{tmp_path}/whole.db", n_trials=15)
    whole.run(execution=LOCAL)
    first = create(place, f"sqlite:///{tmp_path}/first.db", n_trials=9)
    first.run(execution=LOCAL)
    first.run(n_trials=15, execution=LOCAL)
    assert story(first) == story(whole)
    with pytest.raises(PrunefrontError, match="15 trials were proposed already"):
        first.run(n_trials=10, execution=LOCAL)


def test_no_trial_over_the_budget_is_evaluated(place, db):
    study = create(place, db, budget="40%", n_trials=30, space={"s": 0})
    progress = study.run(execution=LOCAL)
    limit = study.record.budget_high_gflops
    assert all(trial.gflops <= limit for trial in study.trials())
    assert all(trial.measurement.gflops == trial.gflops for trial in study.trials())
    assert progress.n_over_budget == sum(trial.drawn_gflops > limit for trial in study.trials()) > 0


def test_a_space_that_breaks_its_budget_is_stopped_before_anything_is_evaluated(place, db, monkeypatch):
    dear = RandomDrop(after=(1,), keep_rate=(0.99,))
    study = create(place, db, budget="40%")
    monkeypatch.setattr(
        Problem, "propose", lambda self, _: Proposal(dear, dear.cost(self.architecture), drawn_gflops=1.0)
    )
    with pytest.raises(PrunefrontError, match=r"over the budget of .* it is not evaluated"):
        study.run(execution=LOCAL)
    assert study.trials() == []
    assert study.record.state is StudyState.FAILED


def test_equal_candidates_are_measured_once(place, db, monkeypatch):
    measured = Counter()
    measure = Evaluator.measure
    monkeypatch.setattr(
        Evaluator,
        "measure",
        lambda self, config, *race: measured.update([config.canonical_json()]) or measure(self, config, *race),
    )
    # A search whose last trials equal earlier ones ends with them, and waits for nobody.
    wait, waited_for = LocalExecutor.next_outcome, []

    def next_outcome(executor, timeout_s):
        waited_for.append(wait(executor, timeout_s))
        return waited_for[-1]

    monkeypatch.setattr(LocalExecutor, "next_outcome", next_outcome)
    # Whatever is drawn, only the number of layers, one or two, makes a difference.
    few = {"keep_rate": 0.9, "iterations": 1, "s": 0, "n_layers": {"kind": "int", "low": 1, "high": 2}}
    few |= {"after": {"kind": "int", "low": 1, "high": 2}}
    study = create(place, db, sampler="random", budget="99%", n_trials=20, space=few)
    progress = study.run(execution=LOCAL)
    trials = study.trials()
    assert progress.n_complete + progress.n_stopped == 20
    assert progress.n_duplicates == sum(trial.duplicate_of is not None for trial in trials) >= 15
    assert sum(measured.values()) == len({trial.digest for trial in trials}) == 20 - progress.n_duplicates
    assert trials[-1].duplicate_of is not None
    assert None not in waited_for
    for trial in trials:
        if trial.duplicate_of is not None:
            assert trial.measurement == trials[trial.duplicate_of].measurement
            assert trials[trial.duplicate_of].duplicate_of is None


def test_a_failing_candidate_is_recorded_with_its_reason_and_never_scores(place, db, monkeypatch):
    measure = Evaluator.measure

    def sometimes(self, config, *race):
        if config.after[0] % 2 == 0:
            raise ArithmeticError("an even layer")
        return measure(self, config, *race)

    monkeypatch.setattr(Evaluator, "measure", sometimes)
    study = create(place, db, sampler="random", n_trials=16)
    progress = study.run(execution=LOCAL)
    failed = [trial for trial in study.trials() if trial.state is TrialState.FAILED]
    assert progress.n_failed == len(failed) > 0
    assert all(trial.error == "ArithmeticError: an even layer" for trial in failed)
    assert all("in sometimes" in trial.traceback for trial in failed)
    assert all(trial.measurement is None for trial in failed)
    assert not {trial.number for trial in failed} & {trial.number for trial in study.front()}
    assert study.record.state is StudyState.FINISHED


def test_a_search_in_which_everything_fails_stops(place, db, monkeypatch):
    def never(self, config, *race):
        raise ArithmeticError("always")

    monkeypatch.setattr(Evaluator, "measure", never)
    study = create(place, db, n_trials=50)
    with pytest.raises(PrunefrontError, match=r"20 candidates failed one after another, the last with: .*always"):
        study.run(execution=LOCAL)
    assert study.record.state is StudyState.FAILED
    assert "always" in study.record.error


def test_a_second_driver_is_refused_while_the_first_lives(place, db):
    study = create(place, db)
    holder = new_owner()
    study._store.take_lease(study._id, holder, 60)
    with pytest.raises(StudyOwned, match="is being driven by"):
        Study.open("small", db=db).run(execution=LOCAL)
    assert study.trials() == []


DRIVER = """
import sys
from search import Execution, Study
study = Study.open("small", db=sys.argv[1])
study.run(execution=Execution(executor="local"), on_progress=lambda p: print(p.n_finished, flush=True))
"""


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_a_driver_that_is_killed_loses_no_finished_trial_and_the_next_one_goes_on_with_more_workers(
    place, tmp_path, monkeypatch, sampler
):
    n_trials = {"gp": 18, "nsga2": 44}.get(sampler, 30)  # a draw of gp takes long; a population of nsga2 is 30
    whole = create(place, f"sqlite:///{tmp_path}/whole.db", n_trials=n_trials, sampler=sampler, race=True)
    whole.run(execution=LOCAL)
    db = f"sqlite:///{tmp_path}/killed.db"
    killed = create(place, db, n_trials=n_trials, sampler=sampler, race=True)
    with subprocess.Popen([sys.executable, "-c", DRIVER, db], stdout=subprocess.PIPE, text=True) as driver:
        for line in driver.stdout:
            if int(line) >= 10:
                break
        os.kill(driver.pid, signal.SIGKILL)
    finished = {trial.number: trial for trial in killed.trials() if trial.state.is_finished}
    assert len(finished) >= 10
    assert killed.record.owner is None  # its process is gone, so nobody has to wait for the lease
    shuffle(monkeypatch, 4)
    Study.open("small", db=db).run(execution=LOCAL)
    assert story(killed) == story(whole)
    for trial in killed.trials():
        if trial.number in finished:
            assert trial.finished_at == finished[trial.number].finished_at
            assert trial.attempts == finished[trial.number].attempts


class ForgetfulExecutor(LocalExecutor):
    """Loses some of what it is given, as a worker that dies; measures the rest for real."""

    def __init__(self, make_evaluator, *, threads: int, lose) -> None:
        super().__init__(make_evaluator, threads=threads)
        self._lose, self._n_given = lose, Counter()

    def next_outcome(self, timeout_s: float) -> Outcome | None:
        if self._job is None:
            return None
        number = self._job[0]
        self._n_given[number] += 1
        if self._lose(number, self._n_given[number]):
            self._job = None
            return Outcome(number, "ray", error="ActorDiedError: killed", is_lost=True)
        return super().next_outcome(timeout_s)


def test_a_candidate_whose_worker_died_is_measured_again_and_nothing_else_changes(place, tmp_path, monkeypatch):
    whole = create(place, f"sqlite:///{tmp_path}/whole.db", n_trials=14)
    whole.run(execution=LOCAL)
    study = create(place, f"sqlite:///{tmp_path}/lossy.db", n_trials=14)
    lose = lambda number, time: number in (0, 3, 13) and time <= 2  # noqa: E731
    monkeypatch.setattr(Workbench, "start", lambda self, *_: ForgetfulExecutor(self.evaluator, threads=1, lose=lose))
    said = []
    progress = study.run(execution=LOCAL, say=said.append)
    assert story(study) == story(whole)
    assert progress.n_retried == len(said) == 6
    assert said[0] == "trial 0 is measured again, since its worker died: ActorDiedError: killed"
    assert [trial.attempts for trial in study.trials() if trial.attempts > 1] == [3, 3, 3]


def test_a_candidate_whose_worker_dies_every_time_fails_with_the_reason(place, db, monkeypatch):
    study = create(place, db, n_trials=10)
    monkeypatch.setattr(
        Workbench,
        "start",
        lambda self, *_: ForgetfulExecutor(self.evaluator, threads=1, lose=lambda number, _: number == 4),
    )
    progress = study.run(execution=Execution(executor="local", n_retries=1))
    failed = study.trial(4)
    assert (failed.state, failed.attempts) == (TrialState.FAILED, 2)
    assert failed.error == "its worker died 2 times: ActorDiedError: killed"
    assert (progress.n_failed, progress.n_finished) == (1, 10)


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_a_driver_whose_study_is_taken_over_changes_nothing_and_the_next_one_goes_on_as_it_would_have(
    place, tmp_path, monkeypatch, sampler
):
    n_trials = 12 if sampler == "gp" else 20
    whole = create(place, f"sqlite:///{tmp_path}/whole.db", n_trials=n_trials, sampler=sampler, race=True)
    whole.run(execution=LOCAL)
    db = f"sqlite:///{tmp_path}/taken.db"
    study = create(place, db, n_trials=n_trials, sampler=sampler, race=True)
    finished = []

    def take_over(progress):
        if progress.n_finished >= 5 and not finished:
            finished.append(progress.n_finished)
            with Store(db) as other:
                other.take_lease(study._id, "elsewhere:1:abcd", 600, take_over=True)

    with pytest.raises(StudyOwned, match="another driver has taken"):
        study.run(execution=LOCAL, on_progress=take_over)
    assert study.record.owner == "elsewhere:1:abcd"
    assert sum(trial.state.is_finished for trial in study.trials()) == finished[0]
    again = Study.open("small", db=db)
    with pytest.raises(StudyOwned, match="take over at once with --take-over"):
        again.run(execution=LOCAL)
    shuffle(monkeypatch, 2)
    assert again.run(execution=LOCAL, take_over=True).n_finished == n_trials
    assert story(study) == story(whole)


def test_a_search_outlasts_its_database_being_away_and_goes_on_as_if_it_had_not(place, tmp_path, postgres):
    whole = create(place, f"sqlite:///{tmp_path}/whole.db", n_trials=14)
    whole.run(execution=LOCAL)
    study = create(place, postgres.new_database(), n_trials=14)
    said, timers = [], []

    def reboot(progress):
        if progress.n_finished >= 5 and not timers:
            postgres.stop()
            timers.append(threading.Timer(1.0, postgres.start))
            timers[0].start()

    study.run(execution=LOCAL, on_progress=reboot, say=said.append)
    timers[0].join()
    assert story(study) == story(whole)
    assert any("waiting for it, nothing is lost" in line for line in said)
    study.close()


def test_a_full_disk_stops_the_search_cleanly_and_resume_goes_on(place, tmp_path):
    whole = create(place, f"sqlite:///{tmp_path}/whole.db", n_trials=14)
    whole.run(execution=LOCAL)
    study = create(place, f"sqlite:///{tmp_path}/full.db", n_trials=14)
    make_room = []

    def fill(progress):
        if progress.n_finished >= 5 and not make_room:
            make_room.append(fill_the_disk(study._store))

    with pytest.raises(DiskFull, match=r"make room, then go on with prunefront resume"):
        study.run(execution=LOCAL, on_progress=fill)
    make_room[0]()
    assert study.describe()["state"] in ("interrupted", "failed")
    study.run(execution=LOCAL)
    assert story(study) == story(whole)


def test_the_drivers_own_share_of_the_time_is_counted(place, db):
    started = time.perf_counter()
    progress = create(place, db).run(execution=LOCAL)
    assert set(progress.seconds) >= {"asking", "recording", "telling", "waiting"}
    assert 0 < sum(progress.seconds.values()) <= time.perf_counter() - started
    assert 0 < progress.overhead_share < 1


@pytest.mark.parametrize("budget", ["65%", "50%:90%"])
def test_a_stopped_trial_says_what_it_saw_and_is_never_best_nor_on_the_front(place, db, budget):
    study = create(place, db, sampler="random", n_trials=30, race=True, budget=budget)
    progress = study.run(execution=LOCAL)
    trials = study.trials()
    stopped = [trial for trial in trials if trial.state is TrialState.STOPPED]
    complete = [trial for trial in trials if trial.state is TrialState.COMPLETE]
    assert progress.n_stopped == len(stopped) > 0
    assert progress.n_complete == len(complete) > 0
    assert progress.n_finished == 30
    for trial in stopped:
        rival = trials[trial.rival]
        assert trial.measurement.n_images == 32  # the sample; of so few images only a batch is left after it
        assert rival.state is TrialState.COMPLETE
        assert rival.gflops <= (trial.gflops if ":" in budget else study.record.budget_high_gflops)
        assert rival.number <= trial.number - study.record.look_ahead
        with pytest.raises(PrunefrontError, match="must be complete"):
            study.compare(trial.number, rival.number)
        with pytest.raises(PrunefrontError, match=f"lost against trial {trial.rival}: export that one"):
            study.export("layout.json", trial.number)
    with pytest.raises(PrunefrontError, match="only complete trials can be confirmed"):
        study.confirm([stopped[0].number], execution=LOCAL)
    assert all(trial.measurement.n_images == 40 for trial in complete)
    assert not {trial.number for trial in study.front()} & {trial.number for trial in stopped}
    once = [trial for trial in trials if trial.duplicate_of is None]
    assert progress.n_images_seen == sum(trial.measurement.n_images for trial in once)
    assert progress.n_images_spared == 40 * len(once) - progress.n_images_seen > 0


def test_a_race_changes_nothing_of_what_is_measured(place, tmp_path):
    raced = create(place, f"sqlite:///{tmp_path}/raced.db", sampler="random", n_trials=20, race=True)
    whole = create(place, f"sqlite:///{tmp_path}/whole.db", sampler="random", n_trials=20, race=False)
    raced.run(execution=LOCAL)
    whole.run(execution=LOCAL)
    for one, other in zip(raced.trials(), whole.trials(), strict=True):
        assert other.state is TrialState.COMPLETE
        assert one.config == other.config
        seen = slice(None) if one.measurement.part is None else one.measurement.part.places
        assert one.measurement.hits("top1_pct").tolist() == other.measurement.hits("top1_pct")[seen].tolist()


@pytest.mark.parametrize("budget", ["45%", "40%:60%"])
@pytest.mark.parametrize(
    ("sampler", "budget_by"),
    [
        ("random", "rejection"),
        ("tpe", "rejection"),
        ("nsga2", "rejection"),
        ("tpe", "constraint"),
        ("nsga2", "constraint"),
    ],
)
def test_draws_that_miss_the_budget_are_drawn_again_and_a_stop_changes_nothing(
    place, tmp_path, sampler, budget_by, budget
):
    asked = {"sampler": sampler, "budget_by": budget_by, "budget": budget, "n_trials": 16}
    whole = create(place, f"sqlite:///{tmp_path}/whole.db", **asked)
    progress = whole.run(execution=LOCAL)
    low, high = whole.record.budget_low_gflops or 0.0, whole.record.budget_high_gflops
    trials = whole.trials()
    assert all(low <= trial.gflops == trial.drawn_gflops <= high for trial in trials)
    assert progress.n_over_budget == sum(trial.n_rejected for trial in trials) > 0
    assert progress.n_proposed == 16 + progress.n_over_budget
    assert "target_gflops" not in trials[0].params

    stopped = create(place, f"sqlite:///{tmp_path}/stopped.db", **asked)
    stop = StopAfter(7)
    with pytest.raises(Interrupted):
        stopped.run(execution=LOCAL, on_progress=stop.watch, stop_requested=stop.requested)
    Study.open("small", db=f"sqlite:///{tmp_path}/stopped.db").run(execution=LOCAL)
    assert story(stopped) == story(whole)


def test_a_sampler_that_cannot_be_told_of_constraints_is_refused(place):
    with pytest.raises(PrunefrontError, match="gp cannot be told of constraints: use tpe or nsga2"):
        SearchSettings.parse(place.settings(sampler="gp", budget_by="constraint"))


def test_a_budget_that_draws_hardly_ever_meet_ends_in_one_clear_line(place, tmp_path, monkeypatch):
    monkeypatch.setattr("search.sampler._MOST_DRAWS", 20)
    settings = {"budget_by": "rejection", "budget": "64.99%:65%", "sampler": "random", "precision": "auto"}
    with pytest.raises(PrunefrontError, match=r"none of 20 draws for trial 0 meets the budget: .* --budget-by repair"):
        create(place, f"sqlite:///{tmp_path}/test.db", **settings)
    assert list(tmp_path.iterdir()) == []
