"""Real Tune experiments, each of a few trials."""

from __future__ import annotations

import pytest

from search import Execution, Study
from search.config import SearchSettings
from search.sampler import Sampler
from search.workbench import load
from tests.search.test_loop import LOCAL, story

pytestmark = pytest.mark.timeout(600)


@pytest.fixture(scope="module", autouse=True)
def _ray():
    import ray

    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False, configure_logging=False)
    yield
    ray.shutdown()


def test_a_search_on_tune_lands_the_rows_of_any_other(place, tmp_path):
    studies = {}
    for executor in ("local", "tune"):
        db = f"sqlite:///{tmp_path}/{executor}.db"
        with Study.create(n_trials=14, db=db, **place.settings(race=True)) as study:
            study.run(execution=Execution(executor=executor, n_workers=2))
            study.confirm(execution=Execution(executor=executor, n_workers=2))
            studies[executor] = story(study), [trial.confirmation.values for trial in study.front()]
    assert studies["tune"] == studies["local"]


def test_people_who_run_tune_get_the_same_layouts_from_our_searcher(place, tmp_path):
    from ray import tune

    from search.tune_executor import LayoutSearcher, LayoutTrainable

    settings = SearchSettings.parse(place.settings(race=False, sampler="tpe"))
    whole = Study.create(settings, n_trials=12, db=f"sqlite:///{tmp_path}/whole.db")
    whole.run(execution=LOCAL)
    bench = load(settings)

    def sampler():
        problem = bench.problem
        return Sampler("tpe", problem.parameters(), seed=3, is_front=False, openings=problem.openings())

    _, reference = bench.evaluator(bench.search_images).measure_dense()
    trainable = tune.with_parameters(
        LayoutTrainable,
        loaded=bench.loaded,
        images=bench.search_images,
        reference=reference,
        device="cpu",
        batch_size=8,
        chunk_batches=2,
    )
    searcher = LayoutSearcher(
        bench.problem,
        sampler(),
        metric="top1",
        n_trials=12,
        look_ahead=4,
    )
    results = tune.Tuner(
        trainable,
        tune_config=tune.TuneConfig(search_alg=searcher, num_samples=-1, max_concurrent_trials=2, reuse_actors=True),
        run_config=tune.RunConfig(storage_path=str(tmp_path), verbose=0),
    ).fit()
    found = {result.config["number"]: result for result in results}
    for trial in whole.trials():
        result = found[trial.number]
        assert result.config["layout"] == trial.config
        assert result.metrics["top1_pct"] == trial.measurement.values["top1_pct"].value
        assert result.metrics["n_images"] == 40
        assert result.metrics["training_iteration"] == 3  # five batches, two a step

    searcher.save(str(tmp_path / "searcher"))
    again = LayoutSearcher(
        bench.problem,
        sampler(),
        metric="top1",
        n_trials=13,
        look_ahead=4,
    )
    again.restore(str(tmp_path / "searcher"))
    whole.run(n_trials=13, execution=LOCAL)
    assert again.suggest("next")["layout"] == whole.trial(12).config
