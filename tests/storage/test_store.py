"""One suite for every kind of database."""

from __future__ import annotations

import json
import sqlite3
import subprocess
import sys
import threading
import time
from dataclasses import replace

import numpy as np
import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import inspect, text

from objectives.metrics import pack_counts
from spaces import InvalidInput
from storage import JobKind, MeasurementKind, Store, StudyOwned, StudyState, TrialState
from storage.database import SCHEMA_VERSION, DatabaseError, NoDatabase, upgrade
from storage.lease import is_gone, new_owner
from storage.schema import metadata
from tests.privileges import run_restricted
from tests.storage.records import measurement, new_study, new_trial, partial_measurement


def test_a_study_reads_back_as_it_was_made(store):
    new = new_study(seed=2**40, budget_low_gflops=2.0)
    found = store.create_study(new)
    assert {name: getattr(found, name) for name in vars(new)} == vars(new)
    assert found.state is StudyState.CREATED
    assert found.created_at.utcoffset().total_seconds() == 0
    assert store.studies() == [found]


def test_a_taken_name_is_refused_with_what_to_do(store, study):
    with pytest.raises(InvalidInput, match=r"there is a study 'first'.*prunefront resume first.*--study"):
        store.create_study(new_study())
    assert len(store.studies()) == 1


def test_an_unknown_study_lists_those_there_are(store, study):
    store.create_study(new_study("second"))
    with pytest.raises(InvalidInput, match=r"no study 'third' .*; there are: second, first"):
        store.study("third")


def test_a_trial_goes_through_its_life(store, study):
    new = new_trial(0, sampler_attrs={"generation": 3})
    store.add_trial(study.id, new, {"parents": [1, 2]})
    waiting = store.trial(study.id, 0)
    assert {name: getattr(waiting, name) for name in vars(new)} == vars(new)
    assert (waiting.state, waiting.attempts, waiting.measurement) == (TrialState.WAITING, 0, None)
    assert store.study("first").sampler_attrs == {"parents": [1, 2]}

    store.start_trial(study.id, 0)
    running = store.trial(study.id, 0)
    assert (running.state, running.attempts) == (TrialState.RUNNING, 1)

    store.finish_trial(study.id, 0, measurement(30), "host:1")
    done = store.trial(study.id, 0)
    assert (done.state, done.worker, done.measurement) == (TrialState.COMPLETE, "host:1", measurement(30))
    assert waiting.created_at <= running.started_at <= done.finished_at


def test_a_failed_trial_keeps_its_reason_and_has_no_measurement(store, study):
    store.add_trial(study.id, new_trial(0))
    store.fail_trial(study.id, 0, "NonFiniteOutputs: NaN", "Traceback ...", "host:1")
    failed = store.trial(study.id, 0)
    assert (failed.state, failed.error, failed.traceback) == (
        TrialState.FAILED,
        "NonFiniteOutputs: NaN",
        "Traceback ...",
    )
    assert failed.measurement is None


def test_a_finished_trial_is_not_finished_again(store, study, engine):
    store.add_trial(study.id, new_trial(0))
    store.finish_trial(study.id, 0, measurement(30), "one")
    with pytest.raises(StudyOwned, match="trial 0 is no longer waiting or running"):
        store.finish_trial(study.id, 0, measurement(31), "two")
    with pytest.raises(StudyOwned, match="trial 0 is no longer waiting or running"):
        store.fail_trial(study.id, 0, "error", "", "two")
    assert store.trial(study.id, 0).measurement == measurement(30)
    with engine.connect() as connection:
        assert connection.execute(text("SELECT count(*) FROM measurements")).scalar() == 1


def test_a_duplicate_shares_the_measurements_of_the_trial_it_equals(store, study):
    for number, earlier in ((0, None), (1, None), (2, 1)):
        store.add_trial(study.id, new_trial(number, duplicate_of=earlier))
    store.finish_trial(study.id, 1, measurement(35), "w")
    store.finish_trial(study.id, 2, None, "known")
    store.add_measurement(study.id, 1, MeasurementKind.CONFIRM, measurement(33))
    duplicate = store.trial(study.id, 2)
    assert (duplicate.measurement, duplicate.confirmation) == (measurement(35), measurement(33))


