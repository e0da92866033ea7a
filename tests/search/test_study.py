from __future__ import annotations

import json
import sys
from importlib import metadata

import pytest
import timm
import torch

from dashboard import plot_front
from objectives.diagnosis import DenseTooLow
from pruning import prune, pruned
from search import Execution, SearchSettings, Study
from search.interruption import Interrupted
from spaces import BudgetUnsatisfiable, InvalidInput, PrunefrontError, UnsupportedModel, parse_layout
from storage import MeasurementKind, StudyState, TrialState

LOCAL = Execution(executor="local")


@pytest.fixture(scope="module")
def finished(place, tmp_path_factory):
    db = f"sqlite:///{tmp_path_factory.mktemp('finished')}/test.db"
    with Study.create(n_trials=25, db=db, **place.settings(budget="50%:90%")) as study:
        study.run(execution=LOCAL)
        study.confirm(execution=LOCAL)
        yield study


def test_the_whole_way_from_settings_to_a_pruned_model(finished, place, tmp_path):
    record = finished.record
    assert record.state is StudyState.FINISHED
    assert {trial.state for trial in finished.trials()} <= {TrialState.COMPLETE, TrialState.STOPPED}
    front = finished.front()
    assert len(front) >= 3
    costs, values = zip(*((t.gflops, t.measurement.values["top1_pct"].value) for t in front), strict=True)
    assert list(costs) == sorted(costs)
    assert list(values) == sorted(values)
    assert all(0.95 * record.budget_low_gflops <= cost <= record.budget_high_gflops for cost in costs)

    finished.export(tmp_path / "best.json")
    model = timm.create_model(place.model, pretrained=True).eval()
    inputs = torch.randn(2, 3, 32, 32)
    with pruned(model, parse_layout(finished.best().config)):
        expected = model(inputs)
    torch.testing.assert_close(prune(model, tmp_path / "best.json")(inputs), expected)


def test_the_front_is_confirmed_on_images_that_the_search_never_saw(finished):
    record = finished.record
    assert record.provenance.search_list_hash != record.provenance.confirm_list_hash
    for trial in finished.front():
        assert trial.measurement.image_list_hash == record.provenance.search_list_hash
        assert trial.confirmation.image_list_hash == record.provenance.confirm_list_hash
    dense = finished.dense(MeasurementKind.CONFIRM)
    assert dense.image_list_hash == record.provenance.confirm_list_hash
    comparison, kind = finished.compare(finished.best().number, "dense")
    assert (kind, comparison.n_images) == (MeasurementKind.CONFIRM, 40)


def test_confirming_again_measures_nothing_again(finished):
    before = [trial.confirmation for trial in finished.front()]
    assert [trial.confirmation for trial in finished.confirm()] == before


def test_other_trials_can_be_confirmed_by_number(finished):
    number = next(trial.number for trial in finished.trials() if trial.confirmation is None)
    (confirmed,) = finished.confirm([number], execution=LOCAL)
    assert confirmed.number == number
    assert confirmed.confirmation is not None


def test_the_dataframe_and_the_figure_are_made_from_the_study(finished):
    table = finished.trials_dataframe()
    assert len(table) == 25
    assert table["confirmed_top1_pct"].notna().sum() >= len(finished.front())
    assert len(plot_front(finished).data) >= 4


def test_provenance_is_kept(finished, place):
    provenance = finished.record.provenance
    assert provenance.versions["torch"] == metadata.version("torch")
    assert len(provenance.weights_digest) == 16
    assert finished.changed_versions() == []
    assert finished.settings.model.name == place.model


def test_settings_survive_the_store(place, db):
    settings = SearchSettings.parse(
        place.settings(precision="auto", space={"s": 0, "keep_rate": {"kind": "float", "low": 0.5, "high": 0.9}})
    )
    study = Study.create(settings, n_trials=3, db=db)
    remembered = Study.open("small", db=db).settings
    assert remembered.precision in ("float32", "bfloat16")  # found by measurement
    assert remembered.model_copy(update={"precision": "auto", "sampler": "auto"}) == settings
    study.run(execution=LOCAL)
    assert all(set(trial.config["s"]) == {0} for trial in study.trials())


def test_agreement_needs_no_labels(place, db):
    settings = place.settings(metric="agreement")
    del settings["data"]["labels"]
    study = Study.create(n_trials=5, db=db, **settings)
    study.run(execution=LOCAL)
    assert set(study.best().measurement.values) == {"agreement_pct", "kl_nats"}
    assert study.compare(study.best().number, "dense")[0].only_first == 0


