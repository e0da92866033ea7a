"""Kill workers, drivers and the database at random under a search, and look at what is left.

    python -m benchmarks.chaos --kills 30 --databases sqlite postgresql

One search of the bundled model for each kind of database, on Ray workers of this machine. Every driver is a process of
its own; one that was killed is followed by another, which takes the study over. Most kills hit a search that has
finished a trial since the one before; one in four hits whatever there is, for one a driver that has only started.
PostgreSQL stays away for more than a minute the first time, then for a second. What had been finished is noted before
each kill and looked for at the end; then the same search is run undisturbed, and compared. Prints a table, and fails if
anything was lost, duplicated, stuck or came out otherwise, or if ``prunefront db check`` finds anything. Kills no more
after ``--limit`` seconds.
"""

from __future__ import annotations

import argparse
import os
import random
import re
import signal
import subprocess
import sys
import tempfile
import time
import uuid
from collections import Counter
from collections.abc import Callable
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

from tabulate import tabulate

from benchmarks.results import write_results
from search import Execution, Study
from search.interruption import stop_on_signal
from storage import TrialRecord
from storage.patience import DatabaseAway
from storage.upkeep import Upkeep
from tests.postgres import PostgresServer

MARK = "PRUNEFRONT_CHAOS"
NAME = "chaos"
ENDLESS = 1_000_000  # trials; how many it will have been is decided at the end
WORKERS = 2
RETRIES = 5  # a candidate may be hit several times
WRONG = ("lost", "duplicated", "stuck", "problems found", "unlike undisturbed")  # what must be 0
_LAST_S = 150.0  # for the look-ahead's trials, which are still to be finished when the last kill is done
_LULL_S = 60.0  # the longest wait for a trial to be finished, before the next kill
_AWAY_S = 65.0  # how long a database is away the first time
_BACK_AFTER = re.compile(r"the database is back after (\d+) s")


def drive(url: str, n_trials: int | None) -> None:
    """Be a driver: go on with the study, until all trials are finished or somebody ends this process."""
    with stop_on_signal(_log) as stop_requested, Study.open(NAME, db=url) as study:
        study.run(
            n_trials=n_trials,
            execution=Execution(n_workers=WORKERS, n_retries=RETRIES),
            stop_requested=stop_requested,
            say=_log,
            take_over=True,
        )


