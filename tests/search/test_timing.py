"""Latency as a cost: what is timed, what it decides, and where it cannot be."""

from __future__ import annotations

import csv
import io
import json
from dataclasses import replace

import pytest
from click.testing import CliRunner

from objectives import layout_latency
from objectives.latency import machine_at_hand
from objectives.statistics import Estimate
from pruning.apply import read_architecture
from search import Execution, SearchSettings, Study
from search.cli.main import cli
from search.feasibility import cost_told, overrun
from search.optuna_export import export_to_optuna
from spaces import InvalidInput, LatencyBudget, PrunefrontError, dense_cost
from storage import TrialState
from storage.axis import axis_of, timing_of
from storage.export import table_of
from storage.integrity import problems
from tests.search.test_feasibility import PROBLEM, costing
from tests.search.test_loop import LOCAL, create
from tests.storage.records import measurement, new_study, timed, timing_spec

TIMING = timing_of(new_study(spec=timing_spec(4.0, 6.0)))


@pytest.fixture(scope="module", autouse=True)
def timing_takes_little_time():
    """Time for as many rounds as are asked for at least, and no longer."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(layout_latency, "_SECONDS", 0.0)
        patch.setattr(layout_latency, "_BATCH_SECONDS", 0.0)
        yield


@pytest.fixture(scope="module")
def over_latency(place, tmp_path_factory):
    """A front over latency, under no other budget."""
    db = f"sqlite:///{tmp_path_factory.mktemp('timed')}/front.db"
    said = []
    study = Study.create(n_trials=8, db=db, say=said.append, **{**place.settings(cost="latency_ms"), "budget": "100%"})
    return study, study.run(execution=LOCAL), said


def test_a_front_over_latency_has_nothing_that_another_beats_in_ms(over_latency):
    study, progress, _ = over_latency
    complete = [trial for trial in study.trials() if trial.state is TrialState.COMPLETE]
    assert progress.n_complete == len(complete) == 8
    latencies = [trial.measurement.latency_ms for trial in complete]
    assert all(0 < found.low <= found.value <= found.high for found in latencies)
    assert all(trial.measurement.values["batch_latency_ms"].value > 0 for trial in complete)
    front = study.front()
    ms = [trial.measurement.latency_ms.value for trial in front]
    top1 = [trial.measurement.values["top1_pct"].value for trial in front]
    assert ms == sorted(ms)
    assert top1 == sorted(set(top1))
    assert ms[0] == min(found.value for found in latencies)
    axis = axis_of(study.record)
    assert (axis.cost, axis.is_objective, axis.high) == ("latency_ms", True, None)


def test_layouts_of_a_front_over_latency_are_spread_over_all_that_they_can_cost(over_latency):
    study, *_ = over_latency
    gflops = [trial.gflops for trial in study.trials()]
    assert study.record.budget_high_gflops == study.record.dense_gflops
    assert study.record.budget_low_gflops <= min(gflops) < 0.8 * max(gflops)
    assert all("target_gflops" in trial.params for trial in study.trials())


def test_the_dense_model_is_timed_first_and_it_is_said_on_what(over_latency):
    study, _, said = over_latency
    timing, here = timing_of(study.record), machine_at_hand("cpu", 1)
    assert timing.machine == here
    assert study.dense().latency_ms.value == timing.dense_ms
    (line,) = (line for line in said if line.startswith("latency:"))
    assert line.endswith(f"on {here}, {here.runtime}")
    assert study.describe()["timing"]["machine"]["processor"] == here.processor


def unconfirmed(study: Study) -> int:
    """Find a trial to confirm: where the front lies is a matter of some microseconds."""
    trials = (trial for trial in study.trials() if trial.duplicate_of is None and trial.confirmation is None)
    return next(trial.number for trial in trials if trial.state is TrialState.COMPLETE)


def test_what_is_confirmed_is_timed_again(over_latency):
    study, *_ = over_latency
    (confirmed,) = study.confirm([unconfirmed(study)], execution=LOCAL)
    assert confirmed.confirmation.latency_ms != confirmed.measurement.latency_ms
    row = next(csv.DictReader(io.StringIO(table_of([confirmed], "top1"))))
    assert float(row["latency_ms_low"]) <= float(row["latency_ms"]) <= float(row["latency_ms_high"])
    assert float(row["confirmed_latency_ms"]) == confirmed.confirmation.latency_ms.value
    assert list(problems(study._store._engine)) == []


def test_an_exported_layout_says_what_it_was_timed_on(over_latency, tmp_path):
    study, *_ = over_latency
    trial = study.export(tmp_path / "best.json")
    document = json.loads((tmp_path / "best.json").read_text())
    latency = trial.measurement.latency_ms
    assert document["measured"]["searched"]["latency_ms_interval"] == [latency.low, latency.high]
    assert document["timed_on"]["processor"] == machine_at_hand("cpu", 1).processor


def test_optuna_gets_the_latency_as_what_is_minimised(over_latency, tmp_path):
    import optuna

    study, *_ = over_latency
    export_to_optuna(study, f"sqlite:///{tmp_path}/optuna.db")
    exported = optuna.load_study(study_name="small", storage=f"sqlite:///{tmp_path}/optuna.db")
    assert exported.metric_names == ["top1_pct", "latency_ms"]
    assert [trial.values[1] for trial in exported.trials] == [
        (trial if trial.duplicate_of is None else study.trial(trial.duplicate_of)).measurement.latency_ms.value
        for trial in study.trials()
    ]


def test_on_another_machine_a_search_does_not_go_on(over_latency, monkeypatch):
    study, *_ = over_latency
    other = replace(machine_at_hand("cpu", 1), processor="another CPU")
    monkeypatch.setattr("search.timing.machine_at_hand", lambda device, threads: other)
    with pytest.raises(PrunefrontError, match=r"and this is another CPU, 1 thread, .*: they could not"):
        study.run(n_trials=10, execution=LOCAL)
    said = []
    (confirmed,) = study.confirm([unconfirmed(study)], execution=LOCAL, say=said.append)
    assert confirmed.confirmation.latency_ms is None
    assert "latencies are not measured again: that takes --executor local, on" in said[0]


def test_a_machine_that_became_slower_is_told_of(over_latency, monkeypatch, tmp_path):
    study, *_ = over_latency
    slower = replace(timing_of(study.record), dense_ms=timing_of(study.record).dense_ms / 100)
    monkeypatch.setattr("search.timing.timing_of", lambda record: slower)
    said = []
    opened = Study.open("small", db=study._store.url)
    opened.run(n_trials=9, execution=LOCAL, say=said.append)
    assert any("note: the dense model takes" in line for line in said)
    assert opened.describe()["trials"]["complete"] == 9


@pytest.fixture(scope="module")
def within_ms(place, tmp_path_factory):
    """The best within 60 % of the dense model's latency, by a clock that goes with the GFLOPs and never scatters."""

    def time(self, config, batch_size):
        ms = 1e4 * (dense_cost if config is None else config.cost)(read_architecture(self._model, "model")).gflops
        return {"latency_ms": Estimate(ms, 0.99 * ms, 1.01 * ms)}

    db = f"sqlite:///{tmp_path_factory.mktemp('within')}/best.db"
    settings = {name: value for name, value in place.settings(budget_ms="60%").items() if name != "budget"}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(layout_latency.LayoutTimer, "time", time)
        study = Study.create(**settings, n_trials=16, db=db)
        return study, study.run(execution=LOCAL)


