from __future__ import annotations

import numpy as np
import pytest

from search.parzen import ParzenSpace
from spaces.domains import Choice, FloatRange, IntRange, Parameter

REALS = (Parameter("a", FloatRange(low=0.3, high=1.0)), Parameter("b", FloatRange(low=0.001, high=10.0, log=True)))
WHOLES = (Parameter("n", IntRange(low=3, high=6)), Parameter("m", IntRange(low=1, high=50, log=True)))
CHOICES = (Parameter("c", Choice(values=("x", "y", True))), Parameter("one", Choice(values=("only",))))
EVERYTHING = (*CHOICES, *WHOLES, *REALS)


def rows_of(space: ParzenSpace, parameters, n: int, seed: int = 0):
    rng = np.random.default_rng(seed)

    def value(domain):
        if isinstance(domain, Choice):
            return domain.values[rng.integers(len(domain.values))]
        if isinstance(domain, IntRange):
            return int(rng.integers(domain.low, domain.high + 1))
        return float(rng.uniform(domain.low, domain.high))

    return np.array([space.encode({each.name: value(each.domain) for each in parameters}) for _ in range(n)])


def densities(parameter: Parameter, observed, values, *, is_joint: bool):
    space = ParzenSpace([parameter], is_joint=is_joint)
    rows, at = (np.array(numbers, float).reshape(-1, 1) for numbers in (observed, values))
    return np.exp(space._log_density(space._kernels(rows, np.ones(len(rows))), at))[:, 0]


def test_what_is_encoded_is_decoded_the_same():
    space = ParzenSpace(EVERYTHING, is_joint=True)
    params = {"a": 0.7, "b": 0.003, "n": 6, "m": 7, "c": True, "one": "only"}
    decoded = space.decode(space.encode(params))
    assert decoded == params
    assert {name: type(value) for name, value in decoded.items()} == {
        name: type(value) for name, value in params.items()
    }


@pytest.mark.parametrize("is_joint", [True, False])
@pytest.mark.parametrize("parameter", WHOLES, ids=["linear", "log"])
def test_the_whole_numbers_of_a_range_have_all_the_mass(parameter, is_joint):
    low, high = parameter.domain.low, parameter.domain.high
    masses = densities(parameter, [low, low, high, low + 2], range(low, high + 1), is_joint=is_joint)
    assert masses.sum() == pytest.approx(1.0)


@pytest.mark.parametrize("is_joint", [True, False])
@pytest.mark.parametrize("parameter", REALS, ids=["linear", "log"])
def test_the_density_of_a_real_number_has_the_area_1(parameter, is_joint):
    domain = parameter.domain
    scaled = np.linspace(*(np.log([domain.low, domain.high]) if domain.log else (domain.low, domain.high)), 20_001)
    values = np.exp(scaled) if domain.log else scaled
    density = densities(parameter, [domain.low, domain.high, 0.9], values, is_joint=is_joint)
    assert np.trapezoid(density, scaled) == pytest.approx(1.0, rel=1e-6)


def test_the_ends_of_a_whole_range_are_as_likely_as_its_middle():
    n = 9
    masses = densities(Parameter("n", IntRange(low=1, high=n)), [], range(1, n + 1), is_joint=True)
    # The kernel over the whole space is a bell of the range's own width: flat within an eighth.
    assert np.abs(masses * n - 1).max() < 1 / 8


@pytest.mark.parametrize("end", ["low", "high"])
def test_a_good_end_of_a_whole_range_is_drawn_often_and_never_passed(end):
    for parameter in WHOLES:
        space, domain = ParzenSpace([parameter], is_joint=True), parameter.domain
        good, bad = (domain.low, domain.high) if end == "low" else (domain.high, domain.low)
        rng = np.random.RandomState(0)
        drawn = [
            space.draw(np.full((10, 1), float(good)), np.full((10, 1), float(bad)), rng)[parameter.name]
            for _ in range(40)
        ]
        assert all(domain.low <= each <= domain.high and isinstance(each, int) for each in drawn)
        near = 0.2 * (domain.high - domain.low)
        assert sum(abs(each - good) <= near for each in drawn) > 20
        assert good in drawn


