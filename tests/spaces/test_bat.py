from __future__ import annotations

import math
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pruning import read_architecture
from spaces import Bat, InvalidInput, UnsupportedModel, dense_cost, parse_layout, parse_space
from spaces.domains import FloatRange, IntRange, parse_setting
from tests.spaces.test_layered_space import draw
from tests.tiny import DEIT_SMALL, tiny_vit

HEADLESS = DEIT_SMALL.model_copy(update={"n_prefix": 0, "has_class_token": False, "pool": "mean"})
TINY = read_architecture(tiny_vit(), "tiny")
ARCHITECTURES = {"DeiT-S": DEIT_SMALL, "tiny": TINY}
SPACES = {
    "paper": parse_space("bat"),
    "full": parse_space("bat", "full"),
    "counts fixed": parse_space("bat", settings={"c_num": 10, "p": 10}),
    "counts left to the method": parse_space("bat", settings={"c_num": None, "p": None}),
    "layers fixed": parse_space("bat", settings={"inside": [1, 2, 3], "c_num": [40, 5, 1]}),
}


def paper(rate: float, **values) -> Bat:
    return Bat(**{"inside": (4, 7, 10), "keep_rate": (rate,) * 3} | values)


def of_n_patches(n: int):
    return DEIT_SMALL.model_copy(update={"image_size": (16, 16 * n)})


def layer(n_in: int, n_attentive: int, **values):
    """Count one layer that ranks ``n_attentive`` of ``n_in`` tokens as attentive."""
    rate = (n_attentive - 0.5) / n_in if n_attentive < n_in else 1.0
    (stage,) = Bat(inside=(4,), keep_rate=(rate,), **values).stages(of_n_patches(n_in))
    assert stage.n_attentive == n_attentive
    return stage


# GMACs of the authors' training logs; METHODS 4.2.
@pytest.mark.parametrize(
    ("rate", "gflops"),
    [(0.7, 3.004792), (0.6, 2.583245), (0.5, 2.344408), (0.4, 2.083041), (0.3, 1.823258), (0.2, 1.645053)],
)
def test_defaults_cost_what_the_authors_logs_say_within_three_per_cent(rate, gflops):
    assert paper(rate).cost(DEIT_SMALL).gflops == pytest.approx(gflops, rel=0.03)


# METHODS 9.3, to its digits: as many tokens stay as are attentive.
@pytest.mark.parametrize(
    ("rate", "gflops"), [(0.7, 3.0032), (0.6, 2.6138), (0.5, 2.2870), (0.4, 2.0269), (0.3, 1.8046), (0.2, 1.6263)]
)
def test_the_model_without_overhead_costs_what_methods_gives(rate, gflops):
    assert paper(rate).cost(DEIT_SMALL).model_macs / 1e9 == pytest.approx(gflops, abs=5e-5)


def test_a_tiny_deit_at_the_papers_rate_saves_what_the_paper_says():
    deit_tiny = DEIT_SMALL.model_copy(update={"dim": 192, "n_heads": 3, "attention_dim": 192, "mlp_dim": 768})
    assert paper(0.7).cost(deit_tiny).model_macs / 1e9 == pytest.approx(0.815, abs=5e-4)


def test_without_clusters_and_matching_it_is_evit_without_its_fused_token():
    cost = paper(0.7, c_num=0, p=0).cost(DEIT_SMALL)
    assert cost.macs == 3_003_167_616  # METHODS 9.3
    assert cost.overhead_macs == 0


def test_one_cluster_and_no_matching_is_evit_with_its_fused_token():
    cost = paper(0.7, c_num=1, p=0).cost(DEIT_SMALL)
    assert cost.macs == 3_035_522_688  # METHODS 9.3
    assert [cost.tokens_per_block[number] for number in (0, 4, 7, 10)] == [197, 140, 100, 72]


@pytest.mark.parametrize(("match", "similarities"), [("bipartite", 68 * 69), ("greedy", 137**2)])
def test_overhead_is_every_product_of_two_tokens(match, similarities):
    config = Bat(inside=(4,), keep_rate=(0.696,), match=match)
    (stage,) = config.stages(DEIT_SMALL)
    assert (stage.n_attentive, stage.n_inattentive) == (137, 59)
    assert stage.overhead_macs == (59**2 + similarities) * 384


def test_counts_are_capped_and_the_rest_follows():
    assert (layer(100, 70, c_num=40, p=50).n_clusters, layer(100, 80, c_num=40, p=50).n_clusters) == (30, 20)
    assert layer(100, 60, c_num=0, p=50).n_matched == 30
    assert layer(100, 60, c_num=12, p=5).n_out == 60 - 5 + 12


def test_ratios_are_of_their_own_tokens():
    stage = layer(100, 61, c_ratio=0.1, p_ratio=0.5)
    assert (stage.n_clusters, stage.n_matched) == (math.ceil(3.9), int(30.5))


