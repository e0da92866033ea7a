"""The batch size that a measurement ended with."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the column; of what was measured before nobody knows."""
    op.add_column("measurements", sa.Column("batch_size", sa.Integer))


def downgrade() -> None:
    """Drop the column."""
    op.drop_column("measurements", "batch_size")
