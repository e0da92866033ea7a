"""A database that is away, or full, under a driver."""

from __future__ import annotations

import sqlite3
import threading
import time

import psycopg
import pytest
from sqlalchemy import text

from storage import MeasurementKind, Store, StudyState, TrialState
from storage.lease import new_owner
from storage.patience import DatabaseAway, DiskFull, Patience
from tests.storage.outages import fill_the_disk
from tests.storage.records import measurement, new_study, new_trial


@pytest.fixture
def driving(store, study):
    """Give a store whose study is held, as a driver has it."""
    store.take_lease(study.id, new_owner(), 60)
    return store


def lose_the_reply_to_the_next_commit(store):
    """Let the next commit be done, and its connection be gone before anybody hears of it."""
    dialect = store._engine.dialect
    commit = dialect.do_commit

    def commit_and_hang_up(connection):
        dialect.do_commit = commit
        commit(connection)
        if dialect.name == "postgresql":
            raise psycopg.OperationalError("server closed the connection unexpectedly")
        error = sqlite3.OperationalError("database is locked")
        error.sqlite_errorcode = sqlite3.SQLITE_BUSY
        raise error

    dialect.do_commit = commit_and_hang_up


def test_a_change_that_was_made_and_not_acknowledged_is_not_made_twice(driving, study, engine):
    said = []
    driving.patience = Patience(60, say=said.append)
    changes = [
        lambda: driving.add_trial(study.id, new_trial(0), {"parents": [1]}),
        lambda: driving.start_trial(study.id, 0),
        lambda: driving.requeue_trial(study.id, 0),
        lambda: driving.start_trial(study.id, 0),
        lambda: driving.finish_trial(study.id, 0, measurement(30), "worker"),
        lambda: driving.add_measurement(study.id, 0, MeasurementKind.CONFIRM, measurement(29)),
        lambda: driving.add_measurement(study.id, None, MeasurementKind.SEARCH, measurement(35)),
        lambda: driving.add_trial(study.id, new_trial(1)),
        lambda: driving.fail_trial(study.id, 1, "no", "Traceback", "worker"),
        lambda: driving.set_study_state(study.id, StudyState.FINISHED),
    ]
    for change in changes:
        lose_the_reply_to_the_next_commit(driving)
        change()
    done, failed = driving.trials(study.id)
    assert (done.state, done.attempts, done.measurement) == (TrialState.COMPLETE, 2, measurement(30))
    assert (failed.state, failed.error) == (TrialState.FAILED, "no")
    with engine.connect() as connection:
        assert connection.execute(text("SELECT count(*) FROM measurements")).scalar() == 3
    assert len(said) == 2 * len(changes)
    assert "does not answer" in said[0]
    assert said[1].startswith("the database is back after")


def test_a_driver_waits_for_a_server_that_is_restarted(postgres):
    said = []
    with Store(url := postgres.new_database(), create=True) as store:
        study = store.create_study(new_study())
        store.take_lease(study.id, new_owner(), 60)
        store.patience = Patience(60, say=said.append)
        store.add_trial(study.id, new_trial(0))
        postgres.stop()
        back = threading.Timer(1.0, postgres.start)
        back.start()
        began = time.monotonic()
        store.finish_trial(study.id, 0, measurement(30), "worker")
        assert time.monotonic() - began >= 1.0
        back.join()
        assert store.trial(study.id, 0).measurement == measurement(30)
    postgres.drop_database(url)
    assert len(said) == 2
    assert "waiting for it, nothing is lost" in said[0]


def test_patience_ends_after_its_time_or_when_somebody_asks_to_stop(postgres):
    with Store(postgres.new_database(), create=True) as store:
        study = store.create_study(new_study())
        postgres.stop()
        try:
            with pytest.raises(DatabaseAway, match="does not answer"):
                store.trials(study.id)  # nobody who only looks waits
            store.patience = Patience(0.5)
            began = time.monotonic()
            with pytest.raises(DatabaseAway):
                store.trials(study.id)
            assert time.monotonic() - began >= 0.5
            asked = threading.Event()
            threading.Timer(0.5, asked.set).start()
            store.patience = Patience(600, stop_requested=asked.is_set)
            for _ in range(2):  # once is enough: what is tidied up afterwards does not wait again
                with pytest.raises(DatabaseAway):
                    store.trials(study.id)
        finally:
            postgres.start()


def test_a_file_that_somebody_else_holds_locked_is_waited_for(tmp_path, monkeypatch):
    monkeypatch.setattr("storage.database._BUSY_TIMEOUT_MS", 50)
    with Store(f"sqlite:///{tmp_path}/test.db", create=True) as store:
        study = store.create_study(new_study())
        other = sqlite3.connect(tmp_path / "test.db", isolation_level=None, check_same_thread=False)
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(DatabaseAway, match="locked"):
            store.add_trial(study.id, new_trial(0))
        said = []
        store.patience = Patience(60, say=said.append)
        free = threading.Timer(0.5, lambda: other.execute("ROLLBACK"))
        free.start()
        store.add_trial(study.id, new_trial(0))
        free.join()
        other.close()
        assert len(store.trials(study.id)) == 1
        assert len(said) == 2


def test_a_full_disk_is_said_at_once_and_keeps_what_was_written(driving, study):
    driving.add_trial(study.id, new_trial(0))
    driving.finish_trial(study.id, 0, measurement(30), "worker")
    make_room = fill_the_disk(driving)
    driving.patience = Patience(600)

    def add_trials():
        for number in range(1, 1000):
            driving.add_trial(study.id, new_trial(number))

    with pytest.raises(DiskFull, match=r"is full .*make room, then go on with prunefront resume"):
        add_trials()
    make_room()
    kept = driving.trials(study.id)
    assert kept[0].measurement == measurement(30)
    driving.add_trial(study.id, new_trial(len(kept)))