def test_what_takes_longer_than_the_budget_is_infeasible_and_never_best(within_ms):
    study, progress = within_ms
    limit = timing_of(study.record).budget.high_ms
    assert limit == pytest.approx(0.6e4 * study.record.dense_gflops)
    trials = study.trials()
    over = [trial for trial in trials if trial.state is TrialState.INFEASIBLE]
    within = [trial for trial in trials if trial.state is TrialState.COMPLETE]
    assert progress.n_infeasible == len(over) > 0
    assert progress.n_complete == len(within) > 0
    assert len(over) + len(within) == 16
    assert all(1.01e4 * trial.gflops > limit for trial in over)
    assert all(1.01e4 * trial.gflops <= limit for trial in within)
    assert list(problems(study._store._engine)) == []
    best = max(trial.measurement.values["top1_pct"].value for trial in within)
    assert study.best().measurement.values["top1_pct"].value == best
    assert not {trial.number for trial in [*study.front(), study.best()]} & {trial.number for trial in over}
    late = over[0].number
    with pytest.raises(InvalidInput, match=rf"trial {late} takes .* ms an image on .*, over the budget of .* ms"):
        study.export("layout.json", late)
    with pytest.raises(InvalidInput, match="only complete trials can be confirmed"):
        study.confirm([late], execution=LOCAL)


