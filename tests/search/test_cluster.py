"""Two Ray nodes on one machine, which come and go."""

from __future__ import annotations

import os

import pytest

from search import Execution, Study
from search.cluster import Cluster, WorkersLost
from search.config import SearchSettings
from search.executors import Batching
from search.workbench import load
from search.workers import VersionsDiffer
from tests.search.test_loop import LOCAL, story

pytestmark = pytest.mark.timeout(600)


@pytest.fixture(scope="module")
def nodes():
    """Start a head without room for workers; tests add the nodes they need."""
    import ray
    from ray.cluster_utils import Cluster as Nodes

    made = Nodes(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False})
    yield made
    ray.shutdown()
    made.shutdown()


@pytest.fixture
def leave():
    """Let each test connect to the cluster for itself."""
    yield
    import ray

    ray.shutdown()


def settings(**changes) -> dict:
    data = {"data": "shapes", "n_search": 200, "n_confirm": 0}
    return {
        "study": "small", "model": "shapes_vit_small", "data": data, "budget": "65%", "look_ahead": 4,
        "batch_size": 64, "precision": "float32", "seed": 3,
    } | changes  # fmt: skip


def test_a_node_that_leaves_costs_its_running_candidates_and_one_that_joins_is_used(nodes, leave, tmp_path):
    whole = Study.create(n_trials=16, db=f"sqlite:///{tmp_path}/whole.db", **settings())
    whole.run(execution=LOCAL)
    first, second = nodes.add_node(num_cpus=1), nodes.add_node(num_cpus=1)
    said = []

    left, third = [], []

    def come_and_go(progress):
        if progress.n_finished >= 4 and not left:
            left.append(nodes.remove_node(first, allow_graceful=False))
        if progress.n_finished >= 9 and not third:
            third.append(nodes.add_node(num_cpus=1))

    with Study.create(n_trials=16, db=f"sqlite:///{tmp_path}/nodes.db", **settings()) as study:
        execution = Execution(ray_address=nodes.address)
        progress = study.run(execution=execution, on_progress=come_and_go, say=said.append)
        assert story(study) == story(whole)
        trials = study.trials()
    for node in (second, *third):
        nodes.remove_node(node)
    assert progress.n_failed == 0
    assert sum(trial.attempts - 1 for trial in trials if trial.attempts) == progress.n_retried <= 2
    assert len({trial.worker for trial in trials} - {None}) >= 2
    assert sum("has joined" in line for line in said) >= 2


def test_a_worker_with_other_versions_is_refused_by_name_and_workers_may_share_gpus(nodes, leave, tmp_path, place):
    other = tmp_path / "timm-0.0.1.dist-info"
    other.mkdir()
    (other / "METADATA").write_text("Metadata-Version: 2.1\nName: timm\nVersion: 0.0.1\n")
    path = f"{tmp_path}{os.pathsep}{os.environ.get('PYTHONPATH', '')}"
    node = nodes.add_node(num_cpus=4, num_gpus=2, env_vars={"PYTHONPATH": path})
    bench = load(SearchSettings.parse(place.settings()))
    workers = bench.start(Execution(ray_address=nodes.address, n_workers=1))
    workers.hold(bench.search_images, Batching(bench.settings.settled_batch_size))
    with pytest.raises(VersionsDiffer, match=r"the worker .*:\d+ has timm 0\.0\.1 \(here 1\..*install the driver's"):
        workers.measure_dense()

    def reached(*, on_gpus, **taken):
        execution = Execution(ray_address=nodes.address, **taken)
        return Cluster.reach(execution, threads=1, n_workers=1, on_gpus=on_gpus)

    assert reached(on_gpus=False, cpus_per_worker=2).n_room() == 2
    assert reached(on_gpus=False, cpus_per_worker=2).is_elastic
    assert reached(on_gpus=True).n_room() == 2
    assert reached(on_gpus=True, gpus_per_worker=0.5).n_room() == 4
    assert reached(on_gpus=True, gpus_per_worker=0.5).needs == "1 CPUs and 0.5 GPUs"
    workers.close()
    nodes.remove_node(node)


def test_a_cluster_that_is_not_there_is_refused_with_what_to_do(leave, place):
    bench = load(SearchSettings.parse(place.settings()))
    with pytest.raises(WorkersLost, match=r"no Ray cluster can be joined at '127.0.0.1:1' .*ray start --head"):
        bench.start(Execution(ray_address="127.0.0.1:1"))
