from __future__ import annotations

from contextlib import contextmanager

import pytest
import torch
from click.testing import CliRunner

from objectives.memory import is_out_of_memory
from search import Execution, Study
from search.cli.main import cli
from search.config import SearchSettings
from search.executors import measure_safely
from search.workbench import load
from spaces import RandomDrop
from storage import TrialState
from storage.export import trial_as_json

LAYOUT = RandomDrop(after=(2,), keep_rate=(0.5,))


@contextmanager
def room_for(model, n_images: int):
    """Let the allocator refuse, for real, what a forward pass of more images asks it for."""

    def allocate(_, inputs):
        torch.empty(2**46 if len(inputs[0]) > n_images else 1, dtype=torch.uint8)

    hook = model.norm.register_forward_pre_hook(allocate)  # where every forward pass comes by
    try:
        yield
    finally:
        hook.remove()


@pytest.fixture
def bench(place):
    return load(SearchSettings.parse(place.settings()))


@pytest.fixture
def evaluator(bench):
    made = bench.evaluator(bench.search_images, batch_size=8, cache_bytes=10**9)
    made.measure_dense()
    return made


def test_a_candidate_for_which_the_memory_does_not_suffice_is_measured_in_smaller_batches(evaluator):
    whole = measure_safely(evaluator, 3, LAYOUT, None)
    assert whole.remark is None
    assert any(kept._tensors for kept in evaluator._prefix._kept.values())
    with room_for(evaluator.model, 4):
        outcome = measure_safely(evaluator, 3, LAYOUT, None)
    assert outcome.remark == "out of memory in batches of 8 images, measured in batches of 4"
    assert (outcome.number, outcome.error, outcome.is_lost) == (3, None, False)
    assert outcome.measurement.outcomes == whole.measurement.outcomes
    assert (whole.measurement.batch_size, outcome.measurement.batch_size) == (8, 4)
    assert not any(kept._tensors for kept in evaluator._prefix._kept.values())  # what was kept made room
    assert evaluator.batch_size == 8
    assert measure_safely(evaluator, 4, LAYOUT, None).remark is None


def test_a_candidate_for_which_half_a_batch_is_too_much_fails_with_the_reason(evaluator):
    with room_for(evaluator.model, 3):
        outcome = measure_safely(evaluator, 3, LAYOUT, None)
    assert outcome.measurement is None
    assert "can't allocate memory" in outcome.error
    assert "(out of memory in batches of 8 images, measured in batches of 4)" in outcome.error


def test_a_candidate_under_which_a_worker_died_of_memory_starts_with_smaller_batches(evaluator):
    outcome = measure_safely(evaluator, 3, LAYOUT, None, is_cramped=True)
    assert outcome.remark == "out of memory in batches of 8 images, measured in batches of 4"
    assert outcome.measurement.n_images == 40


def test_what_a_search_does_about_its_memory_is_said_and_remembered(place, db):
    study = Study.create(n_trials=4, db=db, **place.settings())
    said = []
    with room_for(study._workbench().loaded.model, 4):
        study.run(execution=Execution(executor="local"), say=said.append)
    assert {trial.state for trial in study.trials()} <= {TrialState.COMPLETE, TrialState.STOPPED}
    assert "trial 0: out of memory in batches of 8 images, measured in batches of 4" in said
    assert study.dense().batch_size == 8
    assert {trial.measurement.batch_size for trial in study.trials()} == {4}
    assert trial_as_json(study.trial(0))["measured"]["batch_size"] == 4
    shown = CliRunner().invoke(cli, ["show", "small", "0", "--db", db]).output
    assert "measured in batches of 4 images, since the memory did not suffice for 8" in shown
    assert shown.count("since the memory did not suffice") == 1


@pytest.mark.parametrize("error", [torch.OutOfMemoryError("CUDA out of memory"), MemoryError()])
def test_every_kind_of_memory_that_runs_out_is_known(error):
    assert is_out_of_memory(error)
    assert not is_out_of_memory(RuntimeError("CUDA error: device-side assert triggered"))
