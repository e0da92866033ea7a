"""The runner: takes the jobs that were asked for through the dashboard, each into a process of its own."""

from __future__ import annotations

import subprocess
import threading
import time
from collections.abc import Callable
from typing import Any

from search.parenthood import start_child, stop_child
from storage import JobKind, JobRecord, JobState, Store
from storage.database import DatabaseError
from storage.jobs import JobLost
from storage.lease import new_owner

__all__ = ["Runner"]

_LEASE_S = 60.0
_GRACE_S = 60.0  # for the measurements that a search is in
_POLL_S = 0.25
_LISTEN_S = 5.0  # for what a process said before it ended
# Searches follow each other, since each takes the whole machine; what a person waits for does not wait for them.
_LANES = (
    tuple(kind for kind in JobKind if kind.drives_study),
    tuple(kind for kind in JobKind if not kind.drives_study),
)


class _RunningJob:
    """One job's process, and the thread that keeps what it says."""

    def __init__(self, db: str, store: Store, job: JobRecord, runner: str) -> None:
        self.job = job
        self._store = store
        self._stopper: threading.Thread | None = None
        self.process: Any = start_child(
            ["search.job", str(job.id), runner], env={"PRUNEFRONT_DB": db}, output=subprocess.PIPE
        )
        self._listener = threading.Thread(target=self._listen, name=f"job {job.id}", daemon=True)
        self._listener.start()

    def stop(self) -> None:
        """Ask it to stop; its process is ended if it does not."""
        if self._stopper is None:
            self._stopper = threading.Thread(target=stop_child, args=(self.process, _GRACE_S), daemon=True)
            self._stopper.start()

    def wait(self) -> int:
        """Wait for its end, and for everything that it said to be kept."""
        if self._stopper is not None:
            self._stopper.join()
        code: int = self.process.wait()
        self._listener.join(_LISTEN_S)
        for pipe in (self.process.stdin, self.process.stdout):
            pipe.close()
        return code

    def _listen(self) -> None:
        for line in self.process.stdout:
            text = line.decode("utf-8", "replace").rstrip()
            if text:
                self._store.jobs.say(self.job.id, [text])


class Runner:
    """Takes jobs from a store until it is told to stop. Any number of runners may share a store."""

    def __init__(self, db: str, *, say: Callable[[str], None]) -> None:
        """Take the database's URL, and who is told what becomes of jobs."""
        self._db, self._say = db, say
        self._name = new_owner()
        self._running: dict[int, _RunningJob] = {}  # by lane

    def run(self, stop_requested: Callable[[], bool]) -> None:
        """Take jobs; when asked to stop, put those that are not done back into the queue."""
        with Store(self._db, create=True) as store:
            next_renewal = 0.0
            while not stop_requested():
                try:
                    if time.monotonic() >= next_renewal:
                        store.jobs.renew(self._name, _LEASE_S)
                        store.jobs.recover()
                        next_renewal = time.monotonic() + _LEASE_S / 4
                    self._look_after(store)
                except DatabaseError as error:
                    self._say(f"{error}; trying again")
                    time.sleep(_LEASE_S / 20)
                time.sleep(_POLL_S)
            self._stop(store)

    def _look_after(self, store: Store) -> None:
        for lane, kinds in enumerate(_LANES):
            running = self._running.get(lane)
            if running is None:
                job = store.jobs.claim(kinds, self._name, _LEASE_S)
                if job is not None:
                    self._say(f"job {job.id}: {_described(job)}")
                    self._running[lane] = _RunningJob(self._db, store, job, self._name)
            elif running.process.poll() is not None:
                del self._running[lane]
                self._conclude(store, running)
            elif store.jobs.get(running.job.id).is_cancelling:
                running.stop()

    def _stop(self, store: Store) -> None:
        for running in self._running.values():
            running.stop()
        for running in self._running.values():
            running.wait()
            self._conclude(store, running, is_ending=True)
        self._running.clear()

    def _conclude(self, store: Store, running: _RunningJob, *, is_ending: bool = False) -> None:
        """Settle what became of a job whose process has ended; one that was done has said so itself."""
        code = running.wait()
        job = store.jobs.get(running.job.id)
        if job.state is JobState.RUNNING and job.runner == self._name:
            try:
                if job.is_cancelling:
                    store.jobs.finish(job.id, self._name, JobState.CANCELLED)
                elif is_ending:
                    store.jobs.requeue(job.id, self._name)
                else:
                    store.jobs.finish(job.id, self._name, JobState.FAILED, error=_why(store, job, code))
            except JobLost:
                return  # another runner has it by now
        self._say(f"job {job.id}: {store.jobs.get(job.id).state.value}")


def _described(job: JobRecord) -> str:
    return job.kind.value + (f" of {job.study}" if job.study else "")


def _why(store: Store, job: JobRecord, code: int) -> str:
    """Say why a process ended that said nothing of an error itself."""
    if code < 0:
        return f"its process was ended by signal {-code}" + (" (out of memory?)" if code == -9 else "")
    last = store.jobs.last_lines(job.id, 1)
    return f"its process ended with exit code {code}" + (f": {last[0]}" if last else "")