def test_by_default_half_of_a_small_data_set_is_searched_on(place, db):
    settings = place.settings()
    for name in ("n_search", "n_confirm"):
        del settings["data"][name]
    said = []
    Study.create(n_trials=1, db=db, say=said.append, **settings)
    assert any("45 to search on, 45 others to confirm on" in line for line in said)
    assert any("satisfiable: layouts of this space cost" in line for line in said)


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"budget": "1%"}, BudgetUnsatisfiable, "layouts of this space cost"),
        ({"budget": "much"}, InvalidInput, "a budget is"),
        ({"expect_top1": 99.9}, DenseTooLow, "not the 99.9 % expected"),
        ({"metric": "top5"}, InvalidInput, "metric"),
        ({"sampler": "magic"}, InvalidInput, "sampler"),
        ({"study": "a name/with strokes"}, InvalidInput, "study"),
        ({"preset": "huge"}, InvalidInput, "presets of zero_tprune are paper, full"),
        ({"space": {"keeprate": 1}}, InvalidInput, "did you mean keep_rate"),
        ({"space": {"n_layers": 9}}, InvalidInput, "has 6 blocks"),
        ({"device": "cuda"}, InvalidInput, "torch finds no GPU"),
        ({"model": {"name": "nothing"}}, InvalidInput, "nothing"),
    ],
)
def test_what_cannot_be_searched_is_refused_and_nothing_is_written(place, tmp_path, changes, error, message):
    if changes.get("device") == "cuda" and torch.cuda.is_available():
        pytest.skip("there is a GPU here")
    with pytest.raises(error, match=message) as raised:
        Study.create(n_trials=3, db=f"sqlite:///{tmp_path}/none.db", **place.settings(**changes))
    assert "\n" not in str(raised.value)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("counts", "message"),
    [
        ({"n_search": 91}, "91 search images are asked for, but the data has 90"),
        ({"n_search": 60, "n_confirm": 31}, "60 search and 31 confirm images are asked for"),
    ],
)
def test_fewer_images_than_asked_for_is_refused(place, db, counts, message):
    settings = place.settings()
    settings["data"] |= {"n_confirm": 0} | counts
    with pytest.raises(InvalidInput, match=message):
        Study.create(n_trials=3, db=db, **settings)


def test_a_taken_name_is_refused_before_anything_is_loaded(place, db):
    Study.create(n_trials=1, db=db, **place.settings())
    with pytest.raises(InvalidInput, match=r"there is a study 'small' .* already"):
        Study.create(n_trials=1, db=db, **place.settings(model={"name": "no such model"}))


def test_changed_weights_or_images_are_noticed_on_resume(place, db, tmp_path):
    import shutil

    copy = tmp_path / "model"
    shutil.copytree(place.model.removeprefix("local-dir:"), copy)
    Study.create(n_trials=3, db=db, **place.settings(model={"name": f"local-dir:{copy}"}))
    model = timm.create_model(f"local-dir:{copy}", pretrained=True)
    with torch.no_grad():
        model.head.bias.add_(0.5)
    import safetensors.torch

    safetensors.torch.save_file(model.state_dict(), copy / "model.safetensors")
    with pytest.raises(PrunefrontError, match="the weights of study 'small' have changed since it began"):
        Study.open("small", db=db).run(execution=LOCAL)


def test_a_study_without_confirm_images_says_so(place, db):
    settings = place.settings()
    settings["data"] |= {"n_confirm": 0}
    study = Study.create(n_trials=3, db=db, **settings)
    study.run(execution=LOCAL)
    with pytest.raises(InvalidInput, match="keeps no images to confirm on"):
        study.confirm(execution=LOCAL)


def test_only_complete_trials_are_confirmed(place, db):
    study = Study.create(n_trials=3, db=db, **place.settings())
    with pytest.raises(InvalidInput, match="only complete trials can be confirmed"):
        study.confirm(execution=LOCAL)


def test_the_same_seed_gives_the_same_search_twice(place, tmp_path):
    tables = []
    for name in ("one", "two"):
        study = Study.create(n_trials=10, db=f"sqlite:///{tmp_path}/{name}.db", **place.settings())
        study.run(execution=LOCAL)
        tables.append(
            json.dumps(
                [[t.params, t.config, t.measurement.values["top1_pct"].value] for t in study.trials()], default=str
            )
        )
    assert tables[0] == tables[1]


def test_a_duplicate_is_confirmed_with_the_trial_it_equals(place, db):
    space = {"n_layers": 1, "after": [2], "keep_rate": {"kind": "float", "low": 0.79, "high": 0.8}, "s": 0}
    with Study.create(n_trials=12, db=db, **place.settings(budget="95%", sampler="random", space=space)) as study:
        study.run(execution=LOCAL)
        duplicate = next(trial for trial in study.trials() if trial.duplicate_of is not None)
        (confirmed,) = study.confirm([duplicate.number], execution=LOCAL)
        assert confirmed.number == duplicate.number
        assert confirmed.confirmation is not None
        assert study.trial(duplicate.duplicate_of).confirmation == confirmed.confirmation
        again = study.confirm([duplicate.number, duplicate.duplicate_of], execution=LOCAL)
        assert [trial.confirmation for trial in again] == [confirmed.confirmation] * 2


def test_a_run_that_was_stopped_leaves_nothing_to_the_next_in_the_same_with(place, db):
    with Study.create(n_trials=10, db=db, **place.settings(race=False)) as study:
        asked = iter([False, False, True])
        with pytest.raises(Interrupted):
            study.run(execution=LOCAL, stop_requested=lambda: next(asked))
        progress = study.run(execution=LOCAL)
        assert progress.n_complete == 10
        assert study.record.state is StudyState.FINISHED
        assert {trial.state for trial in study.trials()} == {TrialState.COMPLETE}
        assert {trial.measurement.n_images for trial in study.trials()} == {40}


