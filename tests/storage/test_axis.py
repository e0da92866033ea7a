from __future__ import annotations

import json
from dataclasses import replace

import pytest

from objectives.statistics import Estimate
from storage import TrialState
from storage.axis import Timing, axis_of, overrun_line, timing_of
from storage.results import best_of, front_of
from tests.storage.records import measurement, new_study, timed, timing_spec
from tests.storage.test_results import TRIALS, trial


def timed_trial(number, gflops, n_right, latency_ms, **changes):
    return trial(number, gflops, n_right, measurement=timed(measurement(n_right), latency_ms), **changes)


TIMED = [timed_trial(0, 2.0, 20, 5.0), timed_trial(1, 2.5, 30, 4.0), timed_trial(2, 3.0, 35, 6.0)]


@pytest.mark.parametrize(
    ("spec", "low_gflops", "cost", "is_objective", "ends"),
    [
        (new_study().spec, None, "gflops", False, (None, 3.0)),
        (new_study().spec, 2.0, "gflops", True, (2.0, 3.0)),
        (timing_spec(), 2.0, "latency_ms", True, (None, None)),
        (timing_spec(4.0, 6.0), 2.0, "latency_ms", True, (4.0, 6.0)),
        (timing_spec(None, 6.0, is_objective=False, is_front=False), 2.0, "latency_ms", False, (None, 6.0)),
        (timing_spec(None, 6.0, is_objective=False), 2.0, "gflops", True, (2.0, 3.0)),
    ],
)
def test_a_study_is_drawn_over_what_it_trades_its_metric_against(spec, low_gflops, cost, is_objective, ends):
    axis = axis_of(new_study(spec=spec, budget_low_gflops=low_gflops))
    assert (axis.cost, axis.is_objective, (axis.low, axis.high)) == (cost, is_objective, ends)
    assert axis.dense == (8.0 if cost == "latency_ms" else new_study().dense_gflops)


def test_how_a_study_times_outlives_its_row():
    timing = timing_of(new_study(spec=timing_spec(4.0, 6.0)))
    assert Timing.from_spec(json.loads(json.dumps(timing.to_spec()))) == timing
    assert timing_of(new_study()) is None


def test_a_front_over_latency_knows_no_gflops():
    by_latency = new_study(spec=timing_spec())
    assert [found.number for found in front_of(by_latency, TIMED)] == [1, 2]
    assert [found.number for found in front_of(new_study(), TIMED)] == [0, 1, 2]
    assert [found.number for found in front_of(by_latency, [*TIMED, *TRIALS])] == [1, 2]  # what was never timed


def test_of_equally_good_trials_the_faster_is_best():
    equal = [timed_trial(0, 2.0, 30, 5.0), timed_trial(1, 2.5, 30, 4.0)]
    assert best_of(new_study(spec=timing_spec()), equal).number == 1
    assert best_of(new_study(), equal).number == 0


def test_a_confirmed_trial_that_was_not_timed_again_costs_what_it_did():
    axis = axis_of(new_study(spec=timing_spec()))
    assert axis.of(TIMED[0], measurement(20)) == Estimate(5.0, 4.9, 5.1)
    assert axis.of(TIMED[0], timed(measurement(20), 7.0)).value == 7.0
    with pytest.raises(ValueError, match="trial 1 was never timed"):
        axis.of(TRIALS[1])


@pytest.mark.parametrize(
    ("latency", "over_ms"),
    [(Estimate(5.8, 5.7, 5.95), 0.0), (Estimate(5.8, 5.7, 6.2), 0.2), (Estimate(6.3), 0.3), (Estimate(5.9), 0.0)],
)
def test_a_latency_is_within_the_budget_if_its_whole_interval_is(latency, over_ms):
    found = replace(measurement(3), values={"latency_ms": latency})
    assert timing_of(new_study(spec=timing_spec(None, 6.0))).overrun_ms(found) == pytest.approx(over_ms)
    assert timing_of(new_study(spec=timing_spec())).overrun_ms(found) == 0
    assert timing_of(new_study(spec=timing_spec(None, 6.0))).overrun_ms(measurement(3)) == 0


def test_what_is_over_the_budget_is_said_in_its_unit():
    study = new_study(spec=timing_spec(None, 6.0))
    late = timed_trial(0, 2.0, 20, 6.5, state=TrialState.INFEASIBLE)
    assert (
        overrun_line(study, late) == "takes 6.5 [6.4, 6.6] ms an image on Some CPU, 2 threads, over the budget of 6 ms"
    )
    dear = timed_trial(0, 3.5, 20, 5.0, state=TrialState.INFEASIBLE)
    assert overrun_line(study, dear) == "costs 3.5 GFLOPs, measured, over the budget of 3"