def test_dense_measurements_are_told_apart_by_their_images(store, study):
    assert store.dense(study.id, MeasurementKind.SEARCH) is None
    store.add_measurement(study.id, None, MeasurementKind.SEARCH, measurement(38))
    store.add_measurement(study.id, None, MeasurementKind.CONFIRM, measurement(37))
    assert store.dense(study.id, MeasurementKind.SEARCH) == measurement(38)
    assert store.dense(study.id, MeasurementKind.CONFIRM) == measurement(37)


def test_a_trial_number_is_unique_in_its_study(store, study):
    other = store.create_study(new_study("second"))
    store.add_trial(study.id, new_trial(0))
    store.add_trial(other.id, new_trial(0))
    with pytest.raises(Exception, match=r"(?i)unique constraint"):
        store.add_trial(study.id, new_trial(0))


def test_a_trial_that_does_not_exist_names_those_that_do(store, study):
    with pytest.raises(InvalidInput, match="no trials yet"):
        store.trial(study.id, 0)
    store.add_trial(study.id, new_trial(0))
    with pytest.raises(InvalidInput, match="has trials 0 to 0, got 5"):
        store.trial(study.id, 5)


def test_trials_without_a_worker_go_back_to_waiting(store, study):
    for number in range(3):
        store.add_trial(study.id, new_trial(number))
        store.start_trial(study.id, number)
    store.finish_trial(study.id, 0, measurement(1), "w")
    assert store.requeue_running(study.id) == 2
    assert store.count_trials(study.id) == {TrialState.COMPLETE: 1, TrialState.WAITING: 2}


def test_sql_can_ask_for_metrics_costs_and_states(store, study, engine):
    for number in range(3):
        store.add_trial(study.id, new_trial(number, gflops=2.0 + number / 10))
        store.finish_trial(study.id, number, measurement(20 + number), f"worker {number}")
    query = """
        SELECT trials.number, trials.gflops, metric_values.value, metric_values.low FROM trials
        JOIN measurements ON measurements.trial_id = trials.id
        JOIN metric_values ON metric_values.measurement_id = measurements.id
        WHERE metric = 'top1_pct' AND state = 'complete' AND trials.gflops < 2.15 ORDER BY value DESC
    """
    with engine.connect() as connection:
        rows = connection.execute(text(query)).all()
    assert [(row.number, row.value) for row in rows] == [(1, 52.5), (0, 50.0)]
    assert all(row.low < row.value for row in rows)


# The lease


def test_a_second_driver_is_refused_by_name(store, study):
    first, second = new_owner(), new_owner()
    store.take_lease(study.id, first, 60)
    assert store.study("first").owner == first
    with pytest.raises(StudyOwned, match=f"'first' is being driven by {first}"):
        store.take_lease(study.id, second, 60)
    store.take_lease(study.id, first, 60)


def test_a_lease_that_was_given_back_or_has_run_out_can_be_taken(store, study):
    first, second, third = new_owner(), new_owner(), new_owner()
    store.take_lease(study.id, first, 60)
    store.release_lease(study.id, first)
    assert store.study("first").owner is None
    store.take_lease(study.id, second, -1)
    store.take_lease(study.id, third, 60)
    with pytest.raises(StudyOwned, match="taken this study over"):
        store.renew_lease(study.id, second, 60)
    store.release_lease(study.id, second)
    assert store.study("first").owner == third


def test_a_driver_of_this_machine_that_has_ended_holds_nothing(store, study):
    program = "from storage.lease import new_owner; print(new_owner())"
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout.strip()
    store.take_lease(study.id, ended, 3600)
    assert store.study("first").owner is None
    store.take_lease(study.id, new_owner(), 60)


def test_a_study_can_be_taken_over_from_a_driver_that_seems_alive(store, study):
    store.add_trial(study.id, new_trial(0))
    store.take_lease(study.id, "elsewhere:1:abcd", 3600)
    with Store(store.url) as second:
        with pytest.raises(StudyOwned, match="take over at once with --take-over"):
            second.take_lease(study.id, mine := new_owner(), 60)
        second.take_lease(study.id, mine, 60, take_over=True)
        assert second.study("first").owner == mine
        with pytest.raises(StudyOwned, match="another driver has taken"):
            store.finish_trial(study.id, 0, measurement(30), "late")


def test_of_a_driver_on_another_machine_only_the_lease_is_known(store, study):
    store.take_lease(study.id, "elsewhere:1:abcd", 3600)
    with pytest.raises(StudyOwned, match="elsewhere:1:abcd"):
        store.take_lease(study.id, new_owner(), 60)


# The database