def test_a_mistake_leaves_a_finished_study_finished(place, db):
    study = Study.create(n_trials=4, db=db, **place.settings())
    study.run(execution=LOCAL)
    with pytest.raises(InvalidInput, match="4 trials were proposed already"):
        study.run(n_trials=2, execution=LOCAL)
    with pytest.raises(InvalidInput, match="workers cannot be kept busy"):
        study.run(execution=Execution(n_workers=9))
    assert study.record.state is StudyState.FINISHED


def test_a_finished_study_starts_no_workers(place, db):
    study = Study.create(n_trials=4, db=db, **place.settings())
    study.run(execution=LOCAL)
    before = [trial.finished_at for trial in study.trials()]
    assert study.run(execution=Execution(executor="ray", n_workers=2)).n_complete == 4
    assert "ray" not in sys.modules or not sys.modules["ray"].is_initialized()
    assert [trial.finished_at for trial in study.trials()] == before
    assert study.record.state is StudyState.FINISHED


def test_the_best_is_asked_for_within_one_budget(finished):
    with pytest.raises(InvalidInput, match="within one budget"):
        finished.best("50%:90%")


# Several methods

BOTH = ("zero_tprune", "random_drop")


@pytest.fixture(scope="module")
def of_both(place, tmp_path_factory):
    db = f"sqlite:///{tmp_path_factory.mktemp('both')}/test.db"
    settings = place.settings(budget="50%:90%", method=BOTH, race=False, space={"zero_tprune.s": 2, "min_tokens": 2})
    with Study.create(n_trials=14, db=db, **settings) as study:
        study.run(execution=LOCAL)
        yield study


def test_one_search_measures_layouts_of_several_methods(of_both):
    record, trials = of_both.record, of_both.trials()
    assert (record.method, record.methods) == ("zero_tprune+random_drop", BOTH)
    assert of_both.settings.method == BOTH
    assert {trial.method for trial in trials} == set(BOTH)
    assert all(trial.method == trial.config["method"] == trial.params["method"] for trial in trials)
    assert len({frozenset(trial.params) for trial in trials}) == 1
    for trial in trials:
        assert trial.config["min_tokens"] == 2
        assert trial.method == "random_drop" or set(trial.config["s"]) <= {0, 1, 2}
    for method, front in of_both.fronts().items():
        assert {trial.method for trial in front} == {method}


def test_a_search_over_several_methods_is_resumed_where_it_stood(of_both, place, db):
    settings = of_both.settings.model_copy(update={"study": "again"})
    with Study.create(settings, n_trials=8, db=db) as study:
        study.run(execution=LOCAL)
    with Study.open("again", db=db) as study:
        study.run(n_trials=14, execution=LOCAL)
        assert [trial.params for trial in study.trials()] == [trial.params for trial in of_both.trials()]


def test_the_settings_of_one_method_are_kept_as_they_always_were(place):
    for method in ("zero_tprune", ["zero_tprune"]):
        stored = SearchSettings.parse(place.settings(method=method)).model_dump(mode="json")
        assert stored["method"] == "zero_tprune"
        assert SearchSettings.parse(stored).method == "zero_tprune"
    assert SearchSettings.parse(place.settings()).model_dump()["method"] == "zero_tprune"


def test_a_method_out_of_the_budget_is_said_and_not_searched(place, db):
    said = []
    space = {"zero_tprune.s": 0, "random_drop": {"keep_rate": {"kind": "float", "low": 0.95, "high": 1.0}}}
    study = Study.create(n_trials=2, db=db, say=said.append, **place.settings(method=BOTH, space=space))
    assert any(line.startswith("random_drop is left out: the budget of") for line in said)
    assert study.record.method == "zero_tprune"
    assert Study.open("small", db=db).settings.space == {"zero_tprune.s": 0}
    study.run(execution=LOCAL)
    assert all("n_layers" in trial.params and set(trial.config["s"]) == {0} for trial in study.trials())


def test_methods_that_have_become_other_ones_are_noticed_on_resume(of_both, monkeypatch):
    def not_for_this_model(*_):
        raise UnsupportedModel("not for this model")

    monkeypatch.setattr("spaces.random_drop.RandomDropSpace.extremes", not_for_this_model)
    with pytest.raises(PrunefrontError, match=r"the methods of study 'small' have changed .*zero_tprune\+random_drop"):
        Study(of_both._store, of_both.record).run(execution=LOCAL)


def test_settings_that_no_method_has_are_refused_before_anything_is_loaded(place, db):
    with pytest.raises(InvalidInput, match=r"say whose, such as zero_tprune\.s"):
        Study.create(n_trials=2, db=db, **place.settings(method=BOTH, space={"s": 3}))
    with pytest.raises(InvalidInput, match="the methods are zero_tprune"):
        SearchSettings.parse(place.settings(method="magic"))
