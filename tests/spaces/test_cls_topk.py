from __future__ import annotations

import pytest

from spaces import CLSTopK, InvalidInput, StageCost, UnsupportedModel, cost_of, parse_space
from tests.tiny import DEIT_SMALL

HEADLESS = DEIT_SMALL.model_copy(update={"n_prefix": 0, "has_class_token": False, "pool": "mean"})


@pytest.mark.parametrize(
    ("rate", "fuse", "macs", "tokens"),
    [
        (0.9, True, 4_030_165_632, (179, 163, 148)),
        (0.9, False, 3_996_349_824, (178, 161, 145)),
        (0.7, True, 3_035_522_688, (140, 100, 72)),
        (0.7, False, 3_003_167_616, (139, 98, 69)),
    ],
)
def test_evits_layouts_cost_what_they_are_published_to(rate, fuse, macs, tokens):
    cost = CLSTopK(inside=(4, 7, 10), keep_rate=(rate,) * 3, fuse=fuse).cost(DEIT_SMALL)
    assert cost.macs == macs
    assert cost.overhead_macs == 0
    assert (cost.tokens_per_block[4], cost.tokens_per_block[7], cost.tokens_per_block[10]) == tokens


@pytest.mark.parametrize(("rate", "published"), [(0.9, 4.0), (0.8, 3.4), (0.7, 2.9), (0.6, 2.5), (0.5, 2.2)])
def test_dynamicvits_token_counts_cost_what_it_publishes_less_its_predictors(rate, published):
    counts = [196, *(int(196 * rate**k) for k in (1, 2, 3))]
    stages = [StageCost(3 * k, counts[k - 1], counts[k]) for k in (1, 2, 3)]
    assert published - 0.1 < cost_of(DEIT_SMALL, stages).gflops < published


def test_a_layer_that_keeps_every_patch_fuses_nothing():
    stages = CLSTopK(inside=(2, 3), keep_rate=(1.0, 0.999)).stages(DEIT_SMALL)
    assert [(stage.n_kept, stage.n_out) for stage in stages] == [(196, 196), (196, 196)]


def test_the_fused_token_counts_among_the_patches_of_the_next_layer():
    first, second = CLSTopK(inside=(2, 3), keep_rate=(0.5, 0.5)).stages(DEIT_SMALL)
    assert (first.n_kept, first.n_out) == (98, 99)
    assert (second.n_in, second.n_kept, second.n_out) == (99, 50, 51)


def test_equal_effect_is_one_digest():
    one = CLSTopK(inside=(3, 6), keep_rate=(0.7, 1.0), fuse=False, fuse_norm=False)
    same = CLSTopK(inside=(3,), keep_rate=(0.6999,), fuse=False, query="prefix")
    assert one.digest(DEIT_SMALL) == same.digest(DEIT_SMALL)
    idle = {CLSTopK(inside=(3,), keep_rate=(1.0,), fuse=fuse).digest(DEIT_SMALL) for fuse in (True, False)}
    assert len(idle) == 1


@pytest.mark.parametrize(
    "change", [{"fuse": False}, {"fuse_norm": False}, {"head_reduce": "max"}, {"query": "prefix"}], ids=str
)
def test_a_setting_that_matters_changes_the_digest(change):
    distilled = DEIT_SMALL.model_copy(update={"n_prefix": 2})
    layout = {"inside": (3,), "keep_rate": (0.7,)}
    assert CLSTopK(**layout).digest(distilled) != CLSTopK(**layout | change).digest(distilled)


def test_a_model_without_a_class_token_is_refused_with_what_does_work():
    message = "use attention_rank, tome, random_drop, or zero_tprune with cls_init=uniform"
    with pytest.raises(UnsupportedModel, match=message):
        CLSTopK(inside=(3,), keep_rate=(0.7,)).stages(HEADLESS)
    with pytest.raises(UnsupportedModel, match=message):
        parse_space("cls_topk").parameters(HEADLESS)


def test_the_last_block_may_prune_and_one_more_is_refused():
    assert CLSTopK(inside=(12,), keep_rate=(0.7,)).stages(DEIT_SMALL)
    with pytest.raises(InvalidInput, match=r"inside block 13, .* use layers from 1 to 12"):
        CLSTopK(inside=(13,), keep_rate=(0.7,)).stages(DEIT_SMALL)


def test_the_papers_layout_is_a_point_of_its_preset():
    space = parse_space("cls_topk", settings={"inside": [4, 7, 10], "keep_rate": 0.7, "fuse": True})
    assert space.parameters(DEIT_SMALL) == ()
    assert space.build({}, DEIT_SMALL) == CLSTopK(inside=(4, 7, 10), keep_rate=(0.7,) * 3)