def test_readers_go_on_while_a_driver_writes(store, study, url):
    stop, errors, n_reads = threading.Event(), [], [0]

    def read():
        with Store(url) as reader:
            while not stop.is_set():
                try:
                    reader.trials(study.id)
                    n_reads[0] += 1
                except Exception as error:
                    errors.append(error)

    readers = [threading.Thread(target=read) for _ in range(3)]
    for reader in readers:
        reader.start()
    for number in range(60):
        store.add_trial(study.id, new_trial(number))
        store.finish_trial(study.id, number, measurement(3), "w")
    stop.set()
    for reader in readers:
        reader.join()
    assert errors == []
    assert n_reads[0] > 3
    assert len(store.trials(study.id)) == 60


READER = """
import sys
from storage.remembered import RememberedStudy
n_reads = 0
state = ""
while state != sys.argv[2]:
    study = RememberedStudy.find("first", db=sys.argv[1])
    study.trials(), study.front(), study.dense()
    state = study.describe()["state"]
    study.close()
    n_reads += 1
print(n_reads)
"""


def test_dashboards_open_read_and_close_a_file_while_a_driver_writes_it(tmp_path):
    url = f"sqlite:///{tmp_path}/test.db"
    with Store(url, create=True) as store:
        study = store.create_study(new_study())
        command = [sys.executable, "-c", READER, url, StudyState.FINISHED.value]
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
        readers = [subprocess.Popen(command, **pipes) for _ in range(2)]
        store.take_lease(study.id, owner := new_owner(), 600)
        number, until = 0, time.monotonic() + 5
        while number < 60 or (time.monotonic() < until and number < 400):
            store.add_trial(study.id, new_trial(number))
            store.start_trial(study.id, number)
            store.renew_lease(study.id, owner, 600)
            store.finish_trial(study.id, number, measurement(3), "worker")
            number += 1
        store.set_study_state(study.id, StudyState.FINISHED)
        for reader in readers:
            out, err = reader.communicate()
            assert err == ""
            assert int(out) > 0
        assert len(store.trials(study.id)) == number


def test_a_stopped_trial_keeps_what_it_was_measured_on_and_its_rival(store, study):
    for number in range(3):
        store.add_trial(study.id, new_trial(number, duplicate_of=1 if number == 2 else None))
    store.start_trial(study.id, 1)
    store.finish_trial(study.id, 1, measurement(5, n_images=16), "worker", lost_to=0)
    store.finish_trial(study.id, 2, None, None, lost_to=0)
    _, stopped, duplicate = store.trials(study.id)
    assert stopped.state is duplicate.state is TrialState.STOPPED
    assert stopped.state.is_finished
    assert stopped.measurement == duplicate.measurement == measurement(5, n_images=16)
    assert (stopped.rival, duplicate.rival, stopped.worker) == (0, 0, "worker")
    assert stopped.confirmation is None
    with pytest.raises(StudyOwned, match="no longer waiting or running"):
        store.finish_trial(study.id, 1, measurement(30), "worker")


def test_a_trial_over_the_budget_is_finished_with_what_it_was_measured_to_cost(store, study):
    found = replace(measurement(35), n_kept=pack_counts(np.array([[120, 60]] * 40)))
    for number, earlier in ((0, None), (1, 0)):
        store.add_trial(study.id, new_trial(number, gflops=4.0, duplicate_of=earlier))
    store.finish_trial(study.id, 0, found, "worker", gflops=3.2, is_infeasible=True)
    store.finish_trial(study.id, 1, None, None, gflops=3.2, is_infeasible=True)
    for trial in store.trials(study.id):
        assert (trial.state, trial.gflops, trial.measurement) == (TrialState.INFEASIBLE, 3.2, found)
        assert trial.state.is_finished
        assert store.n_kept(study.id, trial.number, MeasurementKind.SEARCH).tolist() == [[120, 60]] * 40
        assert store.n_kept(study.id, trial.number, MeasurementKind.CONFIRM) is None


def test_a_part_of_the_images_reads_back_as_it_was_seen(store, study):
    stopped = partial_measurement()
    store.add_trial(study.id, new_trial(0))
    store.finish_trial(study.id, 0, stopped, "worker", lost_to=0)
    assert store.trial(study.id, 0).measurement == stopped


def test_where_no_image_decides_there_are_no_counts(store, study):
    store.add_trial(study.id, new_trial(0))
    store.finish_trial(study.id, 0, measurement(30), "worker")
    assert store.n_kept(study.id, 0, MeasurementKind.SEARCH) is None


