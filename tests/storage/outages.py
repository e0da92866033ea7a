"""Databases that fail as real ones do."""

from __future__ import annotations

from sqlalchemy import event, text


def fill_the_disk(store):
    """Let the database have no more room; returns what gives it room again."""
    if store._engine.dialect.name == "postgresql":
        full = "CREATE FUNCTION no_room() RETURNS trigger LANGUAGE plpgsql AS "
        full += "$$ BEGIN RAISE EXCEPTION 'No space left on device' USING ERRCODE = '53100'; END $$"
        with store._writer.begin() as connection:
            connection.execute(text(full))
            connection.execute(text("CREATE TRIGGER no_room BEFORE INSERT ON trials EXECUTE FUNCTION no_room()"))

        def make_room():
            with store._writer.begin() as connection:
                connection.execute(text("DROP TRIGGER no_room ON trials"))

        return make_room

    def limit(connection, _):
        connection.execute("PRAGMA max_page_count = 1")  # that is, as many as there are

    store._engine.dispose()
    event.listen(store._engine, "connect", limit)

    def grow():
        event.remove(store._engine, "connect", limit)
        store._engine.dispose()

    return grow
