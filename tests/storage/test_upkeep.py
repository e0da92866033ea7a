from __future__ import annotations

import pytest
from sqlalchemy import text

from spaces import InvalidInput
from storage import MeasurementKind, Store, StudyOwned, StudyState, TrialState
from storage.lease import new_owner
from storage.upkeep import Merged, Upkeep
from tests.storage.records import measurement, new_study, true_trial


@pytest.fixture
def other(tmp_path):
    """Give the URL of another machine's database, with two studies."""
    url = f"sqlite:///{tmp_path}/other.db"
    with Store(url, create=True) as store:
        for name in ("first", "second"):
            study = store.create_study(new_study(name, seed=7))
            store.add_measurement(study.id, None, MeasurementKind.SEARCH, measurement(38))
            for number in range(3):
                store.add_trial(study.id, true_trial(number), {"parents": [number]})
            store.start_trial(study.id, 0)
            store.start_trial(study.id, 1)
            store.finish_trial(study.id, 1, measurement(30), "worker")
            store.set_study_state(study.id, StudyState.RUNNING)
    return url


def test_another_databases_studies_are_taken_in_as_they_are_but_for_their_driver(store, url, other):
    with Upkeep(url) as here, Upkeep(other) as there:
        assert here.merge(there, {}) == [Merged("first", "first", 3), Merged("second", "second", 3)]
        assert here.merge(there, {}) == [Merged("first", None, 0), Merged("second", None, 0)]
        assert here.problems() == []
    with Store(other) as origin:
        for name in ("first", "second"):
            before, after = origin.study(name), store.study(name)
            changed = {"id": after.id, "state": StudyState.INTERRUPTED}
            assert vars(after) == vars(before) | changed
            trials = store.trials(after.id)
            assert [trial.state for trial in trials] == [TrialState.WAITING, TrialState.COMPLETE, TrialState.WAITING]
            assert trials[1:] == origin.trials(before.id)[1:]
            assert store.dense(after.id, MeasurementKind.SEARCH) == measurement(38)
    store.take_lease(store.study("first").id, new_owner(), 60)


def test_a_name_that_another_study_has_is_refused_and_nothing_is_taken_in(store, study, url, other):
    with Upkeep(url) as here, Upkeep(other) as there:
        with pytest.raises(InvalidInput, match=r"another study 'first': .* --rename first=NAME"):
            here.merge(there, {})
        assert [each.name for each in store.studies()] == ["first"]
        with pytest.raises(InvalidInput, match="has no study third; it has first, second"):
            here.merge(there, {"third": "fourth"})
        assert [each.name_here for each in here.merge(there, {"first": "theirs"})] == ["theirs", "second"]
    assert store.study("theirs").seed == 7
    assert store.study("first") == study


def test_a_study_that_is_being_driven_is_neither_merged_nor_deleted(store, study, url, other):
    with Store(other) as origin:
        origin.take_lease(origin.study("second").id, new_owner(), 60)
        with Upkeep(url) as here, Upkeep(other) as there:
            with pytest.raises(StudyOwned, match="'second' is being driven"):
                here.merge(there, {"first": "theirs"})
            assert {each.name for each in store.studies()} == {"first", "theirs"}
        store.take_lease(study.id, new_owner(), 60)
        with Upkeep(url) as here, pytest.raises(StudyOwned, match="'first' is being driven"):
            here.delete("first")


def test_deleting_a_study_leaves_nothing_of_it_and_everything_of_others(store, study, url, other, engine):
    with Upkeep(url) as here, Upkeep(other) as there:
        here.merge(there, {"first": "theirs"})
        before = store.trials(store.study("theirs").id)
        assert here.delete("second") == 3
        with pytest.raises(InvalidInput, match="there is no study 'second'"):
            here.delete("second")
        assert here.problems() == []
    assert store.trials(store.study("theirs").id) == before
    with engine.connect() as connection:
        counts = [
            connection.execute(text(f"SELECT count(*) FROM {table}")).scalar()
            for table in ("studies", "trials", "measurements", "metric_values")
        ]
    assert counts == [2, 3, 2, 6]


def test_vacuum_gives_back_the_room_of_what_was_deleted(store, study, url):
    for number in range(300):
        store.add_trial(study.id, true_trial(number, drawn_gflops=3.0))
    with Upkeep(url) as here:
        here.vacuum()
        here.delete("first")
        before, after = here.vacuum()
    assert after < before
