"""DToP's layouts: what they cost, what they do, and what they refuse."""

from __future__ import annotations

import pytest

from spaces import DToP, InvalidInput, UnsupportedModel, dense_cost, parse_layout
from spaces.cost import upsampling_macs
from tests.tiny import DEIT_SMALL, SEGVIT_BASE

UPSAMPLING_GFLOPS = 2 * upsampling_macs(SEGVIT_BASE) / 1e9
HEAD_MACS = 2_547_340_032  # of all 1024 tokens; METHODS 9.4


def test_with_all_heads_and_nothing_finished_segvit_costs_what_the_notes_say():
    gflops = DToP(after=(6, 8), p0=1.0).cost(SEGVIT_BASE).gflops + UPSAMPLING_GFLOPS
    assert gflops == pytest.approx(114.955, abs=0.001)


@pytest.mark.parametrize(("shares", "gflops"), [((0.6, 0.5), 86.33), ((0.7, 0.5), 88.37)])
def test_an_image_costs_what_its_active_tokens_and_all_heads_cost(shares, gflops):
    kept = [round(share * 1024) for share in shares]
    cost = DToP(after=(6, 8)).cost_of_image(SEGVIT_BASE, kept)
    assert cost.gflops + UPSAMPLING_GFLOPS == pytest.approx(gflops, abs=0.05)
    assert cost.tokens_per_block == (1024,) * 6 + (kept[0],) * 2 + (kept[1],) * 4


def test_grading_nowhere_costs_what_the_dense_model_costs():
    assert DToP(after=()).cost(SEGVIT_BASE) == dense_cost(SEGVIT_BASE)


def test_each_head_that_grades_adds_its_own_work():
    dense = dense_cost(SEGVIT_BASE).macs
    assert DToP(after=(8,)).cost(SEGVIT_BASE).macs == dense + HEAD_MACS
    assert DToP(after=(6, 8)).cost(SEGVIT_BASE).macs == dense + 2 * HEAD_MACS


@pytest.mark.parametrize(
    ("layout", "kept"),
    [
        (DToP(after=(6, 8), k=5), (5, 5)),
        (DToP(after=(6, 8), k=2000), (1024, 1024)),
        (DToP(after=(6, 8), rule="remove"), (0, 0)),
        (DToP(after=(6, 8), rule="average"), (1, 1)),
        (DToP(after=(6, 8), rule="fixed_ratio", ratio=0.25), (768, 576)),
    ],
)
def test_the_least_that_can_stay_is_what_one_easy_class_leaves(layout, kept):
    assert layout.least_cost(SEGVIT_BASE) == layout.cost_of_image(SEGVIT_BASE, kept)


def test_a_fixed_ratio_costs_the_same_for_every_image():
    layout = DToP(after=(6, 8), rule="fixed_ratio", ratio=0.35)
    assert layout.least_cost(SEGVIT_BASE) == layout.cost(SEGVIT_BASE)
    assert layout.cost(SEGVIT_BASE).tokens_per_block == (1024,) * 6 + (666,) * 2 + (433,) * 4


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ({"rule": "topk", "k": 0}, {"rule": "remove"}),
        ({"rule": "remove", "k": 3}, {"rule": "remove", "k": 7}),
        ({"p0": 0.9}, {"p0": [0.9, 0.9]}),
        ({"ratio": 0.2}, {"ratio": 0.3}),
        ({"rule": "fixed_ratio", "p0": 0.9}, {"rule": "fixed_ratio", "p0": 0.8}),
        ({"rule": "fixed_ratio", "ratio": 0.3500001}, {"rule": "fixed_ratio", "ratio": 0.35}),
    ],
)
def test_settings_that_decide_nothing_do_not_make_another_candidate(one, other):
    first, second = (parse_layout({"method": "dtop", "after": [6, 8], **settings}) for settings in (one, other))
    assert first.digest(SEGVIT_BASE) == second.digest(SEGVIT_BASE)


@pytest.mark.parametrize(
    "changed", [{"p0": 0.9}, {"k": 3}, {"after": [6]}, {"rule": "average"}, {"merge": "exit_stage"}]
)
def test_settings_that_decide_something_do(changed):
    layout = {"method": "dtop", "after": [6, 8]}
    assert parse_layout(layout).digest(SEGVIT_BASE) != parse_layout(layout | changed).digest(SEGVIT_BASE)


def test_where_heads_give_no_class_probabilities_there_is_one_way_to_merge():
    heads = tuple(head.model_copy(update={"kind": "fcn", "n_layers": 0}) for head in SEGVIT_BASE.heads)
    setr = SEGVIT_BASE.model_copy(update={"heads": heads})
    assert DToP(after=(6,), merge="official").digest(setr) == DToP(after=(6,), merge="exit_stage").digest(setr)


def test_a_head_that_is_missing_is_named_with_those_that_are_there():
    with pytest.raises(InvalidInput, match=r"grades after block 7, but segvit_vit_base has no head .* after 6, 8"):
        DToP(after=(6, 7)).cost(SEGVIT_BASE)


def test_the_last_head_cannot_grade():
    with pytest.raises(InvalidInput, match=r"grades after block 12, where the last head .* can grade are after 6, 8"):
        DToP(after=(6, 12)).cost(SEGVIT_BASE)


def test_a_model_without_heads_is_refused():
    with pytest.raises(UnsupportedModel, match=r"dtop cannot prune deit_small_patch16_224: .* this model has none"):
        DToP(after=(6,)).cost(DEIT_SMALL)


@pytest.mark.parametrize(
    ("settings", "problem"),
    [
        ({"p0": [0.9]}, "p0 must give one value for each of the 2 heads that grade"),
        ({"p0": 0.0}, "p0: Input should be greater than 0"),
        ({"p0": 1.1}, "p0: Input should be less than or equal to 1"),
        ({"k": -1}, "k: Input should be greater than or equal to 0"),
        ({"after": [8, 6]}, "must be strictly increasing"),
        ({"rule": "magic"}, "rule: Input should be 'topk'"),
    ],
)
def test_settings_out_of_bounds_are_named(settings, problem):
    with pytest.raises(InvalidInput, match=problem):
        parse_layout({"method": "dtop", "after": [6, 8], **settings})