@pytest.mark.parametrize("is_joint", [True, False])
@pytest.mark.parametrize("parameters", [REALS, WHOLES, CHOICES, EVERYTHING], ids=["reals", "wholes", "choices", "all"])
def test_any_mixture_of_parameters_is_drawn_within_its_domains(parameters, is_joint):
    space = ParzenSpace(parameters, is_joint=is_joint)
    rng = np.random.RandomState(0)
    for n in (1, 3, 40):
        params = space.draw(rows_of(space, parameters, n), rows_of(space, parameters, 2 * n, seed=1), rng)
        assert params.keys() == {each.name for each in parameters}
        for each in parameters:
            if isinstance(each.domain, Choice):
                assert params[each.name] in each.domain.values
            else:
                assert each.domain.low <= params[each.name] <= each.domain.high


def test_draws_are_like_the_good_rows_and_unlike_the_others():
    space = ParzenSpace(REALS[:1], is_joint=True)
    low, high = np.linspace(0.3, 0.4, 20)[:, None], np.linspace(0.9, 1.0, 20)[:, None]
    rng = np.random.RandomState(0)
    assert np.mean([space.draw(low, high, rng)["a"] for _ in range(20)]) < 0.5
    assert np.mean([space.draw(high, low, rng)["a"] for _ in range(20)]) > 0.8


def test_joint_kernels_draw_together_what_was_good_together():
    parameters = [Parameter(name, FloatRange(low=0.0, high=1.0)) for name in "ab"]
    good = np.array([[0.1, 0.9], [0.9, 0.1]] * 5)
    others = np.array([[0.1, 0.1], [0.9, 0.9]] * 5)

    def n_apart(*, is_joint):
        space, rng = ParzenSpace(parameters, is_joint=is_joint), np.random.RandomState(0)
        drawn = [space.draw(good, others, rng) for _ in range(60)]
        return sum((each["a"] < 0.5) != (each["b"] < 0.5) for each in drawn)

    assert n_apart(is_joint=True) > 50
    assert n_apart(is_joint=False) < 45


def test_densities_are_those_of_optuna():
    estimator = pytest.importorskip("optuna.samplers._tpe.parzen_estimator")
    from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution
    from optuna.samplers._tpe.sampler import default_weights

    parameters = (*REALS, WHOLES[1], CHOICES[0])
    theirs = {
        "a": FloatDistribution(0.3, 1.0),
        "b": FloatDistribution(0.001, 10.0, log=True),
        "m": IntDistribution(1, 50, log=True),
        "c": CategoricalDistribution(["x", "y", True]),
    }
    space = ParzenSpace(parameters, is_joint=True)
    rows = rows_of(space, parameters, 40)
    rows[:, 2] = np.random.default_rng(2).permutation(50)[:40] + 1  # without ties, which Optuna breaks as it happens
    at = rows_of(space, parameters, 24, seed=1)

    def by_name(of):
        return {name: of[:, column] for column, name in enumerate(theirs)}

    options = estimator._ParzenEstimatorParameters(1.0, True, False, default_weights, True)
    expected = estimator._ParzenEstimator(by_name(rows), theirs, options).log_pdf(by_name(at))
    weights = default_weights(len(rows))
    np.testing.assert_allclose(space._log_density(space._kernels(rows, weights), at)[:, 0], expected, rtol=1e-9)


def test_half_of_the_joint_candidates_share_most_parameters_with_a_good_row(monkeypatch):
    parameters = [Parameter(f"p{number}", FloatRange(low=0.0, high=1.0)) for number in range(20)]
    space, shared = ParzenSpace(parameters, is_joint=True), []
    good, others = np.random.default_rng(0).uniform(size=(2, 8, 20))
    log_density = space._log_density

    def watched(kernels, rows):
        shared.append([max((row == each).sum() for each in good) for row in rows])
        return log_density(kernels, rows)

    monkeypatch.setattr(space, "_log_density", watched)
    for seed in range(20):
        space.draw(good, others, np.random.RandomState(seed))
    counts = np.array(shared)
    assert (counts[:, 12:] == 0).all()
    assert (counts[:, :12] < 20).all()
    assert 0.6 < counts[:, :12].mean() / 20 < 0.75
