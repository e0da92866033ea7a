from __future__ import annotations

import base64

import numpy as np
import pytest

from dashboard.front_figure import Look, front_figure, growth
from dashboard.snapshot import History, StudySnapshot
from dashboard.theme import LIGHT
from objectives.pareto import front, hypervolume
from storage import MeasurementKind, Store, TrialState
from storage.results import front_of, measured
from tests.storage.records import measurement, new_study, new_trial, timed, timing_spec


@pytest.fixture
def store(tmp_path):
    with Store(f"sqlite:///{tmp_path}/test.db", create=True) as made:
        yield made


@pytest.fixture
def study(store):
    return store.create_study(new_study(metric="top1"))


def search(store, study, first: int, n: int) -> None:
    """Add trials as a search does, with all that may become of them."""
    random = np.random.default_rng(first)
    for number in range(first, first + n):
        equal = number - 2 if number % 7 == 6 else None
        store.add_trial(study.id, new_trial(number, float(random.uniform(1, 3)), duplicate_of=equal))
    for number in range(first, first + n - 1):  # the last one still runs
        if number % 7 == 6:
            store.finish_trial(study.id, number, None, None)
        elif number % 5 == 4:
            store.finish_trial(study.id, number, measurement(3, n_images=8), "w", lost_to=0)
        elif number % 11 == 10:
            store.fail_trial(study.id, number, "NaN", "", "w")
        else:
            store.finish_trial(study.id, number, measurement(int(random.integers(5, 40))), "w")


def test_a_snapshot_that_follows_a_search_sees_what_reading_everything_does(store, study):
    followed = StudySnapshot(store, study)
    for part in range(4):
        search(store, study, 20 * part, 20)
        store.finish_trial(study.id, 20 * part + 19, measurement(part), "w")
        if part == 2:
            store.add_measurement(study.id, 0, MeasurementKind.CONFIRM, measurement(17))
        followed.refresh()
        trials = store.trials(study.id)
        assert [point.number for point in followed.front] == [trial.number for trial in front_of(new_study(), trials)]
        known = {trial.number: trial for trial in measured(new_study(), trials)}
        assert {point.number for point in followed.measured} == known.keys()
        for point in followed.measured:
            assert point.estimate == known[point.number].measurement.values["top1_pct"]
            assert point.cost == known[point.number].gflops
        stopped = {t.number for t in trials if t.state is TrialState.STOPPED and t.duplicate_of is None}
        assert {point.number for point in followed.stopped} == stopped
        assert followed.counts == store.count_trials(study.id)
    assert followed.confirmed[0].value == measurement(17).values["top1_pct"].value
    fresh = StudySnapshot(store, study)
    fresh.refresh()
    assert fresh.front == followed.front
    assert {point.number for point in fresh.measured} == {point.number for point in followed.measured}


def test_a_trials_point_is_found_by_its_number(store, study):
    search(store, study, 0, 20)
    snapshot = StudySnapshot(store, study)
    snapshot.refresh()
    for point in (*snapshot.measured, *snapshot.stopped):
        assert snapshot.point(point.number) is point
    assert snapshot.point(6) is None, "it equals trial 4"
    assert snapshot.point(19) is None, "it still runs"


@pytest.mark.parametrize("colour", [None, "method", "trial", "v_min", "feature"])
def test_what_a_figure_lacked_makes_it_the_figure_drawn_anew(store, study, colour):
    search(store, study, 0, 30)
    snapshot, look = StudySnapshot(store, study), Look(LIGHT, colour)
    snapshot.refresh()
    before, n_drawn = front_figure(snapshot, measurement(38), look)
    n_measured, n_stopped = len(snapshot.measured), len(snapshot.stopped)
    assert n_drawn == n_measured + n_stopped
    search(store, study, 30, 30)
    snapshot.refresh()
    grown = before.to_plotly_json()
    for _ in range(2):  # a slow browser may be told twice
        for step in growth(snapshot, look, n_measured, n_stopped).to_plotly_json()["operations"]:
            *path, last = step["location"]
            place = grown
            for name in path:
                place = place[name]
            assert step["operation"] == "Assign"
            place[last] = step["params"]["value"]
    anew = front_figure(snapshot, measurement(38), look)[0].to_plotly_json()
    assert _points(grown) == _points(anew)
    assert len(_points(anew)["measured"]) == len(snapshot.measured)


