"""Real Ray workers: started once for all of these tests, and shut down after them."""

from __future__ import annotations

import os
import signal

import pytest

from search import Execution, Study
from search.config import SearchSettings
from search.workbench import load
from spaces import InvalidInput, RandomDrop, ZeroTPrune
from tests.search.test_loop import story

pytestmark = pytest.mark.timeout(600)


@pytest.fixture(scope="module", autouse=True)
def _ray():
    ray = pytest.importorskip("ray")
    ray.init(num_cpus=4, include_dashboard=False, log_to_driver=False, configure_logging=False)
    yield
    ray.shutdown()


@pytest.fixture(scope="module")
def bench(place):
    return load(SearchSettings.parse(place.settings()))


def test_ray_workers_measure_what_this_process_measures(bench):
    layouts = [ZeroTPrune(after=(1, 3), keep_rate=(0.7, 0.8), s=1), RandomDrop(after=(2,), keep_rate=(0.5,))]
    local = bench.start(Execution(executor="local"))
    local.hold(bench.search_images)
    local.measure_dense()
    expected = [local.measure(layout) for layout in layouts]
    local.close()
    workers = bench.start(Execution(n_workers=2))
    workers.hold(bench.search_images)
    workers.measure_dense()
    for number, layout in enumerate(layouts):
        assert workers.has_room()
        workers.submit(number, layout)
    assert not workers.has_room()
    found = {}
    while len(found) < 2:
        outcome = workers.next_outcome(10)
        found[outcome.number] = outcome
    workers.close()
    for number, measurement in enumerate(expected):
        assert found[number].measurement.values == measurement.values
        assert found[number].measurement.outcomes == measurement.outcomes
    assert all(int(outcome.worker.split(":")[1]) != os.getpid() for outcome in found.values())


@pytest.mark.parametrize("sampler", ["tpe", "nsga2"])
def test_one_two_and_four_workers_give_the_same_trials(place, tmp_path, sampler):
    stories = []
    for n_workers in (1, 2, 4):
        study = Study.create(n_trials=14, db=f"sqlite:///{tmp_path}/{n_workers}.db", **place.settings(sampler=sampler))
        study.run(execution=Execution(n_workers=n_workers))
        stories.append(story(study))
        assert 1 <= len({trial.worker for trial in study.trials()} - {None}) <= n_workers
    assert stories[0] == stories[1] == stories[2]


def test_a_worker_that_dies_loses_no_candidate():
    # The bundled model is too large to travel inside a call, as every real one is.
    data = {"data": "shapes", "n_search": 40, "n_confirm": 0}
    bench = load(SearchSettings.parse({"study": "killed", "model": "shapes_vit_small", "data": data, "budget": "65%"}))
    workers = bench.start(Execution(n_workers=1))
    workers.hold(bench.search_images)
    workers.measure_dense()
    layout = RandomDrop(after=(2,), keep_rate=(0.5,))
    workers.submit(0, layout)
    first = workers.next_outcome(60)
    os.kill(int(first.worker.split(":")[1]), signal.SIGKILL)
    workers.submit(1, layout)
    outcome = None
    while outcome is None:
        outcome = workers.next_outcome(60)
    workers.close()
    assert outcome.error is None
    assert outcome.number == 1
    assert outcome.measurement.values == first.measurement.values
    assert outcome.worker != first.worker


def test_a_candidate_that_fails_is_an_outcome(bench):
    workers = bench.start(Execution(n_workers=1))
    workers.hold(bench.search_images)
    workers.measure_dense()
    workers.submit(5, RandomDrop(after=(40,), keep_rate=(0.5,)))
    outcome = workers.next_outcome(60)
    workers.close()
    assert outcome.measurement is None
    assert outcome.error.startswith("InvalidInput: the layout prunes after block 40")
    assert "Traceback" in outcome.traceback


def test_more_workers_than_the_look_ahead_keeps_busy_are_refused(bench):
    with pytest.raises(InvalidInput, match="5 workers cannot be kept busy by a look-ahead of 4"):
        bench.start(Execution(n_workers=5))