def test_one_best_layout_within_ms_is_looked_for_at_every_cost(within_ms):
    study, _ = within_ms
    axis = axis_of(study.record)
    assert (axis.cost, axis.is_objective) == ("latency_ms", False)
    assert len({trial.params["target_gflops"] for trial in study.trials()}) > 8
    assert study.best().gflops < 0.6 * study.record.dense_gflops


def test_what_is_over_the_budget_is_so_after_a_restart(within_ms):
    study, _ = within_ms
    again = Study.open("small", db=study._store.url)
    restored = again.run(execution=LOCAL)  # nothing is left to do: what was told is read from the rows
    assert (restored.n_infeasible, restored.n_complete) == (within_ms[1].n_infeasible, within_ms[1].n_complete)
    assert restored.best[0] == within_ms[1].best[0]


# What is told, and what fits


def test_a_latency_over_the_budget_is_told_in_ms_beside_what_is_over_in_gflops():
    late = timed(measurement(20), 6.5)
    assert overrun(late, PROBLEM, TIMING) == pytest.approx(0.6)
    assert overrun(timed(costing(2.8, 2.95, 3.1), 6.5), PROBLEM, TIMING) == pytest.approx(0.6 + 0.1)
    assert overrun(timed(measurement(20), 5.5), PROBLEM, TIMING) == 0
    assert overrun(late, PROBLEM) == 0


@pytest.mark.parametrize(
    ("timing", "told"),
    [
        (None, 2.0),
        (replace(TIMING, is_objective=False), 2.0),
        (TIMING, 5.0),
        (replace(TIMING, budget=LatencyBudget(5.5, 6.0)), 5.5),
        (replace(TIMING, budget=None), 5.0),
    ],
)
def test_a_sampler_minimises_what_is_the_objective_and_nothing_below_the_range(timing, told):
    assert cost_told(2.0, timed(measurement(20), 5.0), timing) == told
    assert cost_told(2.0, None, timing) == 2.0


def settings(**changes) -> SearchSettings:
    return SearchSettings.parse({"study": "s", "model": "m", "data": "d", **changes})


def test_latency_has_its_own_defaults():
    front = settings(cost="latency_ms")
    assert (front.budget, front.race, front.times_latency, front.is_front) == ("100%", False, True, True)
    best = settings(budget_ms="5")
    assert (best.cost, best.times_latency, best.is_front) == ("gflops", True, False)
    assert settings(budget_ms="4:6").cost == "latency_ms"
    both = settings(budget="50%:90%", budget_ms="5")
    assert (both.cost, both.is_front) == ("gflops", True)
    assert settings(**front.model_dump()) == front


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        ({"cost": "latency_ms", "race": True}, "what a race stops is not timed.*--no-race"),
        ({"budget_ms": "soon"}, "a budget in ms is 4.5, 65%"),
        ({"budget_ms": "6:4"}, "a budget range goes from less to more"),
        ({}, "budget: Field required"),
    ],
)
def test_what_does_not_fit_latency_is_refused(changes, match):
    with pytest.raises(InvalidInput, match=match):
        settings(**changes)


