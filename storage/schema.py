"""The tables. What SQL should be able to ask is a column; JSON holds only what is read whole."""

from __future__ import annotations

from datetime import UTC, datetime

from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    Column,
    DateTime,
    Dialect,
    Float,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    Text,
    TypeDecorator,
    UniqueConstraint,
)

__all__ = [
    "job_files",
    "job_lines",
    "jobs",
    "measurements",
    "metadata",
    "metric_values",
    "now",
    "studies",
    "trials",
]


def now() -> datetime:
    """Give this moment in UTC."""
    return datetime.now(UTC)


class UtcDateTime(TypeDecorator[datetime]):
    """A moment in UTC; SQLite forgets the zone, so it is put back on reading."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        if value is None:
            return None
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


# Names for constraints, so that a migration can address them on every database.
metadata = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "fk": "fk_%(table_name)s_%(column_0_N_name)s",
        "pk": "pk_%(table_name)s",
    }
)

studies = Table(
    "studies",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("name", String(200), nullable=False, unique=True),
    Column("state", String(20), nullable=False),
    Column("model", Text, nullable=False),
    Column("data", Text, nullable=False),
    Column("method", String(100), nullable=False),
    Column("sampler", String(50), nullable=False),
    Column("metric", String(50), nullable=False),
    Column("seed", BigInteger, nullable=False),
    Column("look_ahead", Integer, nullable=False),
    Column("n_trials", Integer, nullable=False),
    Column("budget_low_gflops", Float),
    Column("budget_high_gflops", Float, nullable=False),
    Column("dense_gflops", Float, nullable=False),
    Column("created_at", UtcDateTime, nullable=False),
    Column("error", Text),
    Column("weights_digest", String(64), nullable=False),
    Column("search_list_hash", String(64), nullable=False),
    Column("confirm_list_hash", String(64)),
    Column("command_line", Text, nullable=False),
    Column("host", Text, nullable=False),
    Column("versions", JSON, nullable=False),
    Column("spec", JSON, nullable=False),
    Column("sampler_attrs", JSON, nullable=False),
    Column("lease_owner", Text),
    Column("lease_until", UtcDateTime),
)

trials = Table(
    "trials",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("study_id", ForeignKey("studies.id", ondelete="CASCADE"), nullable=False),
    Column("number", Integer, nullable=False),
    Column("state", String(20), nullable=False),
    Column("method", String(100), nullable=False),
    Column("digest", String(64), nullable=False),
    Column("gflops", Float, nullable=False),
    Column("overhead_gflops", Float, nullable=False),
    Column("drawn_gflops", Float, nullable=False),
    Column("duplicate_of", Integer),
    Column("n_rejected", Integer, nullable=False, server_default="0"),
    Column("rival", Integer),
    Column("worker", Text),
    Column("attempts", Integer, nullable=False),
    Column("created_at", UtcDateTime, nullable=False),
    Column("started_at", UtcDateTime),
    Column("finished_at", UtcDateTime),
    Column("error", Text),
    Column("traceback", Text),
    Column("config", JSON, nullable=False),
    Column("params", JSON, nullable=False),
    Column("sampler_attrs", JSON, nullable=False),
    UniqueConstraint("study_id", "number"),
    Index(None, "study_id", "state", "number"),  # pages of trials in some state
)

measurements = Table(
    "measurements",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("study_id", ForeignKey("studies.id", ondelete="CASCADE"), nullable=False),
    Column("trial_id", ForeignKey("trials.id", ondelete="CASCADE")),  # null: the dense model
    Column("kind", String(20), nullable=False),
    Column("image_list_hash", String(64), nullable=False),
    Column("n_images", Integer, nullable=False),
    Column("precision", String(20), nullable=False, server_default="float32"),
    Column("batch_size", Integer),  # null: measured before it was kept
    Column("gflops", Float, nullable=False),
    Column("macs", BigInteger, nullable=False),
    Column("tokens_per_block", JSON, nullable=False),
    Column("n_kept", LargeBinary),  # patches of each image that each layer kept, where the image decides; packed
    Column("part", LargeBinary),  # which images a stopped candidate saw: ``Part.to_bytes``; null: the list's first
    Column("seconds", Float, nullable=False),
    Column("created_at", UtcDateTime, nullable=False),
    Index(None, "study_id", "id"),  # what is new since one looked
    Index(None, "study_id", "trial_id"),
    Index(None, "trial_id"),
)

metric_values = Table(
    "metric_values",
    metadata,
    Column("measurement_id", ForeignKey("measurements.id", ondelete="CASCADE"), primary_key=True),
    Column("metric", String(50), primary_key=True),
    Column("value", Float, nullable=False),
    Column("low", Float),
    Column("high", Float),
    Column("outcomes", LargeBinary),  # one bit an image, for metrics that are a share of images
)

jobs = Table(
    "jobs",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("kind", String(20), nullable=False),
    Column("state", String(20), nullable=False),
    Column("study", String(200)),  # a name: the study need not be there yet
    Column("request", JSON, nullable=False),
    Column("progress", JSON),
    Column("result", JSON),
    Column("error", Text),
    Column("is_cancelling", Boolean, nullable=False),
    Column("attempts", Integer, nullable=False),
    Column("runner", Text),
    Column("runner_until", UtcDateTime),
    Column("created_at", UtcDateTime, nullable=False),
    Column("started_at", UtcDateTime),
    Column("finished_at", UtcDateTime),
    Index(None, "state"),
    Index(None, "study", "kind"),
)

job_lines = Table(
    "job_lines",
    metadata,
    Column("job_id", ForeignKey("jobs.id", ondelete="CASCADE"), primary_key=True),
    Column("number", Integer, primary_key=True),
    Column("text", Text, nullable=False),
)

job_files = Table(
    "job_files",
    metadata,
    Column("job_id", ForeignKey("jobs.id", ondelete="CASCADE"), primary_key=True),
    Column("name", String(100), primary_key=True),
    Column("content", LargeBinary, nullable=False),
)
