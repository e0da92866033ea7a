"""What a database's failure means to a driver, and waiting for one that is away."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import wraps
from typing import Any, Concatenate, ParamSpec, Protocol, TypeVar

from sqlalchemy.exc import DBAPIError, IntegrityError, OperationalError, SQLAlchemyError

from storage.database import DatabaseError

__all__ = ["DatabaseAway", "DiskFull", "Patience", "may_be_done", "patiently", "told_plainly"]

_FIRST_WAIT_S, _LONGEST_WAIT_S = 0.1, 5.0

# SQLite's result codes; the low byte of what the driver reports.
_SQLITE_BUSY, _SQLITE_LOCKED, _SQLITE_FULL = 5, 6, 13
# PostgreSQL's: the whole class of lost connections; shutting down, starting up, too many connections, deadlock.
_AWAY_CLASS, _AWAY_STATES = "08", ("57P01", "57P02", "57P03", "53300", "40001", "40P01")
_FULL_STATE = "53100"

T = TypeVar("T")
P = ParamSpec("P")
S = TypeVar("S", bound="_Patient")

_never = threading.Event()  # to wait for, since it can be interrupted
_is_again: ContextVar[bool] = ContextVar("is_again", default=False)


class DatabaseAway(DatabaseError):
    """The database does not answer now, and may later."""


class DiskFull(DatabaseError):
    """The database has no room for what is to be written."""


class Patience:
    """How long somebody waits for a database that is away."""

    def __init__(
        self,
        longest_s: float = 0.0,
        *,
        say: Callable[[str], None] = lambda _: None,
        stop_requested: Callable[[], bool] = lambda: False,
    ) -> None:
        """Set the limits.

        Args:
            longest_s: for one change; by default there is no waiting.
            say: is told when the waiting begins, and when it is over.
            stop_requested: ends the waiting.
        """
        self._longest_s, self._say, self._stop_requested = longest_s, say, stop_requested
        self._has_given_up = False

    def outlast(self, act: Callable[[], T]) -> T:
        """Do something, again and again while the database is away.

        Raises:
            DatabaseAway: it stayed away for too long, or somebody asked to stop; from then on nobody waits any more.
        """
        began, wait_s = time.monotonic(), _FIRST_WAIT_S
        while True:
            try:
                with _counted(is_again=wait_s > _FIRST_WAIT_S):
                    done = act()
            except DatabaseAway as error:
                waited_s = time.monotonic() - began
                if self._has_given_up or waited_s >= self._longest_s or self._stop_requested():
                    self._has_given_up = True
                    raise
                if wait_s == _FIRST_WAIT_S:
                    self._say(f"{error}; waiting for it, nothing is lost")
                self._wait(min(wait_s, self._longest_s - waited_s))
                wait_s = min(2 * wait_s, _LONGEST_WAIT_S)
            else:
                if wait_s > _FIRST_WAIT_S:
                    self._say(f"the database is back after {time.monotonic() - began:.0f} s")
                return done

    def _wait(self, seconds: float) -> None:
        until = time.monotonic() + seconds
        while (left := until - time.monotonic()) > 0 and not self._stop_requested():
            _never.wait(min(left, 0.2))


class _Patient(Protocol):
    patience: Patience


def patiently(method: Callable[Concatenate[S, P], T]) -> Callable[Concatenate[S, P], T]:
    """Let a method, which is one transaction, outlast its object's ``patience``; ``may_be_done`` tells it then."""

    @wraps(method)
    def outlasting(self: S, /, *args: P.args, **kwargs: P.kwargs) -> T:
        return self.patience.outlast(lambda: method(self, *args, **kwargs))

    return outlasting


def may_be_done() -> bool:
    """Say whether this attempt follows one whose end is not known: it may have been committed, and only not said so."""
    return _is_again.get()


@contextmanager
def _counted(*, is_again: bool) -> Iterator[None]:
    token = _is_again.set(is_again)
    try:
        yield
    finally:
        _is_again.reset(token)


@contextmanager
def told_plainly(url: str) -> Iterator[None]:
    """Turn what SQL raises, but for a value that must be unique and is not, into one of our errors."""
    try:
        yield
    except IntegrityError:
        raise
    except SQLAlchemyError as error:
        reason = " ".join(str(getattr(error, "orig", None) or error).split())
        if _is_full(error):
            raise DiskFull(
                f"the disk of {url} is full ({reason}): make room, then go on with prunefront resume; every trial "
                "that was finished is kept"
            ) from error
        if _is_away(error):
            raise DatabaseAway(f"{url} does not answer ({reason})") from error
        raise DatabaseError(f"cannot use {url}: {reason}") from error


def _is_full(error: SQLAlchemyError) -> bool:
    cause: Any = getattr(error, "orig", None)
    return _sqlite_code(cause) == _SQLITE_FULL or getattr(cause, "sqlstate", None) == _FULL_STATE


def _is_away(error: SQLAlchemyError) -> bool:
    if not isinstance(error, DBAPIError):
        return False
    if (code := _sqlite_code(error.orig)) is not None:
        return code in (_SQLITE_BUSY, _SQLITE_LOCKED)
    state = getattr(error.orig, "sqlstate", None)
    if state is None:  # no server said anything
        return error.connection_invalidated or isinstance(error, OperationalError)
    return str(state).startswith(_AWAY_CLASS) or state in _AWAY_STATES


def _sqlite_code(cause: Any) -> int | None:
    code = getattr(cause, "sqlite_errorcode", None)
    return None if code is None else int(code) & 0xFF
