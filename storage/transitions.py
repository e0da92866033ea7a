"""How a trial moves from state to state, each time once."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import Connection, select, update

from storage.lease import StudyOwned
from storage.patience import may_be_done
from storage.records import TrialState
from storage.schema import now, trials

__all__ = ["finish", "move", "state_of"]


def move(connection: Connection, study_id: int, number: int, states: Sequence[TrialState], **values: Any) -> bool:
    """Change a trial that is in one of these states.

    Returns:
        Whether it was changed; it is not where an attempt before this one has done so.

    Raises:
        StudyOwned: it is in another state: another driver has its study.
    """
    moved = connection.execute(
        update(trials)
        .where(trials.c.study_id == study_id, trials.c.number == number, trials.c.state.in_(states))
        .values(**values)
    )
    if moved.rowcount == 1:
        return True
    # The lease was ours in both attempts, so whoever made the change was this driver.
    if may_be_done() and state_of(connection, study_id, number) == values["state"]:
        return False
    raise StudyOwned(f"trial {number} is no longer {' or '.join(states)}: another driver has its study")


def finish(connection: Connection, study_id: int, number: int, **values: Any) -> bool:
    """Change a trial with which nothing more will happen; see ``move``."""
    unfinished = (TrialState.WAITING, TrialState.RUNNING)
    return move(connection, study_id, number, unfinished, finished_at=now(), **values)


def state_of(connection: Connection, study_id: int, number: int) -> str | None:
    """Read a trial's state; ``None`` where there is no such trial."""
    query = select(trials.c.state).where(trials.c.study_id == study_id, trials.c.number == number)
    state: str | None = connection.execute(query).scalar_one_or_none()
    return state
