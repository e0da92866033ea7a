from __future__ import annotations

import pytest

from storage import MeasurementKind, TrialState
from tests.storage.records import measurement, new_study, new_trial


@pytest.fixture
def study(store):
    """Make a study of seven trials: 0 to 3 complete, 4 equal to 1, 5 stopped against 3, 6 waiting."""
    made = store.create_study(new_study())
    for number in range(7):
        store.add_trial(made.id, new_trial(number, duplicate_of=1 if number == 4 else None))
    for number in range(4):
        store.finish_trial(made.id, number, measurement(20 + number), "worker")
    store.finish_trial(made.id, 4, None, None)
    store.finish_trial(made.id, 5, measurement(3, n_images=8), "worker", lost_to=3)
    store.add_measurement(made.id, None, MeasurementKind.SEARCH, measurement(38))
    store.add_measurement(made.id, 2, MeasurementKind.CONFIRM, measurement(30))
    return made


def test_pages_hold_what_reading_everything_does(store, study):
    everything = store.trials(study.id)
    for offset in range(0, 7, 2):
        page, total = store.browse.page(study.id, offset=offset, limit=2)
        assert page == everything[offset : offset + 2]
        assert total == 7
    assert store.browse.page(study.id, offset=0, limit=3, newest_first=True)[0] == everything[:-4:-1]
    assert [store.trial(study.id, number) for number in range(7)] == everything


def test_some_trials_are_found_at_once_in_the_order_asked_for(store, study):
    everything = store.trials(study.id)
    assert store.browse.trials(study.id, [4, 0, 99, 5]) == [everything[4], everything[0], everything[5]]
    assert store.browse.trials(study.id, []) == []


def test_a_page_may_be_of_some_states_alone(store, study):
    page, total = store.browse.page(study.id, offset=1, limit=10, states=[TrialState.STOPPED, TrialState.WAITING])
    assert ([trial.number for trial in page], total) == ([6], 2)
    assert store.browse.page(study.id, offset=0, limit=10, states=[TrialState.FAILED]) == ([], 0)


def test_points_are_read_from_where_one_left_off(store, study):
    points, measured = store.browse.points(study.id, ["top1_pct"])
    assert [point.number for point in points] == list(range(7))
    assert len(measured) == 6, "the dense model's is of no trial"
    store.finish_trial(study.id, 6, measurement(31), "worker")
    later, new = store.browse.points(
        study.id, ["top1_pct"], from_number=6, after_measurement=max(each.measurement for each in measured)
    )
    assert [(point.number, point.state) for point in later] == [(6, "complete")]
    assert [(each.trial_row, each.value) for each in new] == [(later[0].row, 100 * 31 / 40)]


def test_draws_are_the_samplers(store, study):
    assert store.browse.draws(study.id, from_number=5) == [(number, new_trial(number).params) for number in (5, 6)]
