from __future__ import annotations

import csv
import io
import json
from dataclasses import replace

import pytest
import yaml

from spaces import InvalidInput, PrunefrontError, parse_layout
from storage import MeasurementKind, Store, TrialRecord, TrialState
from storage.export import table_of, write_layout, write_text
from storage.remembered import RememberedStudy
from storage.results import best_of, front_of, fronts_of, measured
from tests.storage.records import measurement, new_study, new_trial


def trial(number: int, gflops: float, n_right: int | None, **changes) -> TrialRecord:
    state = TrialState.COMPLETE if n_right is not None else TrialState.FAILED
    found = None if n_right is None else measurement(n_right)
    return TrialRecord(**vars(new_trial(number, gflops)) | {"state": state, "measurement": found} | changes)


TRIALS = [
    trial(0, 2.0, 20),
    trial(1, 2.5, 30),
    trial(2, 2.6, 30),
    trial(3, 3.0, 35),
    trial(4, 2.9, None),
    trial(5, 1.0, 40, state=TrialState.RUNNING),
    trial(6, 2.5, 30, duplicate_of=1),
]


def test_only_complete_candidates_count_and_each_once():
    assert [found.number for found in measured(new_study(), TRIALS)] == [0, 1, 2, 3]


def test_the_front_has_no_trial_that_another_beats():
    assert [found.number for found in front_of(new_study(), TRIALS)] == [0, 1, 3]


def test_each_method_has_the_front_that_it_would_have_alone():
    methods = {0: "tome", 1: "bat", 2: "tome", 3: "bat"}
    trials = [replace(found, method=methods.get(found.number, "tome")) for found in TRIALS]
    fronts = fronts_of(new_study(method="tome+bat+ats"), trials)
    assert list(fronts) == ["tome", "bat", "ats"]
    assert {method: [found.number for found in front] for method, front in fronts.items()} == {
        "tome": [0, 2],
        "bat": [1, 3],
        "ats": [],
    }


def test_the_best_has_the_highest_metric_and_of_equals_costs_least():
    assert best_of(new_study(), TRIALS).number == 3
    assert best_of(new_study(), TRIALS, 2.7).number == 1
    assert best_of(new_study(), TRIALS, 0.5) is None


@pytest.fixture
def study(tmp_path):
    with Store(f"sqlite:///{tmp_path}/test.db", create=True) as store:
        record = store.create_study(new_study())
        store.add_measurement(record.id, None, MeasurementKind.SEARCH, measurement(38))
        for found in TRIALS[:4]:
            store.add_trial(record.id, new_trial(found.number, found.gflops))
            store.finish_trial(record.id, found.number, found.measurement, "w")
        yield RememberedStudy(store, store.study("first"))


def test_a_budget_narrows_the_best(study):
    assert study.best().number == 3
    assert study.best("2.7").number == 1
    assert study.best("45%").number == 0
    with pytest.raises(InvalidInput, match=r"no complete trial within 0\.5 GFLOPs yet"):
        study.best("0.5")


def test_trials_are_compared_on_the_images_they_share(study):
    comparison, kind = study.compare(3, "dense")
    assert kind is MeasurementKind.SEARCH
    assert (comparison.only_first, comparison.only_second) == (0, 3)
    assert comparison.difference_pct == pytest.approx(-7.5)


def test_confirmed_trials_are_compared_on_unseen_images(study):
    study._store.add_measurement(study._id, None, MeasurementKind.CONFIRM, measurement(10, image_list_hash="c"))
    study._store.add_measurement(study._id, 3, MeasurementKind.CONFIRM, measurement(12, image_list_hash="c"))
    comparison, kind = study.compare(3, "dense")
    assert kind is MeasurementKind.CONFIRM
    assert comparison.only_first == 2
    assert study.compare(3, 1)[1] is MeasurementKind.SEARCH  # trial 1 was not confirmed


def test_measurements_on_other_images_are_not_compared(study):
    other = study._store.create_study(new_study("second"))
    study._store.add_trial(other.id, new_trial(0))
    study._store.finish_trial(other.id, 0, measurement(5, image_list_hash="other"), "w")
    with pytest.raises(InvalidInput, match="measured on the same images"):
        study.compare(3, 0, other=RememberedStudy(study._store, other))


@pytest.mark.parametrize("ending", ["json", "yaml"])
def test_an_exported_layout_reads_back_with_its_numbers(study, tmp_path, ending):
    path = tmp_path / f"best.{ending}"
    assert study.export(path).number == 3
    document = json.loads(path.read_text()) if ending == "json" else yaml.safe_load(path.read_text())
    assert parse_layout(document) == parse_layout(study.trial(3).config)
    assert document["measured"]["searched"]["top1_pct"] == 87.5
    assert document["measured"]["searched"]["n_images"] == 40
    assert document["model"] == {"name": "deit_small_patch16_224", "weights_digest": "w" * 16}
    assert document["study"]["trial"] == 3


def test_another_ending_is_refused(study, tmp_path):
    with pytest.raises(InvalidInput, match=r"\.json or \.yaml file, got .*best\.toml"):
        study.export(tmp_path / "best.toml")


def test_a_file_is_written_whole_or_not_at_all(tmp_path):
    target = tmp_path / "folder.json"
    target.mkdir()
    with pytest.raises(PrunefrontError, match="cannot write"):
        write_text("text", target)
    assert [path.name for path in tmp_path.iterdir()] == ["folder.json"]
    with pytest.raises(PrunefrontError, match="cannot write"):
        write_layout({}, tmp_path / "missing" / "x.json")


def test_a_table_of_the_front_has_one_row_a_trial(study):
    rows = list(csv.DictReader(io.StringIO(table_of(study.front(), "top1"))))
    assert [int(row["trial"]) for row in rows] == [0, 1, 3]
    assert float(rows[2]["top1"]) == 87.5
    assert float(rows[2]["top1_low"]) < 87.5 < float(rows[2]["top1_high"])
    assert json.loads(rows[0]["config"])["method"] == "zero_tprune"


def test_the_dataframe_has_costs_metrics_and_settings(study):
    table = study.trials_dataframe()
    assert table["number"].tolist() == [0, 1, 2, 3]
    assert table["top1_pct"].tolist() == [50.0, 75.0, 75.0, 87.5]
    assert (table["top1_pct_low"] < table["top1_pct"]).all()
    assert table["config_after"].tolist() == [[3, 6]] * 4


def test_an_exported_document_is_plain_json(study):
    text = json.dumps(study.layout(study.trial(0)), allow_nan=False)
    assert json.loads(text)["format"] == "prunefront-layout"


def test_the_state_of_a_study_is_described(study):
    described = study.describe()
    assert described["trials"] == {"complete": 4}
    assert (described["best"], described["n_trials"], described["driver"]) == (3, 200, None)