def test_the_migrations_make_the_tables_that_the_program_knows(store, engine):
    with engine.connect() as connection:
        assert compare_metadata(MigrationContext.configure(connection), metadata) == []
    assert ScriptDirectory("storage/migrations").get_current_head() == SCHEMA_VERSION


def test_tables_of_the_first_version_are_brought_up_to_date_and_go_on_as_they_did(store, study, url, engine):
    store.add_trial(study.id, new_trial(0))
    store.start_trial(study.id, 0)
    store.finish_trial(study.id, 0, measurement(30), "worker")
    config = Config()
    config.set_main_option("script_location", "storage/migrations")
    with engine.begin() as connection:
        config.attributes["connection"] = connection
        command.downgrade(config, "0001")
        columns = {column["name"] for column in inspect(connection).get_columns("trials")}
        [spec] = connection.execute(text("SELECT spec FROM studies")).scalars()
        assert "rival" not in columns
        assert "race" not in spec
    upgrade(url)
    with Store(url) as opened:
        [trial] = opened.trials(study.id)
        assert (trial.state, trial.rival, trial.n_rejected) == (TrialState.COMPLETE, None, 0)
        assert (trial.measurement.precision, trial.measurement.batch_size) == ("float32", None)
        settings = opened.study(study.name).spec["settings"]
        assert (settings["race"], settings["precision"], settings["budget_by"]) == (False, "float32", "repair")


def test_tables_from_before_measured_costs_are_brought_up_to_date(store, study, url, engine):
    for number in range(2):
        store.add_trial(study.id, new_trial(number))
        store.finish_trial(study.id, number, measurement(30), "worker", is_infeasible=number == 1)
    config = Config()
    config.set_main_option("script_location", "storage/migrations")
    with engine.begin() as connection:
        config.attributes["connection"] = connection
        command.downgrade(config, "0002")
        assert "n_kept" not in {column["name"] for column in inspect(connection).get_columns("measurements")}
    upgrade(url)
    with Store(url) as opened:
        assert [trial.state for trial in opened.trials(study.id)] == [TrialState.COMPLETE, TrialState.FAILED]
        assert opened.trial(study.id, 0).measurement == replace(measurement(30), batch_size=None)
        assert opened.n_kept(study.id, 0, MeasurementKind.SEARCH) is None


def test_tables_from_before_races_without_error_are_brought_up_to_date(store, study, url, engine):
    store.jobs.add(JobKind.SEARCH, "next", {"settings": {"race": False}, "n_trials": 3}, max_queued=1)
    config = Config()
    config.set_main_option("script_location", "storage/migrations")

    def settings(connection) -> list:
        queries = ("SELECT spec FROM studies", "SELECT request FROM jobs")
        documents = [connection.execute(text(query)).scalar_one() for query in queries]
        return [(json.loads(each) if isinstance(each, str) else each)["settings"] for each in documents]

    with engine.begin() as connection:
        config.attributes["connection"] = connection
        before = settings(connection)
        command.downgrade(config, "0006")
        assert settings(connection)[1] == {"race_error": None}
    upgrade(url)
    with engine.begin() as connection:
        assert settings(connection) == before


def test_tables_of_another_version_are_refused(store, url, engine):
    with engine.begin() as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    with pytest.raises(DatabaseError, match="has tables of version 9999, this prunefront knows version"):
        Store(url)


def test_somebody_elses_tables_are_left_alone(tmp_path):
    with sqlite3.connect(tmp_path / "other.db") as other:
        other.execute("CREATE TABLE studies (anything)")
    with pytest.raises(DatabaseError, match="that it did not make"):
        Store(f"sqlite:///{tmp_path}/other.db", create=True)


def test_a_file_that_is_no_database_is_left_alone(tmp_path):
    path = tmp_path / "notes.db"
    path.write_text("dear diary, " * 100)
    with pytest.raises(DatabaseError, match=r"cannot open .*file is not a database"):
        Store(f"sqlite:///{path}", create=True)
    assert path.read_text().startswith("dear diary")


