"""Trials that lose a race, draws that are made again, and the precision of a measurement."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

# What studies did before they could be asked: the defaults of today would change how they go on.
_AS_BEFORE = {"race_error": None, "precision": "float32", "budget_by": "repair"}
_studies = sa.table("studies", sa.column("id", sa.Integer), sa.column("spec", sa.JSON))


def upgrade() -> None:
    """Add the columns, and say in each study what it has been doing."""
    op.add_column("trials", sa.Column("n_rejected", sa.Integer, nullable=False, server_default="0"))
    op.add_column("trials", sa.Column("rival", sa.Integer))
    op.add_column("measurements", sa.Column("precision", sa.String(20), nullable=False, server_default="float32"))
    connection = op.get_bind()
    for row in connection.execute(sa.select(_studies)).all():
        spec = {**row.spec, "settings": {**row.spec["settings"], **_AS_BEFORE}}
        connection.execute(sa.update(_studies).where(_studies.c.id == row.id).values(spec=spec))


def downgrade() -> None:
    """Drop the columns, and what they say."""
    op.drop_column("measurements", "precision")
    op.drop_column("trials", "rival")
    op.drop_column("trials", "n_rejected")
    connection = op.get_bind()
    for row in connection.execute(sa.select(_studies)).all():
        settings = {name: value for name, value in row.spec["settings"].items() if name not in _AS_BEFORE}
        spec = {**row.spec, "settings": settings}
        connection.execute(sa.update(_studies).where(_studies.c.id == row.id).values(spec=spec))
