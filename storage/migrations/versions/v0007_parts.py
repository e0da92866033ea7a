"""Which images a stopped candidate saw; and races that stop nobody who would have won, and have no error rate."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None

_studies = sa.table("studies", sa.column("id", sa.Integer), sa.column("spec", sa.JSON))
_jobs = sa.table("jobs", sa.column("id", sa.Integer), sa.column("request", sa.JSON))
_FORMER_ERROR = 0.05


def upgrade() -> None:
    """Add the column, and say of each study and job whether it races."""
    op.add_column("measurements", sa.Column("part", sa.LargeBinary))
    _rewrite(_raced_or_not)


def downgrade() -> None:
    """Drop the column, and give races the error rate that they had if nobody asked for another."""
    _rewrite(_with_error)
    op.drop_column("measurements", "part")


def _raced_or_not(settings: dict[str, Any]) -> dict[str, Any]:
    if "race_error" not in settings:
        return settings
    kept = {name: value for name, value in settings.items() if name != "race_error"}
    return {**kept, "race": settings["race_error"] is not None}


def _with_error(settings: dict[str, Any]) -> dict[str, Any]:
    if "race" not in settings:
        return settings
    kept = {name: value for name, value in settings.items() if name != "race"}
    return {**kept, "race_error": _FORMER_ERROR if settings["race"] else None}


def _rewrite(change: Callable[[dict[str, Any]], dict[str, Any]]) -> None:
    connection = op.get_bind()
    for table, column in ((_studies, _studies.c.spec), (_jobs, _jobs.c.request)):
        for number, document in connection.execute(sa.select(table.c.id, column)).all():
            if isinstance(document.get("settings"), dict):
                new = {**document, "settings": change(document["settings"])}
                connection.execute(sa.update(table).where(table.c.id == number).values({column.name: new}))
