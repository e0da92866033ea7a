"""Real Ray workers: started once for all of these tests, and shut down after them."""

from __future__ import annotations

import os
import signal
import time
from dataclasses import replace

import pytest

from objectives.diagnosis import DenseTooLow
from search import Execution, Study
from search.config import SearchSettings
from search.executors import Batching
from search.workbench import load
from spaces import InvalidInput, PrunefrontError, RandomDrop, ZeroTPrune
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
    local.hold(bench.search_images, Batching(bench.settings.settled_batch_size))
    local.measure_dense()
    expected = [local.measure(layout) for layout in layouts]
    local.close()
    workers = bench.start(Execution(n_workers=2))
    workers.hold(bench.search_images, Batching(bench.settings.settled_batch_size))
    workers.measure_dense()
    while workers.n_workers < 2:  # the second may still be starting
        assert workers.next_outcome(1) is None
    for number, layout in enumerate(layouts):
        assert workers.has_room()
        workers.submit(number, layout)
    found = {outcome.number: outcome for outcome in (outcome_of(workers), outcome_of(workers))}
    workers.close()
    for number, measurement in enumerate(expected):
        assert found[number].measurement.values == measurement.values
        assert found[number].measurement.outcomes == measurement.outcomes
    assert all(int(outcome.worker.split(":")[1]) != os.getpid() for outcome in found.values())


def test_segmenters_are_measured_alike_by_ray_workers_and_by_this_process(tmp_path):
    found = {}
    for name, execution in {"ray": Execution(n_workers=2), "here": Execution(executor="local")}.items():
        study = Study.create(
            study=name, task="segmentation", model="shapes_seg_small", budget="60%:100%", n_trials=6, look_ahead=4,
            data={"data": "shapes", "n_search": 16, "n_confirm": 0}, batch_size=16, precision="float32",
            db=f"sqlite:///{tmp_path}/{name}.db",
        )  # fmt: skip
        with study:
            study.run(execution=execution)
            found[name] = [
                (trial.config, trial.measurement.outcomes, trial.measurement.values)
                for trial in study.trials()
                if trial.measurement
            ]
    assert len(found["ray"]) >= 4
    assert found["ray"] == found["here"]


@pytest.mark.parametrize("sampler", ["tpe", "nsga2"])
def test_one_two_and_four_workers_give_the_same_trials(place, tmp_path, sampler):
    stories = []
    for n_workers in (1, 2, 4):
        study = Study.create(n_trials=14, db=f"sqlite:///{tmp_path}/{n_workers}.db", **place.settings(sampler=sampler))
        study.run(execution=Execution(n_workers=n_workers))
        stories.append(story(study))
        assert 1 <= len({trial.worker for trial in study.trials()} - {None}) <= n_workers
    assert stories[0] == stories[1] == stories[2]


def until_cpus_are_free(n):
    import ray

    until = time.monotonic() + 60
    while (free := ray.available_resources().get("CPU", 0)) != n:
        assert time.monotonic() < until, free
        time.sleep(0.05)


def test_workers_start_before_the_dense_model_is_measured_and_leave_where_it_is_refused(place, tmp_path):
    execution, db = Execution(n_workers=3), f"sqlite:///{tmp_path}/early.db"
    until_cpus_are_free(4)
    said = []

    def note(line):
        said.append(line)
        if line.startswith("measuring in batches"):
            until_cpus_are_free(1)

    with pytest.raises(DenseTooLow):
        Study.create(n_trials=6, db=db, say=note, execution=execution, **place.settings(expect_top1=99.9))
    until_cpus_are_free(4)
    assert not (tmp_path / "early.db").exists()
    assert any(line.startswith("measuring in batches") for line in said)
    with pytest.raises(InvalidInput, match="5 workers cannot be kept busy by a look-ahead of 4"):
        Study.create(n_trials=6, db=db, execution=Execution(n_workers=5), **place.settings())
    assert not (tmp_path / "early.db").exists()
    with Study.create(n_trials=6, db=db, execution=execution, **place.settings()) as study:
        until_cpus_are_free(1)
        assert study.run(execution=execution).n_finished == 6
    until_cpus_are_free(4)


def outcome_of(workers):
    while (outcome := workers.next_outcome(60)) is None:
        pass
    return outcome


@pytest.fixture(scope="module")
def large_bench():
    """The bundled model: too large to travel inside a call, as every real one is, and slow enough to be interrupted."""
    data = {"data": "shapes", "n_search": 600, "n_confirm": 0}
    return load(SearchSettings.parse({"study": "large", "model": "shapes_vit_small", "data": data, "budget": "65%"}))


def test_a_worker_that_is_killed_in_mid_candidate_loses_it_and_the_next_one_measures_the_same(large_bench):
    workers = large_bench.start(Execution(n_workers=1))
    workers.hold(large_bench.search_images, Batching(large_bench.settings.settled_batch_size))
    workers.measure_dense()
    layout = RandomDrop(after=(2,), keep_rate=(0.5,))
    workers.submit(0, layout)
    first = outcome_of(workers)
    workers.submit(1, layout)
    assert workers.next_outcome(0.1) is None  # it is at work
    os.kill(int(first.worker.split(":")[1]), signal.SIGKILL)
    lost = outcome_of(workers)
    assert (lost.number, lost.is_lost, lost.measurement) == (1, True, None)
    assert "ActorDiedError" in lost.error
    while not workers.has_room():
        workers.next_outcome(1)
    workers.submit(1, layout)
    outcome = outcome_of(workers)
    workers.close()
    assert (outcome.number, outcome.is_lost, outcome.error) == (1, False, None)
    assert outcome.measurement.values == first.measurement.values
    assert outcome.worker != first.worker


def test_a_candidate_that_fails_is_an_outcome(bench):
    workers = bench.start(Execution(n_workers=1))
    workers.hold(bench.search_images, Batching(bench.settings.settled_batch_size))
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


def test_images_or_weights_that_are_not_those_sent_are_refused(bench):
    workers = bench.start(Execution(n_workers=1))
    workers.hold(bench.search_images, Batching(bench.settings.settled_batch_size))
    whole = workers._task
    workers._task = replace(whole, digest="other")
    with pytest.raises(PrunefrontError, match=r"got other images \(\w+\) than the driver sent \(other\)"):
        workers.measure_dense()
    workers._task = whole
    assert workers.measure_dense()[0].n_images == 40
    workers.close()
