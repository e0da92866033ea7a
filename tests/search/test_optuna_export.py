from __future__ import annotations

import warnings

import optuna
import pytest
from optuna.trial import TrialState as OptunaState

from search import Execution, Study
from search.interruption import Interrupted
from search.optuna_export import Exported, export_to_optuna
from spaces import InvalidInput
from storage import TrialState

LOCAL = Execution(executor="local")
OF_OURS = {
    TrialState.COMPLETE: OptunaState.COMPLETE,
    TrialState.STOPPED: OptunaState.PRUNED,
    TrialState.FAILED: OptunaState.FAIL,
}


@pytest.fixture(scope="module", params=["65%", "50%:90%"])
def study(request, place, tmp_path_factory):
    """Search a little, with trials complete, stopped, failed and not finished."""
    db = f"sqlite:///{tmp_path_factory.mktemp('optuna')}/test.db"
    with Study.create(n_trials=24, db=db, **place.settings(budget=request.param)) as made:
        n_finished = []
        with pytest.raises(Interrupted):
            made.run(
                execution=LOCAL,
                on_progress=lambda progress: n_finished.append(progress.n_finished),
                stop_requested=lambda: n_finished[-1] >= 20,
            )
        waiting = next(trial for trial in made.trials() if not trial.state.is_finished)
        made._store.fail_trial(made._id, waiting.number, "no", "Traceback", "worker")
        yield made


def best_of(study, numbers) -> set[float]:
    return {study.trial(number).measurement.values["top1_pct"].value for number in numbers}


def test_optuna_loads_every_finished_trial_with_its_draw_and_its_values(study, tmp_path):
    url = f"sqlite:///{tmp_path}/optuna.db"
    exported = export_to_optuna(study, url)
    ours = [trial for trial in study.trials() if trial.state.is_finished]
    assert exported == Exported(len(ours), len(study.trials()) - len(ours))
    assert exported.n_left_out > 0
    loaded = optuna.load_study(study_name="small", storage=url)
    is_front = study.record.budget_low_gflops is not None
    for theirs, trial in zip(loaded.trials, ours, strict=True):
        assert theirs.params == trial.params
        assert theirs.state is OF_OURS[trial.state]
        assert theirs.user_attrs["prunefront_trial"] == trial.number
        assert theirs.constraints["budget"] <= 1e-9
        if trial.state is TrialState.COMPLETE:
            top1 = trial.measurement.values["top1_pct"].value
            assert theirs.values == ([top1, trial.gflops] if is_front else [top1])
            assert abs(theirs.duration - (trial.finished_at - (trial.started_at or trial.created_at))).seconds == 0
    front = {trial.user_attrs["prunefront_trial"] for trial in loaded.best_trials}
    ours_on_front = {trial.number for trial in study.front()}
    # Of equals Optuna names them all.
    assert ours_on_front <= front if is_front else best_of(study, front) == {max(best_of(study, ours_on_front))}
    assert {trial.state for trial in ours} >= {TrialState.COMPLETE, TrialState.FAILED}


def test_what_was_exported_can_be_gone_on_with_in_optuna(study, tmp_path):
    url = f"sqlite:///{tmp_path}/optuna.db"
    export_to_optuna(study, url)
    loaded = optuna.load_study(
        study_name="small", storage=url, sampler=optuna.samplers.TPESampler(seed=0, multivariate=False)
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        drawn = loaded.ask(loaded.trials[0].distributions)
    assert drawn.params.keys() == study.trials()[0].params.keys()


def test_a_study_is_exported_once_and_never_into_our_own_tables(study, tmp_path):
    url = f"sqlite:///{tmp_path}/optuna.db"
    export_to_optuna(study, url)
    with pytest.raises(InvalidInput, match="has an Optuna study 'small' already"):
        export_to_optuna(study, url)
    with pytest.raises(InvalidInput, match="holds prunefront's own tables"):
        export_to_optuna(study, study._store.url)
    with pytest.raises(InvalidInput, match="there is no folder"):
        export_to_optuna(study, f"sqlite:///{tmp_path}/nowhere/optuna.db")
