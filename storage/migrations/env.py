"""Alembic's entry: run the migrations on the connection that the store hands over."""

from __future__ import annotations

from alembic import context

from storage.schema import metadata


def run() -> None:
    """Migrate within the caller's transaction."""
    connection = context.config.attributes["connection"]
    # SQLite cannot alter a table in place; batch mode copies it.
    context.configure(connection=connection, target_metadata=metadata, render_as_batch=True)
    with context.begin_transaction():
        context.run_migrations()


run()
