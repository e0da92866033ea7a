"""The lease: one driver owns a study at a time, and a driver that is gone loses it."""

from __future__ import annotations

import hashlib
import os
import socket
from contextlib import suppress
from datetime import datetime, timedelta
from functools import cache
from pathlib import Path

from sqlalchemy import Connection, and_, func, or_, select, update

from spaces.errors import PrunefrontError
from storage.schema import now, studies

__all__ = ["StudyOwned", "is_gone", "new_owner", "release", "renew", "require", "take"]


class StudyOwned(PrunefrontError):
    """Another driver holds the study."""


def new_owner() -> str:
    """Name this process as a driver: host, process id, and something no other process of that id has."""
    return f"{_host()}:{os.getpid()}:{os.urandom(4).hex()}"


def is_gone(owner: str) -> bool:
    """Say whether a driver of this host has certainly ended; of other hosts nothing is known."""
    host, pid, _ = owner.rsplit(":", 2)
    if host != _host():
        return False
    try:
        os.kill(int(pid), 0)
    except ProcessLookupError:
        return True
    except PermissionError:
        return False
    return False


@cache
def _host() -> str:
    """Name where this process's id means anything: containers may share a host name, but not their processes."""
    tokens = []
    with suppress(OSError):  # of Linux alone
        tokens = [Path("/proc/sys/kernel/random/boot_id").read_text(), str(os.stat("/proc/self/ns/pid").st_ino)]
    if not tokens:
        return socket.gethostname()
    return f"{socket.gethostname()}/{hashlib.sha256(''.join(tokens).encode()).hexdigest()[:6]}"


def _moment(connection: Connection) -> datetime:
    """Give this moment by the one clock that all drivers of a shared database can look at."""
    if connection.dialect.name == "postgresql":
        moment: datetime = connection.execute(select(func.now())).scalar_one()
        return moment
    return now()


def take(connection: Connection, study_id: int, owner: str, seconds: float, *, take_over: bool = False) -> None:
    """Take a study for one driver.

    Args:
        connection: in a transaction.
        study_id: the study.
        owner: ``new_owner()``'s name.
        seconds: how long the lease lives unless renewed.
        take_over: from whoever holds it, alive or not; what that one writes afterwards is refused.

    Raises:
        StudyOwned: another driver holds it and is alive, as far as can be known.
    """
    moment = _moment(connection)
    row = connection.execute(
        select(studies.c.name, studies.c.lease_owner, studies.c.lease_until).where(studies.c.id == study_id)
    ).one()
    holder = row.lease_owner
    if holder not in (None, owner) and row.lease_until > moment and not (take_over or is_gone(holder)):
        left = (row.lease_until - moment).total_seconds()
        raise StudyOwned(
            f"the study {row.name!r} is being driven by {holder}: stop that one, or, in case it is gone, wait "
            f"{left:.0f} s or take over at once with --take-over"
        )
    # Whoever else looked at the same moment must not take it too.
    unchanged = or_(
        studies.c.lease_owner.is_(None),
        studies.c.lease_owner == holder,
        and_(studies.c.lease_until.is_not(None), studies.c.lease_until <= moment),
    )
    taken = connection.execute(
        update(studies)
        .where(studies.c.id == study_id, unchanged)
        .values(lease_owner=owner, lease_until=moment + timedelta(seconds=seconds))
    )
    if taken.rowcount != 1:
        raise StudyOwned(f"another driver took the study {row.name!r} at this moment")


def renew(connection: Connection, study_id: int, owner: str, seconds: float) -> None:
    """Let the lease live on.

    Raises:
        StudyOwned: another driver has taken the study since.
    """
    renewed = connection.execute(
        update(studies)
        .where(studies.c.id == study_id, studies.c.lease_owner == owner)
        .values(lease_until=_moment(connection) + timedelta(seconds=seconds))
    )
    if renewed.rowcount != 1:
        raise StudyOwned("another driver has taken this study over")


def require(connection: Connection, study_id: int, owner: str) -> None:
    """Refuse to go on with a study that another driver holds by now; until the transaction ends none can take it.

    Raises:
        StudyOwned: another driver has taken the study since.
    """
    query = select(studies.c.lease_owner).where(studies.c.id == study_id).with_for_update()
    if connection.execute(query).scalar_one() != owner:
        raise StudyOwned("another driver has taken this study over")


def release(connection: Connection, study_id: int, owner: str) -> None:
    """Give the study back, unless another driver has taken it since."""
    connection.execute(
        update(studies)
        .where(studies.c.id == study_id, studies.c.lease_owner == owner)
        .values(lease_owner=None, lease_until=None)
    )