def _points(figure) -> dict[str, list[tuple]]:
    found: dict[str, list[tuple]] = {}
    for trace in figure["data"]:
        numbers = _numbers(trace.get("customdata") or ())
        xs, ys = (_numbers(trace.get(name, ())) for name in "xy")
        colour = trace["marker"]["color"] if trace.get("mode") == "markers" else ""
        colours = [colour] * len(numbers) if isinstance(colour, str) else _numbers(colour)
        if len(numbers):
            found.setdefault(trace["name"], []).extend(zip(numbers, xs, ys, colours, strict=True))
    return {name: sorted(points) for name, points in found.items()}


def _numbers(values) -> list[float]:
    """Read what plotly keeps as a list, or as the bytes of an array."""
    if isinstance(values, dict):
        return np.frombuffer(base64.b64decode(values["bdata"]), dtype=values["dtype"]).tolist()
    return np.asarray(values, dtype=np.float32).tolist()


def test_history_is_the_front_of_each_stretch():
    random = np.random.default_rng(0)
    points = [(float(random.random()), float(random.integers(0, 20))) for _ in range(200)]
    history = History(reference=(1.0, 0.0))
    for n, point in enumerate(points, start=1):
        n_before = len(history.milestones)
        history.add(n, *point)
        area = hypervolume(points[:n], (1.0, 0.0))
        assert history.milestones[-1].hypervolume == pytest.approx(area)
        assert history.milestones[-1].best == max(merit for _, merit in points[:n])
        changed = set(map(points.__getitem__, front(points[:n]))) != set(
            map(points.__getitem__, front(points[: n - 1]))
        )
        assert (len(history.milestones) > n_before) == changed


def test_draws_are_given_for_the_trials_asked_for(store, study):
    search(store, study, 0, 10)
    snapshot = StudySnapshot(store, study)
    snapshot.refresh()
    assert snapshot.draws([3, 1]) == [new_trial(3).params, new_trial(1).params]
    search(store, study, 10, 5)
    assert snapshot.draws([12]) == [new_trial(12).params]


# Studies over latency


def test_a_study_over_latency_is_drawn_over_it_with_its_intervals(store):
    record = store.create_study(new_study(spec=timing_spec(low_ms=None, high_ms=6.0)))
    latencies = {0: 3.0, 1: 5.0, 2: 4.0, 3: 6.5}  # the more GFLOPs, here the fewer ms
    for number, latency in latencies.items():
        store.add_trial(record.id, new_trial(number, 3.0 - number / 10))
        found = timed(measurement(20 + 5 * number), latency)
        store.finish_trial(record.id, number, found, "w", is_infeasible=latency > 6)
    store.add_measurement(record.id, 1, MeasurementKind.CONFIRM, timed(measurement(17), 5.5))
    store.add_measurement(record.id, 0, MeasurementKind.CONFIRM, measurement(16))
    snapshot = StudySnapshot(store, record)
    snapshot.refresh()
    assert [point.number for point in snapshot.front] == [0, 2]
    assert [point.number for point in snapshot.stopped] == [3]
    assert [(point.cost_low, point.cost, point.cost_high) for point in snapshot.front] == [
        (2.9, 3.0, 3.1),
        (3.9, 4.0, 4.1),
    ]
    assert snapshot.best_under(3.5).number == 0
    assert snapshot.history.reference == (8.0, 0.0)
    assert (snapshot.confirmed[1].cost, snapshot.confirmed[0].cost) == (5.5, 3.0)  # trial 0 was not timed again

    figure, _ = front_figure(snapshot, timed(measurement(38), 8.0), Look(LIGHT))
    traces = {trace.name: trace for trace in figure.data if trace.name and trace.x is not None and len(trace.x)}
    assert list(traces["front"].x) == [3.0, 4.0]
    assert list(traces["front"].error_x.array) == pytest.approx([0.1, 0.1])
    assert list(traces["dense model"].x) == [8.0]
    assert [shape.x0 for shape in figure.layout.shapes] == [6.0]
    assert figure.layout.xaxis.title.text == "latency of one image (ms, Some CPU, 2 threads)"
    assert "ms" in traces["front"].hovertemplate


def test_a_study_over_gflops_shows_no_intervals_of_costs_that_are_known(store, study):
    search(store, study, 0, 20)
    snapshot = StudySnapshot(store, study)
    snapshot.refresh()
    figure, _ = front_figure(snapshot, measurement(38), Look(LIGHT))
    (trace,) = (trace for trace in figure.data if trace.name == "front")
    assert not trace.error_x.visible
    assert trace.error_y.visible
    assert "GFLOPs" in trace.hovertemplate
