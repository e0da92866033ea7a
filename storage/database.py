"""Open a database: its engine, its settings, and the version of its tables."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Engine, create_engine, event, inspect, make_url, text
from sqlalchemy.engine import URL
from sqlalchemy.exc import ArgumentError, NoSuchModuleError, SQLAlchemyError

from spaces.errors import InvalidInput, PrunefrontError

__all__ = [
    "SCHEMA_VERSION",
    "WRITES",
    "DatabaseError",
    "NoDatabase",
    "NotThere",
    "holds_studies",
    "open_engine",
    "require_creatable",
    "shown",
    "upgrade",
]

SCHEMA_VERSION = "0007"  # the newest migration; a test holds it to that
_OLDER = ("0001", "0002", "0003", "0004", "0005", "0006")  # brought up to date when they are opened
WRITES = "prunefront_writes"  # the execution option of connections that will write
_BUSY_TIMEOUT_MS = 10_000
_MIGRATION_LOCK = 0x7072756E65  # any number that others are unlikely to lock by


class DatabaseError(PrunefrontError):
    """The database cannot be opened, read or written."""


class NoDatabase(InvalidInput):
    """There is no database yet, or no studies' tables in it."""


class NotThere(InvalidInput):
    """Nothing of that name or number is remembered."""


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
    engine = _engine_of(url, create)
    with _disposed_of_on_error(engine, url):
        _check_version(engine, shown(url), create)
    return engine


def holds_studies(url: str) -> bool:
    """Say whether a database has prunefront's tables, of whatever version; one that is not there has none."""
    try:
        engine = _engine_of(url, create=False)
    except NoDatabase:
        return False
    with _disposed_of_on_error(engine, url), engine.connect() as connection:
        found = "metric_values" in inspect(connection).get_table_names()
    engine.dispose()
    return found


def upgrade(url: str) -> tuple[str, str]:
    """Bring a database's tables to the version that this program knows.

    Returns:
        The version they had, and the one they have.

    Raises:
        NoDatabase: no database there.
        DatabaseError: it cannot be reached or read, or its tables are newer or somebody else's.
    """
    engine = _engine_of(url, create=False)
    with _disposed_of_on_error(engine, url):
        version = _version(engine, shown(url))
        if version is None:
            raise NoDatabase(f"{shown(url)} holds no prunefront studies: start with prunefront search")
        if version in _OLDER:
            _migrate(engine)
    engine.dispose()
    return version, SCHEMA_VERSION


def _engine_of(url: str, create: bool) -> Engine:
    parsed = _parse(url)
    if parsed.get_backend_name() != "sqlite":
        return create_engine(parsed, connect_args=_connecting(parsed))
    _check_file(parsed, create)
    engine = create_engine(parsed)
    event.listen(engine, "connect", _prepare_sqlite)
    event.listen(engine, "begin", _begin_sqlite)
    return engine


@contextmanager
def _disposed_of_on_error(engine: Engine, url: str) -> Iterator[None]:
    try:
        yield
    except SQLAlchemyError as error:
        engine.dispose()
        raise DatabaseError(f"cannot open {shown(url)}: {_reason(error)}") from None
    except PrunefrontError:
        engine.dispose()
        raise


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
            f"{url.partition(':')[0]} needs the package {error.name}: pip install 'prunefront[postgres]'"
        ) from None
    except (ArgumentError, NoSuchModuleError):
        raise InvalidInput(
            f"a database URL is sqlite:///file.db or postgresql+psycopg://user@host/name, got {shown(url)!r}"
        ) from None
    return parsed


def _connecting(url: URL) -> dict[str, Any]:
    """Give what is asked of a connection beside its URL, which may say otherwise."""
    if url.get_driver_name() != "psycopg":
        return {}
    # A server whose machine is gone answers nothing at all: without these, a driver would wait for it for a quarter
    # of an hour before it knew that it has to wait.
    noticing = {"connect_timeout": 10, "keepalives_idle": 10, "keepalives_interval": 5, "tcp_user_timeout": 20_000}
    return {name: value for name, value in noticing.items() if name not in url.query}


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
    if connection.get_execution_options().get("isolation_level") == "AUTOCOMMIT":
        return
    # A writer takes its lock at once and waits for it: one that began by reading could not wait any more.
    mode = "IMMEDIATE" if connection.get_execution_options().get(WRITES) else "DEFERRED"
    connection.exec_driver_sql(f"BEGIN {mode}")


def _check_version(engine: Engine, url: str, create: bool) -> None:
    version = _version(engine, url)
    if version == SCHEMA_VERSION:
        return
    if version is None and not create:
        raise NoDatabase(f"{url} holds no prunefront studies: start with prunefront search")
    if version is not None and engine.dialect.name != "sqlite":
        # Others may be at work in it, with programs that know the tables as they are.
        raise DatabaseError(
            f"{url} has tables of version {version}, older than this prunefront's {SCHEMA_VERSION}: once no older "
            f"prunefront uses it any more, bring them up to date with prunefront db upgrade --db {url}"
        )
    _migrate(engine)


def _version(engine: Engine, url: str) -> str | None:
    """Read the version of the tables: this program's, an older one, or ``None`` where there are no tables yet."""
    with engine.connect() as connection:
        tables = inspect(connection).get_table_names()
        version: str | None = None
        if "alembic_version" in tables:
            version = connection.execute(text("SELECT version_num FROM alembic_version")).scalar()
    if version is not None and version not in (*_OLDER, SCHEMA_VERSION):
        raise DatabaseError(
            f"{url} has tables of version {version}, this prunefront knows version {SCHEMA_VERSION}: use the "
            f"prunefront that wrote it, or another database"
        )
    if version is None and "studies" in tables:
        raise DatabaseError(f"{url} holds tables named like prunefront's that it did not make: use another database")
    return version


def _migrate(engine: Engine) -> None:
    from alembic import command
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations"))
    with engine.execution_options(**{WRITES: True}).begin() as connection:
        if connection.dialect.name == "postgresql":  # else two who find no tables would both make them
            connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _MIGRATION_LOCK})
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