@pytest.mark.parametrize("executor", ["ray", "tune"])
def test_other_workers_are_refused_before_anything_is_loaded(place, db, executor):
    execution = Execution(executor=executor)
    with pytest.raises(InvalidInput, match="other workers would: search with --executor local"):
        execution.require_suits(settings(budget_ms="5"))
    execution.require_suits(settings(budget="65%"))
    with pytest.raises(InvalidInput, match="--executor local"):
        create(place, db, cost="latency_ms", execution=execution)


def test_a_candidate_that_cannot_be_timed_is_a_failed_trial(place, db, monkeypatch):
    study = create(place, db, n_trials=2, cost="latency_ms")
    time = layout_latency.LayoutTimer.time

    def fail(self, config, batch_size):
        if config is not None:
            raise RuntimeError("no clock")
        return time(self, config, batch_size)

    monkeypatch.setattr(layout_latency.LayoutTimer, "time", fail)
    study.run(execution=LOCAL)
    assert [(trial.state, trial.error) for trial in study.trials()] == [
        (TrialState.FAILED, "RuntimeError: no clock")
    ] * 2


# The command line


def run(*arguments) -> tuple[int, str, str]:
    result = CliRunner().invoke(cli, [str(argument) for argument in arguments], prog_name="prunefront")
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result.exit_code, result.stdout, result.stderr


def searching(place, folder, *more) -> list:
    return [
        "search", "--model", place.model, "--data", place.data, "--labels", place.labels, "--images", "40",
        "--confirm-images", "20", "--trials", "5", "--look-ahead", "4", "--device", "cpu", "--study", "small",
        "--db", f"sqlite:///{folder}/test.db", "--output", f"{folder}/small.json", *more,
    ]  # fmt: skip


def test_a_search_over_latency_prints_it_with_its_interval_and_on_what(place, tmp_path):
    code, out, err = run(*searching(place, tmp_path, "--objective", "agreement,latency_ms", "--executor", "local"))
    assert code == 0, err
    here = machine_at_hand("cpu", 1)
    assert f"on {here}, {here.runtime}" in err
    assert " ms, 40 images" in err
    assert "ms, searched" in out
    assert "ms, again" in out
    assert f"ms: of one image, the median with its 95 % interval, on {here}" in out
    at = ["--db", f"sqlite:///{tmp_path}/test.db"]
    found = json.loads(run("front", "small", "--json", *at)[1])
    assert (found["cost"], found["metric"]) == ("latency_ms", "agreement_pct")
    assert found["timing"]["machine"]["threads"] == 1
    costs = [trial["measured"]["latency_ms"] for trial in found["front"]]
    assert costs == sorted(costs)
    assert run("front", "small", "--html", tmp_path / "front.html", *at)[0] == 0
    assert "latency of one image (ms" in (tmp_path / "front.html").read_text()
    assert f"medians with 95 % intervals, on {here}" in run("show", "small", found["front"][0]["trial"], *at)[1]
    status = run("status", "small", *at)[1]
    assert "budget: none; dense " in status
    assert f"ms, on {here}" in status
    code, _, err = run("resume", "small", "--trials", "6", "--output", tmp_path / "small.json", *at)
    assert (code, "search with --executor local" in err) == (2, True)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--objective", "top1,latency_ms"], "other workers would: search with --executor local"),
        (["--objective", "top1,watts"], "--objective is top1, agreement, miou, with gflops or latency_ms behind"),
        (["--objective", "speed"], "--objective is top1, agreement, miou"),
        (["--objective", "top1", "--metric", "agreement"], "contradict each other"),
        (["--objective", "top1,gflops", "--budget", "65%"], "a front over GFLOPs is searched over a range"),
        ([], "say what a layout may cost: --budget"),
        (["--budget-ms", "fast"], "a budget in ms is"),
    ],
)
def test_what_is_asked_for_wrongly_is_refused_in_one_line(place, tmp_path, options, said):
    code, _, err = run(*searching(place, tmp_path, *options))
    assert code == 2
    assert said in err
    assert len(err.strip().splitlines()) == 1
