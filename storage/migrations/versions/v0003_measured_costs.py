"""Costs that the images decide: how many tokens each layer kept of each image."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

_trials = sa.table("trials", sa.column("state", sa.String(20)))


def upgrade() -> None:
    """Add the column; what was measured before costs the same for every image."""
    op.add_column("measurements", sa.Column("n_kept", sa.LargeBinary))


def downgrade() -> None:
    """Drop the column; trials over the budget count as failed, which older versions leave alone too."""
    op.execute(sa.update(_trials).where(_trials.c.state == "infeasible").values(state="failed"))
    op.drop_column("measurements", "n_kept")
