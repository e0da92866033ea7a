from __future__ import annotations

import re
import sqlite3
from contextlib import closing

import pytest
from sqlalchemy import text

from spaces import Ats
from storage import MeasurementKind, Store, StudyState
from storage.lease import new_owner
from storage.upkeep import Upkeep
from tests.storage.records import measurement, new_study, new_trial, partial_measurement, true_trial
from tests.tiny import DEIT_SMALL


@pytest.fixture
def whole(store, study, url):
    """Give the URL of a database in which everything is as it should be, in every state."""
    store.add_measurement(study.id, None, MeasurementKind.SEARCH, measurement(38))
    for number in range(6):
        store.add_trial(study.id, true_trial(number))
    store.add_trial(study.id, true_trial(6, like=1, duplicate_of=1))
    store.finish_trial(study.id, 1, measurement(30), "worker")
    store.finish_trial(study.id, 6, None, None)
    store.finish_trial(study.id, 2, measurement(5, n_images=16), "worker", lost_to=1)
    store.fail_trial(study.id, 3, "NonFiniteOutputs: NaN", "Traceback", "worker")
    store.take_lease(study.id, new_owner(), 60)
    store.start_trial(study.id, 4)
    store.add_measurement(study.id, 1, MeasurementKind.CONFIRM, measurement(29))
    return url


def found(url) -> list[str]:
    with Upkeep(url) as opened:
        return opened.problems()


def test_nothing_is_wrong_with_what_the_store_writes(whole):
    assert found(whole) == []


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        ("DELETE FROM metric_values WHERE metric = 'top1_pct'", "trial 1 has no top1_pct"),
        ("UPDATE trials SET number = 17 WHERE number = 5", "numbered 0, 1, 2, 3, 4, 6, 17, not 0 to 6"),
        ("UPDATE trials SET state = 'complete' WHERE number = 0", "trial 0 is complete, but has no measurement"),
        ("UPDATE trials SET digest = 'x' WHERE number = 5", "trial 5 has the digest x, and its layout has"),
        ("UPDATE trials SET gflops = 1 WHERE number = 5", "trial 5 is said to cost 1.0 GFLOPs, and its layout costs"),
        ("UPDATE studies SET budget_high_gflops = 1", "trial 0 costs .* over the budget of 1.0"),
        ("UPDATE trials SET error = NULL WHERE number = 3", "trial 3 failed without a reason"),
        ("UPDATE trials SET rival = NULL WHERE number = 2", "trial 2 was stopped, but not against an earlier trial"),
        ("UPDATE trials SET duplicate_of = 0 WHERE number = 6", "trial 6 is said to equal trial 0, and does not"),
        (
            "UPDATE trials SET duplicate_of = NULL WHERE number = 6",
            "trials 1 and 6 are one candidate, and neither",
        ),
        ("UPDATE trials SET duplicate_of = 6 WHERE number = 6", "trials 6 are said to equal a later one"),
        ("UPDATE trials SET attempts = 0 WHERE number = 4", "trial 4 runs, but was never started"),
        ("UPDATE studies SET lease_owner = NULL", "trials 4 are running, but no driver is: .* prunefront resume first"),
        ("UPDATE studies SET state = 'finished'", "it is finished, but trials 0, 4, 5 are not"),
        ("UPDATE studies SET n_trials = 3", "it has 7 trials, and 3 were asked for"),
        (
            "UPDATE metric_values SET value = 1 WHERE metric = 'top1_pct'",
            "a top1_pct that is not what its outcomes",
        ),
        ("UPDATE measurements SET n_images = 90", "has outcomes of other than its 90 images"),
        ("UPDATE measurements SET kind = 'search'", "was measured 2 times on the search images"),
        ("UPDATE trials SET config = '{}' WHERE number = 5", "trial 5 has a layout that cannot be read"),
    ],
)
def test_what_cannot_be_is_found_and_named(whole, engine, damage, said):
    with engine.begin() as connection:
        connection.execute(text(damage))
    problems = found(whole)
    assert any(re.search(said, problem) for problem in problems), problems


def test_rows_of_a_study_that_is_not_there_are_found(tmp_path):
    url = f"sqlite:///{tmp_path}/test.db"  # the only kind whose foreign keys can be switched off
    with Store(url, create=True) as store:
        study = store.create_study(new_study())
        store.add_trial(study.id, true_trial(0))
        store.finish_trial(study.id, 0, measurement(30), "worker")
        store.set_study_state(study.id, StudyState.FINISHED)
    with closing(sqlite3.connect(tmp_path / "test.db")) as connection:
        connection.execute("DELETE FROM studies")
        connection.commit()
    assert found(url) == [
        "1 rows of trials belong to a study that is not there",
        "1 rows of measurements belong to a study that is not there",
    ]


def test_figures_of_a_stopped_trial_are_those_of_the_part_it_saw(store, study, url, engine):
    for number in range(2):
        store.add_trial(study.id, true_trial(number))
    store.finish_trial(study.id, 0, measurement(30), "worker")
    store.finish_trial(study.id, 1, partial_measurement(), "worker", lost_to=0)
    assert found(url) == []
    with engine.begin() as connection:
        connection.execute(text("UPDATE metric_values SET value = 50 WHERE metric = 'top1_pct' AND measurement_id = 2"))
    assert found(url) == ["study 'first': measurement 2 has a top1_pct that is not what its outcomes say"]


def test_a_cost_that_the_images_decide_may_lie_anywhere_between_its_ends(store, study, url):
    config = Ats(in_attention=(4,), k_ratio=0.7)
    least, most = config.least_cost(DEIT_SMALL).gflops, config.cost(DEIT_SMALL).gflops
    assert least < 3.0 < most
    changes = {"config": config.model_dump(mode="json"), "digest": config.digest(DEIT_SMALL), "method": "ats"}
    store.add_trial(study.id, new_trial(0, gflops=most, **changes))
    assert found(url) == []
    store.finish_trial(study.id, 0, measurement(30), "worker", gflops=3.5, is_infeasible=True)
    assert found(url) == []
    with store._writer.begin() as connection:
        connection.execute(text("UPDATE trials SET state = 'complete'"))
    assert found(url) == ["study 'first': trial 0 costs 3.5 GFLOPs, over the budget of 3.0"]
    with store._writer.begin() as connection:
        connection.execute(text("UPDATE trials SET gflops = 0.1"))
    assert f"said to cost 0.1 GFLOPs, and its layout costs {least} to {most}" in found(url)[0]