def test_a_missing_database_is_not_made_by_looking(tmp_path):
    with pytest.raises(NoDatabase, match=r"there is no database .*none\.db"):
        Store(f"sqlite:///{tmp_path}/none.db")
    assert list(tmp_path.iterdir()) == []
    empty = tmp_path / "empty.db"
    sqlite3.connect(empty).close()
    with pytest.raises(NoDatabase, match="holds no prunefront studies"):
        Store(f"sqlite:///{empty}")


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("nonsense", "a database URL is sqlite:///file.db or postgresql"),
        ("mysql://x", "a database URL is"),
        ("sqlite:////nowhere/at/all/x.db", "there is no folder /nowhere/at/all"),
        ("sqlite:////tmp", "the database /tmp is no file"),
        ("postgresql+nothing://x", "a database URL is"),
    ],
)
def test_a_url_that_cannot_be_used_says_why(url, message):
    with pytest.raises(InvalidInput, match=message) as error:
        Store(url, create=True)
    assert "\n" not in str(error.value)


def test_a_read_only_folder_is_refused(tmp_path):
    locked = tmp_path / "locked"
    locked.mkdir(mode=0o555)
    program = f"from storage import Store; Store('sqlite:///{locked}/x.db', create=True)"
    code, _, err = run_restricted(sys.executable, "-c", program, cwd=tmp_path)
    assert code == 1
    assert "DatabaseError: cannot write to the folder" in err
    assert list(locked.iterdir()) == []


def test_closing_the_store_leaves_one_file(tmp_path):
    with Store(f"sqlite:///{tmp_path}/x.db", create=True) as store:
        store.create_study(replace(new_study()))
    assert [path.name for path in tmp_path.iterdir()] == ["x.db"]


def test_a_driver_that_was_overtaken_changes_nothing_any_more(store, study, url):
    store.add_trial(study.id, new_trial(0))
    store.take_lease(study.id, new_owner(), seconds=-1)  # over at once, as that of a driver that was asleep
    with Store(url) as second:
        second.take_lease(study.id, new_owner(), seconds=60)
        second.start_trial(study.id, 0)
        for change in (
            lambda: store.finish_trial(study.id, 0, measurement(30), "late"),
            lambda: store.fail_trial(study.id, 0, "late", "", "late"),
            lambda: store.add_trial(study.id, new_trial(1)),
            lambda: store.requeue_running(study.id),
            lambda: store.set_study_state(study.id, StudyState.INTERRUPTED),
            lambda: store.add_measurement(study.id, 0, MeasurementKind.CONFIRM, measurement(30)),
        ):
            with pytest.raises(StudyOwned, match="another driver has taken"):
                change()
        second.finish_trial(study.id, 0, measurement(31), "rightful")
        assert [trial.measurement for trial in second.trials(study.id)] == [measurement(31)]


def test_a_trial_is_handed_out_once(store, study):
    store.add_trial(study.id, new_trial(0))
    store.start_trial(study.id, 0)
    with pytest.raises(StudyOwned, match="no longer waiting"):
        store.start_trial(study.id, 0)


def test_a_database_in_memory_is_refused():
    with pytest.raises(InvalidInput, match="a study needs a database that lasts"):
        Store("sqlite://", create=True)


def test_no_message_holds_a_password():
    with pytest.raises(InvalidInput, match=r"got 'mysql://me:\*\*\*@host/name'"):
        Store("mysql://me:secret@host/name")


def test_a_shared_database_of_an_older_version_is_upgraded_only_when_asked(store, study, url, engine):
    store.add_trial(study.id, new_trial(0))
    config = Config()
    config.set_main_option("script_location", "storage/migrations")
    with engine.begin() as connection:
        config.attributes["connection"] = connection
        command.downgrade(config, "0001")
    if url.startswith("postgresql"):
        with pytest.raises(DatabaseError, match=r"version 0001, older than .*prunefront db upgrade --db postgresql"):
            Store(url)
    assert upgrade(url) == ("0001", SCHEMA_VERSION)
    assert upgrade(url) == (SCHEMA_VERSION, SCHEMA_VERSION)
    with Store(url) as opened:
        assert [trial.number for trial in opened.trials(study.id)] == [0]


def test_two_programs_may_make_the_tables_at_the_same_moment(url):
    program = "import sys; from storage import Store; Store(sys.argv[1], create=True).close()"
    both = [subprocess.Popen([sys.executable, "-c", program, url], stderr=subprocess.PIPE, text=True) for _ in "12"]
    assert [each.communicate()[1] for each in both] == ["", ""]
    with Store(url) as made:
        assert made.studies() == []


def test_a_process_of_another_machine_of_the_same_name_is_not_taken_for_gone():
    host, _, _ = new_owner().rsplit(":", 2)
    assert not is_gone(f"{host.partition('/')[0]}/other:999999999:abcd")
    assert is_gone(f"{host}:999999999:abcd")
