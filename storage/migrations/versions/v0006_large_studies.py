"""Indexes by which parts of large studies are found."""

from __future__ import annotations

from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Index what pages and figures ask for."""
    op.drop_index("ix_trials_study_id_state", "trials")
    op.create_index("ix_trials_study_id_state_number", "trials", ["study_id", "state", "number"])
    op.drop_index("ix_measurements_study_id_kind", "measurements")
    op.create_index("ix_measurements_study_id_id", "measurements", ["study_id", "id"])
    op.create_index("ix_measurements_study_id_trial_id", "measurements", ["study_id", "trial_id"])


def downgrade() -> None:
    """Put back what there was."""
    op.drop_index("ix_measurements_study_id_trial_id", "measurements")
    op.drop_index("ix_measurements_study_id_id", "measurements")
    op.create_index("ix_measurements_study_id_kind", "measurements", ["study_id", "kind"])
    op.drop_index("ix_trials_study_id_state_number", "trials")
    op.create_index("ix_trials_study_id_state", "trials", ["study_id", "state"])
