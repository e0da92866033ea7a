"""The first tables: studies, trials, measurements and their metric values."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

_MOMENT = sa.DateTime(timezone=True)


def upgrade() -> None:
    """Create the tables."""
    op.create_table(
        "studies",
        sa.Column("id", sa.Integer, nullable=False),
        sa.Column("name", sa.String(200), nullable=False),
        sa.Column("state", sa.String(20), nullable=False),
        sa.Column("model", sa.Text, nullable=False),
        sa.Column("data", sa.Text, nullable=False),
        sa.Column("method", sa.String(100), nullable=False),
        sa.Column("sampler", sa.String(50), nullable=False),
        sa.Column("metric", sa.String(50), nullable=False),
        sa.Column("seed", sa.BigInteger, nullable=False),
        sa.Column("look_ahead", sa.Integer, nullable=False),
        sa.Column("n_trials", sa.Integer, nullable=False),
        sa.Column("budget_low_gflops", sa.Float),
        sa.Column("budget_high_gflops", sa.Float, nullable=False),
        sa.Column("dense_gflops", sa.Float, nullable=False),
        sa.Column("created_at", _MOMENT, nullable=False),
        sa.Column("error", sa.Text),
        sa.Column("weights_digest", sa.String(64), nullable=False),
        sa.Column("search_list_hash", sa.String(64), nullable=False),
        sa.Column("confirm_list_hash", sa.String(64)),
        sa.Column("command_line", sa.Text, nullable=False),
        sa.Column("host", sa.Text, nullable=False),
        sa.Column("versions", sa.JSON, nullable=False),
        sa.Column("spec", sa.JSON, nullable=False),
        sa.Column("sampler_attrs", sa.JSON, nullable=False),
        sa.Column("lease_owner", sa.Text),
        sa.Column("lease_until", _MOMENT),
        sa.PrimaryKeyConstraint("id", name="pk_studies"),
        sa.UniqueConstraint("name", name="uq_studies_name"),
    )
    op.create_table(
        "trials",
        sa.Column("id", sa.Integer, nullable=False),
        sa.Column("study_id", sa.Integer, nullable=False),
        sa.Column("number", sa.Integer, nullable=False),
        sa.Column("state", sa.String(20), nullable=False),
        sa.Column("method", sa.String(100), nullable=False),
        sa.Column("digest", sa.String(64), nullable=False),
        sa.Column("gflops", sa.Float, nullable=False),
        sa.Column("overhead_gflops", sa.Float, nullable=False),
        sa.Column("drawn_gflops", sa.Float, nullable=False),
        sa.Column("duplicate_of", sa.Integer),
        sa.Column("worker", sa.Text),
        sa.Column("attempts", sa.Integer, nullable=False),
        sa.Column("created_at", _MOMENT, nullable=False),
        sa.Column("started_at", _MOMENT),
        sa.Column("finished_at", _MOMENT),
        sa.Column("error", sa.Text),
        sa.Column("traceback", sa.Text),
        sa.Column("config", sa.JSON, nullable=False),
        sa.Column("params", sa.JSON, nullable=False),
        sa.Column("sampler_attrs", sa.JSON, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_trials"),
        sa.ForeignKeyConstraint(["study_id"], ["studies.id"], name="fk_trials_study_id", ondelete="CASCADE"),
        sa.UniqueConstraint("study_id", "number", name="uq_trials_study_id_number"),
    )
    op.create_index("ix_trials_study_id_state", "trials", ["study_id", "state"])
    op.create_table(
        "measurements",
        sa.Column("id", sa.Integer, nullable=False),
        sa.Column("study_id", sa.Integer, nullable=False),
        sa.Column("trial_id", sa.Integer),
        sa.Column("kind", sa.String(20), nullable=False),
        sa.Column("image_list_hash", sa.String(64), nullable=False),
        sa.Column("n_images", sa.Integer, nullable=False),
        sa.Column("gflops", sa.Float, nullable=False),
        sa.Column("macs", sa.BigInteger, nullable=False),
        sa.Column("tokens_per_block", sa.JSON, nullable=False),
        sa.Column("seconds", sa.Float, nullable=False),
        sa.Column("created_at", _MOMENT, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_measurements"),
        sa.ForeignKeyConstraint(["study_id"], ["studies.id"], name="fk_measurements_study_id", ondelete="CASCADE"),
        sa.ForeignKeyConstraint(["trial_id"], ["trials.id"], name="fk_measurements_trial_id", ondelete="CASCADE"),
    )
    op.create_index("ix_measurements_study_id_kind", "measurements", ["study_id", "kind"])
    op.create_index("ix_measurements_trial_id", "measurements", ["trial_id"])
    op.create_table(
        "metric_values",
        sa.Column("measurement_id", sa.Integer, nullable=False),
        sa.Column("metric", sa.String(50), nullable=False),
        sa.Column("value", sa.Float, nullable=False),
        sa.Column("low", sa.Float),
        sa.Column("high", sa.Float),
        sa.Column("outcomes", sa.LargeBinary),
        sa.PrimaryKeyConstraint("measurement_id", "metric", name="pk_metric_values"),
        sa.ForeignKeyConstraint(
            ["measurement_id"], ["measurements.id"], name="fk_metric_values_measurement_id", ondelete="CASCADE"
        ),
    )


def downgrade() -> None:
    """Drop the tables, and everything in them."""
    for table in ("metric_values", "measurements", "trials", "studies"):
        op.drop_table(table)
