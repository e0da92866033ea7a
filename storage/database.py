"""Open a database: its engine, its settings, and the version of its tables."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Engine, create_engine, event, inspect, make_url, text
from sqlalchemy.engine import URL
from sqlalchemy.exc import ArgumentError, NoSuchModuleError, SQLAlchemyError

from spaces.errors import InvalidInput, PrunefrontError

__all__ = ["SCHEMA_VERSION", "WRITES", "DatabaseError", "NoDatabase", "open_engine", "require_creatable", "shown"]

SCHEMA_VERSION = "0002"  # the newest migration; a test holds it to that
_OLDER = ("0001",)  # brought up to date when they are opened
WRITES = "prunefront_writes"  # the execution option of connections that will write
_BUSY_TIMEOUT_MS = 10_000


class DatabaseError(PrunefrontError):
    """The database cannot be opened, read or written."""


class NoDatabase(InvalidInput):
    """There is no database yet, or no studies' tables in it."""


def open_engine(url: str, *, create: bool) -> Engine:
    """Connect to a database whose tables have the version this program knows.

    Args:
        url: ``sqlite:///file.db`` or ``postgresql+psycopg://...``.
        create: make the SQLite file and the tables where there are none.

    Raises:
        InvalidInput: no such kind of URL.
        NoDatabase: no database there, and ``create`` is not set.
        DatabaseError: it cannot be reached or read, or its tables are of another version.
    """
    parsed = _parse(url)
    if parsed.get_backend_name() == "sqlite":
        _check_file(parsed, create)
    engine = create_engine(parsed)
    if parsed.get_backend_name() == "sqlite":
        event.listen(engine, "connect", _prepare_sqlite)
        event.listen(engine, "begin", _begin_sqlite)
    try:
        _check_version(engine, shown(url), create)
    except SQLAlchemyError as error:
        raise DatabaseError(f"cannot open {shown(url)}: {_reason(error)}") from None
    return engine


def require_creatable(url: str) -> None:
    """Refuse a URL where no database could be made; make none.

    Raises:
        InvalidInput: no such kind of URL, or no such folder.
        DatabaseError: the folder is read-only.
    """
    parsed = _parse(url)
    if parsed.get_backend_name() == "sqlite":
        _check_file(parsed, create=True)


def _parse(url: str) -> URL:
    try:
        parsed = make_url(url)
        if parsed.get_backend_name() not in ("sqlite", "postgresql"):
            raise ArgumentError
        parsed.get_dialect().import_dbapi()
    except ImportError as error:
        raise InvalidInput(
            f"{url.partition(':')[0]} needs the package {error.name}: pip install {error.name}"
        ) from None
    except (ArgumentError, NoSuchModuleError):
        raise InvalidInput(
            f"a database URL is sqlite:///file.db or postgresql+psycopg://user@host/name, got {shown(url)!r}"
        ) from None
    return parsed


def _check_file(url: URL, create: bool) -> None:
    if url.database in (None, "", ":memory:"):
        raise InvalidInput("a study needs a database that lasts: name a file, sqlite:///file.db")
    path = Path(str(url.database))
    if path.exists():
        if not path.is_file():
            raise InvalidInput(f"the database {path} is no file")
        return
    if not create:
        raise NoDatabase(f"there is no database {path}: name one with --db, or start with prunefront search")
    if not path.parent.is_dir():
        raise InvalidInput(f"there is no folder {path.parent} for the database {path.name}")
    if not os.access(path.parent, os.W_OK):
        raise DatabaseError(f"cannot write to the folder {path.parent.resolve()}: name a database elsewhere with --db")


def _prepare_sqlite(connection: Any, _: Any) -> None:
    connection.isolation_level = None  # transactions begin where SQLAlchemy says, not at the driver's first write
    cursor = connection.cursor()
    cursor.execute(f"PRAGMA busy_timeout = {_BUSY_TIMEOUT_MS}")
    cursor.execute("PRAGMA foreign_keys = ON")
    # Readers go on while the driver writes, and a commit costs 0.1 ms instead of 0.8 ms.
    cursor.execute("PRAGMA journal_mode = WAL")
    cursor.execute("PRAGMA synchronous = NORMAL")
    cursor.close()


def _begin_sqlite(connection: Connection) -> None:
    # A writer takes its lock at once and waits for it: one that began by reading could not wait any more.
    mode = "IMMEDIATE" if connection.get_execution_options().get(WRITES) else "DEFERRED"
    connection.exec_driver_sql(f"BEGIN {mode}")


def _check_version(engine: Engine, url: str, create: bool) -> None:
    with engine.connect() as connection:
        tables = inspect(connection).get_table_names()
        version = None
        if "alembic_version" in tables:
            version = connection.execute(text("SELECT version_num FROM alembic_version")).scalar()
    if version == SCHEMA_VERSION:
        return
    if version in _OLDER:
        _migrate(engine)
        return
    if version is not None:
        raise DatabaseError(
            f"{url} has tables of version {version}, this prunefront knows version {SCHEMA_VERSION}: use the "
            f"prunefront that wrote it, or another database"
        )
    if "studies" in tables:
        raise DatabaseError(f"{url} holds tables named like prunefront's that it did not make: use another database")
    if not create:
        raise NoDatabase(f"{url} holds no prunefront studies: start with prunefront search")
    _migrate(engine)


def _migrate(engine: Engine) -> None:
    from alembic import command
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations"))
    with engine.execution_options(**{WRITES: True}).begin() as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, "head")


def shown(text: str) -> str:
    """Hide the password of every database URL in a text.

    >>> shown("postgresql+psycopg://me:secret@host/name")
    'postgresql+psycopg://me:***@host/name'
    """
    return re.sub(r"(://[^:/@\s]*):[^@\s]+@", r"\1:***@", text)


def _reason(error: SQLAlchemyError) -> str:
    cause = getattr(error, "orig", None) or error
    return " ".join(str(cause).split())