def test_floating_point_artefacts_are_kept():
    assert Bat(inside=(4,), keep_rate=(0.07,)).stages(of_n_patches(100))[0].n_attentive == 8


@pytest.mark.parametrize("c_num", [None, 0, 1, 3, 10, 40])
@pytest.mark.parametrize("p", [None, 0, 1, 3, 10, 40])
def test_a_lower_rate_never_leaves_more_tokens(c_num, p):
    for n_in in range(1, 61):
        left = [layer(n_in, n_attentive, c_num=c_num, p=p).n_out for n_attentive in range(1, n_in + 1)]
        assert left == sorted(left)
        assert left[-1] == n_in
        if c_num is None and p is None:
            assert left == list(range(1, n_in + 1))


def test_some_tokens_always_remain():
    config = paper(0.01, c_num=0, p=40, min_tokens=3)
    assert [stage.n_out for stage in config.stages(DEIT_SMALL)] == [3, 3, 3]


def test_rate_one_does_nothing_whatever_the_counts():
    idle = paper(1.0, c_num=40, p=40, match="greedy")
    assert idle.cost(DEIT_SMALL).macs == dense_cost(DEIT_SMALL).macs
    assert idle.digest(DEIT_SMALL) == Bat(inside=(), keep_rate=()).digest(DEIT_SMALL)


@pytest.mark.parametrize(
    ("base", "change"),
    [
        ({"p": 200}, {"p": 300}),
        ({"c_num": 100}, {"c_num": 120}),
        ({"p": 0}, {"match": "greedy"}),
        ({"density": "gauss"}, {"knn": 9}),
        ({"c_num": 1}, {"knn": 9, "density": "gauss"}),
        ({"c_num": 0}, {"knn": 9, "density": "gauss"}),
        ({"c_num": 0, "p": 0}, {"knn": 9, "match": "greedy", "merge_weight": "uniform", "merge_norm": False}),
        ({"knn": 98}, {"knn": 200}),
        ({"c_num": None}, {"c_num": 10, "p": 10}),
        ({}, {"keep_rate": (0.4999,)}),
    ],
    ids=str,
)
def test_a_setting_that_decides_nothing_does_not_change_the_digest(base, change):
    layout = {"inside": (4,), "keep_rate": (0.5,)} | base
    assert Bat(**layout).digest(DEIT_SMALL) == Bat(**layout | change).digest(DEIT_SMALL)


@pytest.mark.parametrize(
    "change",
    [
        {"inside": (5,)},
        {"keep_rate": (0.6,)},
        {"c_num": 9},
        {"p": 9},
        {"knn": 4},
        {"density": "gauss"},
        {"match": "greedy"},
        {"merge_weight": "uniform"},
        {"merge_norm": False},
    ],
    ids=lambda change: next(iter(change)),
)
def test_a_setting_that_matters_changes_the_digest(change):
    layout = {"inside": (4,), "keep_rate": (0.5,)}
    assert Bat(**layout).digest(DEIT_SMALL) != Bat(**layout | change).digest(DEIT_SMALL)


def test_json_round_trip_keeps_the_layout():
    layout = Bat(inside=(4, 7), keep_rate=(0.7, 0.8), c_num=(10, 0), p_ratio=0.1, match="greedy")
    assert Bat.model_validate_json(layout.canonical_json()) == layout
    assert parse_layout(layout.model_dump(mode="json")) == layout


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"c_num": 5, "c_ratio": 0.1}, "c_num and c_ratio say the same: give one, got 5 and 0.1"),
        ({"p": (5, 6, 7), "p_ratio": 0.1}, "p and p_ratio say the same"),
        ({"p_ratio": 0.6}, "p_ratio.*less than or equal to 0.5 .got 0.6"),
        ({"c_num": -1}, "c_num"),
        ({"c_num": (1, 2)}, "one value for each of the 3 pruning layers"),
        ({"knn": 0}, "knn"),
    ],
)
def test_impossible_settings_are_refused_with_the_reason(values, message):
    with pytest.raises(InvalidInput, match=message):
        Bat.parse({"inside": (4, 7, 10), "keep_rate": (0.5,) * 3} | values)


def test_a_model_without_a_class_token_is_refused_with_the_methods_that_need_none():
    for count in (paper(0.7).stages, SPACES["paper"].parameters):
        with pytest.raises(UnsupportedModel, match=r"no class token.*random_drop, or zero_tprune with cls"):
            count(HEADLESS)


@pytest.mark.parametrize("architecture", ARCHITECTURES.values(), ids=ARCHITECTURES)
@pytest.mark.parametrize("space", SPACES.values(), ids=SPACES)
@settings(max_examples=100, deadline=None)
@given(seed=st.integers(0, 10**6), share=st.floats(0.0, 1.0))
def test_every_draw_is_repaired_onto_every_budget(space, architecture, seed, share):
    cheapest, dearest = (layout.cost(architecture).gflops for layout in space.extremes(architecture))
    target = cheapest + share * (dearest - cheapest)
    layout = space.fit(draw(space, architecture, seed), architecture, target)
    assert layout.cost(architecture).gflops <= target


