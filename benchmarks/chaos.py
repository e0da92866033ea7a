"""Kill workers, drivers and the database at random under a search, and look at what is left.

    python -m benchmarks.chaos --kills 30 --databases sqlite postgresql

One search of the bundled model for each kind of database, on Ray workers of this machine. Every driver is a process of
its own; one that was killed is followed by another, which takes the study over. What had been finished is noted before
each kill and looked for at the end. Prints a table, and fails if anything was lost, duplicated or stuck, or if
``prunefront db check`` finds anything. Kills no more after ``--limit`` seconds.
"""

from __future__ import annotations

import argparse
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
import uuid
from collections import Counter
from collections.abc import Callable
from contextlib import ExitStack
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
_LAST_S = 300.0  # for the look-ahead's trials, which are still to be finished when the last kill is done


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
    restart_database: Callable[[], None] | None
    mark: str = field(default_factory=lambda: uuid.uuid4().hex)
    kills: Counter[str] = field(default_factory=Counter)
    finished: dict[int, datetime | None] = field(default_factory=dict)

    def rage(self, n_kills: int) -> list[TrialRecord]:
        """Kill so often, then let the search come to its end; give the trials."""
        driver = self._start(ENDLESS)
        while self.kills.total() < n_kills and time.monotonic() < self.until:
            driver = self._kill_something(driver)
        driver.send_signal(signal.SIGKILL)  # the last one
        driver.wait()
        self.kills["driver"] += 1
        last = self._start(len(self._note()))
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

    def _kill_something(self, driver: subprocess.Popen[bytes]) -> subprocess.Popen[bytes]:
        victims = ["worker"] * 6 + ["driver"] * 2 + (["database"] * 2 if self.restart_database else [])
        victim = self.chance.choice(victims)
        time.sleep(self.chance.uniform(0.5, 3.0))
        self._note()
        workers = self._processes("ray::Actor")
        if driver.poll() is not None:
            _log(f"a driver ended by itself with {driver.returncode}; see {self.folder}/driver.log")
            return self._start(ENDLESS)
        if victim == "driver" and workers:
            driver.kill()
            driver.wait()
            self.kills["driver"] += 1
            return self._start(ENDLESS)
        if victim == "worker" and workers:
            os.kill(self.chance.choice(workers), signal.SIGKILL)
            self.kills["worker"] += 1
        elif victim == "database" and self.restart_database is not None:
            self.restart_database()
            self.kills["database"] += 1
        return driver

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
        restart = None
        if kind == "postgresql":
            server = stack.enter_context(PostgresServer())
            url, restart = server.new_database(), server.restart
        else:
            url = f"sqlite:///{folder}/chaos.db"
        Study.create(
            study=NAME,
            model="shapes_vit_small",
            data={"data": "shapes", "n_search": 256, "n_confirm": 0},
            budget="65%",
            batch_size=32,
            precision="float32",
            look_ahead=8,
            n_trials=8,
            db=url,
        ).close()
        chaos = Chaos(url, folder, random.Random(seed), time.monotonic() + limit_s, restart)
        try:
            trials = chaos.rage(n_kills)
        finally:
            chaos.end()
        with Upkeep(url) as upkeep:
            problems = upkeep.problems()
        for line in problems:
            _log(line)
        measured = [trial for trial in trials if trial.duplicate_of is None]
        return {
            "database": kind,
            **{f"{victim} kills": chaos.kills[victim] for victim in ("worker", "driver", "database")},
            "kills": chaos.kills.total(),
            "candidates": len(trials),
            "started": sum(trial.attempts for trial in measured),
            "finished": sum(trial.state.is_finished for trial in trials),
            "failed": sum(trial.state.value == "failed" for trial in trials),
            "retried": sum(max(0, trial.attempts - 1) for trial in measured),
            "lost": chaos.n_lost(trials),
            "duplicated": sum("measured" in line and "times" in line for line in problems),
            "stuck": sum(not trial.state.is_finished for trial in trials),
            "problems": len(problems),
        }


def main() -> None:
    """Run the searches asked for, print the table, and fail if anything is wrong."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=30)
    parser.add_argument("--databases", nargs="+", default=["sqlite", "postgresql"])
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--limit", type=float, default=900.0, help="seconds for each search")
    parser.add_argument("--output", type=Path)
    parser.add_argument("--drive", help=argparse.SUPPRESS)
    parser.add_argument("--trials", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.drive is not None:
        drive(options.drive, options.trials)
        return
    found = [run(kind, options.kills, options.seed, options.limit) for kind in options.databases]
    print(tabulate(found, headers="keys", tablefmt="simple"))
    write_results(found, options.output)
    sys.exit(any(each[wrong] for each in found for wrong in ("lost", "duplicated", "stuck", "problems")))


if __name__ == "__main__":
    main()