def _log(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


@dataclass
class Chaos:
    """One search, and whatever is done to it."""

    url: str
    folder: Path
    chance: random.Random
    until: float
    restart_database: Callable[[float], None] | None
    mark: str = field(default_factory=lambda: uuid.uuid4().hex)
    kills: Counter[str] = field(default_factory=Counter)
    finished: dict[int, datetime | None] = field(default_factory=dict)

    def rage(self, n_kills: int) -> list[TrialRecord]:
        """Kill so often, then let the search come to its end; give the trials."""
        driver = self._start(ENDLESS)
        while self.kills.total() < n_kills - 1 and time.monotonic() < self.until:
            driver = self._kill_something(driver)
        self._note()
        self._kill(driver)
        last = self._start(len(self._note()))
        with suppress(subprocess.TimeoutExpired):  # then its trials are stuck, and counted
            last.wait(timeout=_LAST_S)
        return self._note(remember=False)

    def end(self) -> None:
        """End every process that this search started, Ray's too."""
        for pid in self._processes():
            os.kill(pid, signal.SIGKILL)

    def n_lost(self, trials: list[TrialRecord]) -> int:
        """Count the trials that were finished once, and are not now, or not with the same result."""
        now = {trial.number: trial.finished_at for trial in trials if trial.state.is_finished}
        return sum(now.get(number) != moment for number, moment in self.finished.items())

    def waits_s(self) -> list[int]:
        """Read what the drivers said of how long they waited for the database."""
        return [int(seconds) for seconds in _BACK_AFTER.findall((self.folder / "driver.log").read_text())]

    def _kill_something(self, driver: subprocess.Popen[bytes]) -> subprocess.Popen[bytes]:
        victims = ["worker"] * 6 + ["driver"] * 2 + (["database"] * 2 if self.restart_database else [])
        victim, is_in_mid_search = self.chance.choice(victims), self.chance.random() < 0.75
        if is_in_mid_search:
            self._wait_for_a_trial(driver)
        time.sleep(self.chance.uniform(0.5, 3.0))
        self._note()
        if driver.poll() is not None:
            _log(f"a driver ended by itself with {driver.returncode}; the next one goes on")
            return self._start(ENDLESS)
        if victim == "driver":
            self._kill(driver)
            return self._start(ENDLESS)
        if victim == "worker" and (workers := self._processes("ray::Actor")):
            os.kill(self.chance.choice(workers), signal.SIGKILL)
            self._count("worker")
        elif victim == "database" and self.restart_database is not None:
            self.restart_database(1.0 if self.kills["database"] else _AWAY_S)
            self._count("database")
        return driver

    def _wait_for_a_trial(self, driver: subprocess.Popen[bytes]) -> None:
        n_before, until = len(self.finished), time.monotonic() + _LULL_S
        while len(self.finished) == n_before and driver.poll() is None and time.monotonic() < until:
            time.sleep(0.2)
            self._note()

    def _kill(self, driver: subprocess.Popen[bytes]) -> None:
        driver.kill()
        driver.wait()
        self._count("driver")

    def _count(self, victim: str) -> None:
        self.kills[victim] += 1
        left_s = self.until - time.monotonic()
        _log(f"kill {self.kills.total()}: {victim}, {len(self.finished)} trials finished, {left_s:.0f} s left")

    def _start(self, n_trials: int) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-m", "benchmarks.chaos", "--drive", self.url, "--trials", str(n_trials)]
        with (self.folder / "driver.log").open("ab") as log:
            return subprocess.Popen(
                command, env=os.environ | {MARK: self.mark}, stdout=log, stderr=log, start_new_session=True
            )

    def _note(self, *, remember: bool = True) -> list[TrialRecord]:
        """Look at the trials, and remember which are finished."""
        while True:
            try:
                with Study.open(NAME, db=self.url) as study:
                    trials = study.trials()
                break
            except DatabaseAway:
                time.sleep(0.2)
        if remember:
            self.finished |= {trial.number: trial.finished_at for trial in trials if trial.state.is_finished}
        return trials

    def _processes(self, title: str = "") -> list[int]:
        """Find the processes that this search started, with such a title."""
        found = []
        for entry in Path("/proc").iterdir():
            if not entry.name.isdecimal() or int(entry.name) == os.getpid():
                continue
            try:
                is_ours = f"{MARK}={self.mark}".encode() in (entry / "environ").read_bytes()
                if is_ours and title.encode() in (entry / "cmdline").read_bytes():
                    found.append(int(entry.name))
            except (FileNotFoundError, PermissionError, ProcessLookupError):
                continue
        return found


def run(kind: str, n_kills: int, seed: int, limit_s: float) -> dict[str, int | str]:
    """Put one search through it, and count."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        url, restart = f"sqlite:///{folder}/chaos.db", None
        if kind == "postgresql":
            server = stack.enter_context(PostgresServer())
            url, restart = server.new_database(), server.restart
        _create(url).close()
        chaos = Chaos(url, folder, random.Random(seed), time.monotonic() + limit_s, restart)
        try:
            trials = chaos.rage(n_kills)
        finally:
            chaos.end()
        with Upkeep(url) as upkeep:
            problems = upkeep.problems()
        for line in problems:
            _log(line)
        calm = undisturbed(folder, len(trials))
        measured = [trial for trial in trials if trial.duplicate_of is None]
        return {
            "database": kind,
            **{f"{victim} kills": chaos.kills[victim] for victim in ("worker", "driver", "database")},
            "kills": chaos.kills.total(),
            "candidates started": len(trials),
            "finished": sum(trial.state.is_finished for trial in trials),
            "failed": sum(trial.state.value == "failed" for trial in trials),
            "retried": sum(max(0, trial.attempts - 1) for trial in measured),
            "lost": chaos.n_lost(trials),
            "duplicated": sum("measured" in line and "times" in line for line in problems),
            "stuck": sum(not trial.state.is_finished for trial in trials),
            "problems found": len(problems),
            "unlike undisturbed": sum(told(one) != told(other) for one, other in zip(trials, calm, strict=True)),
            "longest wait (s)": max(chaos.waits_s(), default=0),
        }


def undisturbed(folder: Path, n_trials: int) -> list[TrialRecord]:
    """Run the same search in this process, which nobody kills."""
    with _create(f"sqlite:///{folder}/calm.db") as study:
        study.run(n_trials=n_trials, execution=Execution(executor="local"))
        return study.trials()


def told(trial: TrialRecord) -> tuple[object, ...]:
    """Give what must not depend on what was killed: what was tried, and what came of it."""
    found = trial.measurement and (trial.measurement.values, trial.measurement.outcomes)
    return trial.params, trial.config, trial.duplicate_of, trial.state, trial.rival, found


def _create(url: str) -> Study:
    return Study.create(
        study=NAME,
        model="shapes_vit_small",
        data={"data": "shapes", "n_search": 256, "n_confirm": 0},
        budget="65%",
        batch_size=32,
        precision="float32",
        look_ahead=8,
        n_trials=8,
        db=url,
    )


def main() -> None:
    """Run the searches asked for, print the table, and fail if anything is wrong."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=30)
    parser.add_argument("--databases", nargs="+", default=["sqlite", "postgresql"])
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--limit", type=float, default=540.0, help="seconds for each search")
    parser.add_argument("--output", type=Path)
    parser.add_argument("--drive", help=argparse.SUPPRESS)
    parser.add_argument("--trials", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.drive is not None:
        drive(options.drive, options.trials)
        return
    found = [run(kind, options.kills, options.seed, options.limit) for kind in options.databases]
    print(tabulate([[name, *(each[name] for each in found)] for name in found[0]], tablefmt="github"))
    write_results(found, options.output)
    sys.exit(any(each[wrong] for each in found for wrong in WRONG))


if __name__ == "__main__":
    main()