@pytest.mark.parametrize("architecture", ARCHITECTURES.values(), ids=ARCHITECTURES)
@pytest.mark.parametrize("preset", ["paper", "full"])
def test_a_repaired_draw_spends_the_budget_but_for_what_two_tokens_cost(architecture, preset):
    space, dense = SPACES[preset], dense_cost(architecture).gflops
    cheapest, dearest = (layout.cost(architecture).gflops for layout in space.extremes(architecture))
    one_token = dense / (architecture.n_prefix + architecture.n_patch)
    for seed in range(200):
        target = random.Random(seed).uniform(cheapest, dearest)
        layout = space.fit(draw(space, architecture, seed), architecture, target)
        assert target - layout.cost(architecture).gflops <= 2 * one_token


@pytest.mark.parametrize("space", SPACES.values(), ids=SPACES)
@pytest.mark.parametrize("architecture", ARCHITECTURES.values(), ids=ARCHITECTURES)
def test_no_draw_costs_less_than_the_cheapest(space, architecture):
    cheapest, _ = space.extremes(architecture)
    drawn = [space.build(draw(space, architecture, seed), architecture) for seed in range(300)]
    assert all(layout.cost(architecture).macs >= cheapest.cost(architecture).macs for layout in drawn)


def test_a_repair_leaves_fewer_clusters_before_it_moves_layers():
    space = parse_space("bat", settings={"n_layers": 3, "p": 0})
    values = {f"inside_{slot}": place for slot, place in ((1, 4), (2, 7), (3, 10))}
    values |= {f"c_num_{slot}": 40 for slot in (1, 2, 3)} | {f"keep_rate_{slot}": 0.6 for slot in (1, 2, 3)}
    # As drawn at the lowest rates 2.4 GFLOPs; with one cluster in each layer 1.6.
    layout = space.fit(values, DEIT_SMALL, 1.8)
    assert layout.inside == (4, 7, 10)
    assert max(layout.c_num) < 40
    assert 1.77 <= layout.cost(DEIT_SMALL).gflops <= 1.8


def test_a_draw_that_fits_exactly_keeps_its_layers_and_counts():
    space = SPACES["paper"]
    values = draw(space, seed=3)
    drawn = space.build(values, DEIT_SMALL)
    fitted = space.fit(values, DEIT_SMALL, drawn.cost(DEIT_SMALL).gflops)
    assert (fitted.inside, fitted.c_num, fitted.p) == (drawn.inside, drawn.c_num, drawn.p)
    assert fitted.keep_rate == pytest.approx(drawn.keep_rate, abs=0.02)


def test_a_layer_that_begins_to_prune_does_not_match_all_its_tokens_at_once():
    space = parse_space("bat", settings={"n_layers": 1, "inside": [4], "c_num": 1})
    target = 0.97 * dense_cost(DEIT_SMALL).gflops
    layout = space.fit({"keep_rate_1": 0.999, "p_1": 40}, DEIT_SMALL, target)
    assert 0 < layout.p[0] < 40
    assert 0.99 * target <= layout.cost(DEIT_SMALL).gflops <= target


def test_the_papers_layers_may_be_fixed_and_every_setting_too():
    fixed = {
        "inside": [4, 7, 10],
        "keep_rate": 0.7,
        "c_num": 8,
        "p": [5, 6, 7],
        "knn": 3,
        "density": "gauss",
        "match": "greedy",
        "merge_weight": "uniform",
        "merge_norm": False,
    }
    space = parse_space("bat", "full", fixed)
    assert space.parameters(DEIT_SMALL) == ()
    layout = space.build({}, DEIT_SMALL)
    assert (layout.inside, layout.c_num, layout.p, layout.merge_norm) == ((4, 7, 10), (8, 8, 8), (5, 6, 7), False)


def test_counts_left_to_their_default_are_typed_as_null():
    space = parse_space("bat", settings={name: parse_setting("null") for name in ("c_num", "p")})
    values = draw(space)
    assert {name.rpartition("_")[0] for name in values} == {"inside", "keep_rate"}
    layout = space.fit(values, DEIT_SMALL, 3.0)
    assert (layout.c_num, layout.p) == (None, None)
    assert {stage.n_clusters for stage in layout.stages(DEIT_SMALL)} == {10}


def test_ranges_of_counts_are_what_the_space_draws():
    space = parse_space("bat", settings={"c_num": IntRange(low=2, high=3), "keep_rate": FloatRange(low=0.4, high=0.5)})
    layout = space.build(draw(space), DEIT_SMALL)
    assert all(count in (2, 3) for count in layout.c_num)
    assert len(layout.c_num) == len(layout.p) == 3
