from __future__ import annotations

import subprocess
import sys
import threading

import pytest

from spaces import InvalidInput
from storage import JobKind, JobState
from storage.database import NotThere
from storage.jobs import JobLost, QueueFull
from storage.lease import new_owner

ALL = tuple(JobKind)


@pytest.fixture
def jobs(store):
    return store.jobs


def ask(jobs, kind=JobKind.SEARCH, study="first", **request):
    return jobs.add(kind, study, request, max_queued=10)


def gone_runner() -> str:
    """Name a runner of this machine whose process has ended."""
    program = "from storage.lease import new_owner; print(new_owner())"
    return subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout.strip()


def test_a_job_is_taken_done_and_remembered_with_what_it_said_and_left(jobs):
    asked = ask(jobs, n_trials=12)
    assert (asked.state, asked.request, asked.study) == (JobState.QUEUED, {"n_trials": 12}, "first")
    taken = jobs.claim(ALL, "me", 60)
    assert (taken.id, taken.state, taken.runner, taken.attempts) == (asked.id, JobState.RUNNING, "me", 1)
    jobs.report(asked.id, "me", {"n_finished": 3})
    jobs.say(asked.id, ["one", "two"])
    jobs.say(asked.id, ["three"])
    jobs.finish(asked.id, "me", JobState.DONE, result={"n": 12}, files={"a.png": b"\x89"})
    done = jobs.get(asked.id)
    assert (done.state, done.progress, done.result, done.state.is_over) == (
        JobState.DONE, {"n_finished": 3}, {"n": 12}, True,
    )  # fmt: skip
    assert jobs.lines(asked.id) == [(0, "one"), (1, "two"), (2, "three")]
    assert jobs.lines(asked.id, after=1) == [(2, "three")]
    assert jobs.last_lines(asked.id, 2) == ["two", "three"]
    assert (jobs.file(asked.id, "a.png"), jobs.file(asked.id, "b.png")) == (b"\x89", None)


def test_the_oldest_job_of_a_kind_goes_first_and_only_once(jobs):
    first, picture, second = ask(jobs), ask(jobs, JobKind.PICTURES), ask(jobs, study="second")
    assert jobs.claim([JobKind.PICTURES], "me", 60).id == picture.id
    taken = []

    def take(runner):
        while (job := jobs.claim([JobKind.SEARCH], runner, 60)) is not None:
            taken.append(job.id)

    takers = [threading.Thread(target=take, args=(f"runner {n}",)) for n in range(4)]
    for taker in takers:
        taker.start()
    for taker in takers:
        taker.join()
    assert sorted(taken) == [first.id, second.id]


def test_a_full_queue_takes_no_more(jobs):
    for n in range(3):
        jobs.add(JobKind.SEARCH, f"study-{n}", {}, max_queued=3)
    with pytest.raises(QueueFull, match="3 jobs wait already"):
        jobs.add(JobKind.SEARCH, "one-more", {}, max_queued=3)
    assert jobs.page()[1] == 3


def test_one_study_is_driven_by_one_job_at_a_time(jobs):
    asked = ask(jobs)
    with pytest.raises(InvalidInput, match=f"job {asked.id} is queued for the study 'first'"):
        ask(jobs, JobKind.CONFIRM)
    ask(jobs, JobKind.PICTURES)
    jobs.cancel(asked.id)
    ask(jobs, JobKind.CONFIRM)


def test_cancelling_takes_a_waiting_job_at_once_and_asks_a_running_one(jobs):
    waiting, running = ask(jobs, study="a"), ask(jobs, study="b")
    assert jobs.cancel(waiting.id).state is JobState.CANCELLED
    jobs.claim(ALL, "me", 60)
    cancelled = jobs.cancel(running.id)
    assert (cancelled.state, cancelled.is_cancelling) == (JobState.RUNNING, True)
    jobs.finish(running.id, "me", JobState.CANCELLED)
    assert jobs.cancel(running.id).state is JobState.CANCELLED


def test_a_job_whose_runner_is_gone_waits_again_and_is_given_up_after_three_times(jobs):
    asked, gone = ask(jobs), gone_runner()
    for attempt in (1, 2, 3):
        assert jobs.claim(ALL, gone, 60).attempts == attempt
        jobs.recover()
    failed = jobs.get(asked.id)
    assert (failed.state, failed.error) == (JobState.FAILED, "its runner ended without a word, 3 times")


def test_a_runner_that_lives_keeps_its_job_and_one_that_fell_asleep_loses_it(jobs):
    asked, me = ask(jobs), new_owner()
    jobs.claim(ALL, me, 60)
    jobs.recover()
    assert jobs.get(asked.id).state is JobState.RUNNING
    jobs.renew(me, -1)
    jobs.recover()
    assert jobs.get(asked.id).state is JobState.QUEUED
    with pytest.raises(JobLost, match="another runner's"):
        jobs.finish(asked.id, me, JobState.DONE)


def test_a_cancelled_job_whose_runner_is_gone_is_not_begun_again(jobs):
    asked = ask(jobs)
    jobs.claim(ALL, gone_runner(), 60)
    jobs.cancel(asked.id)
    jobs.recover()
    assert jobs.get(asked.id).state is JobState.CANCELLED


def test_stopping_a_runner_is_no_failed_attempt(jobs):
    asked = ask(jobs)
    jobs.claim(ALL, "me", 60)
    jobs.requeue(asked.id, "me")
    waiting = jobs.get(asked.id)
    assert (waiting.state, waiting.attempts, waiting.runner) == (JobState.QUEUED, 0, None)


def test_jobs_are_listed_newest_first_and_by_study_kind_and_state(jobs):
    asked = [ask(jobs, JobKind.PICTURES, study) for study in ("a", "b", "a")]
    jobs.cancel(asked[0].id)
    assert [job.id for job in jobs.page(limit=2)[0]] == [asked[2].id, asked[1].id]
    assert jobs.page(study="a")[1] == 2
    assert [job.id for job in jobs.page(study="a", states=[JobState.QUEUED])[0]] == [asked[2].id]
    assert jobs.page(kinds=[JobKind.SEARCH]) == ([], 0)


def test_a_log_is_bounded(jobs):
    asked = ask(jobs)
    jobs.say(asked.id, ["x" * 10_000])
    jobs.say(asked.id, [str(n) for n in range(6_000)])
    jobs.say(asked.id, ["later"])
    assert len(jobs.lines(asked.id)[0][1]) == 2_000
    assert jobs.last_lines(asked.id, 1) == ["further lines are not kept"]
    assert jobs.lines(asked.id, after=4_998)[-1][0] == 5_000


def test_an_unknown_job_is_refused(jobs):
    with pytest.raises(NotThere, match="there is no job 7"):
        jobs.get(7)


def test_requests_of_the_same_moment_do_not_overfill_the_queue_nor_drive_a_study_twice(jobs):
    start, refused = threading.Barrier(20), []

    def request(number):
        start.wait()
        # Every other one asks for what only one can have.
        study = "same" if number % 2 else f"own {number}"
        try:
            jobs.add(JobKind.SEARCH, study, {}, max_queued=7)
        except (QueueFull, InvalidInput) as error:
            refused.append(type(error))

    threads = [threading.Thread(target=request, args=[number]) for number in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    found, n_queued = jobs.page(states=[JobState.QUEUED])
    assert (n_queued, len(refused)) == (7, 13)
    assert QueueFull in refused
    assert sum(job.study == "same" for job in found) <= 1
