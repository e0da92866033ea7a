from __future__ import annotations

import pytest

from spaces import InvalidInput, ToMe
from tests.tiny import DEIT_SMALL


@pytest.mark.parametrize(
    ("r", "macs", "overhead"),
    [
        (11, 2_995_887_296, 3_854_144),
        (12, 2_853_383_808, 3_624_192),
        (13, 2_711_673_920, 3_410_624),
    ],
)
def test_constant_schedules_cost_what_methods_gives_with_their_comparisons(r, macs, overhead):
    cost = ToMe(r=r).cost(DEIT_SMALL)
    assert (cost.macs, cost.overhead_macs) == (macs, overhead)


@pytest.mark.parametrize(
    ("layout", "schedule"),
    [
        ({"r": 5}, (5, 5, 5, 5)),
        ({"r": 6, "inflection": 1}, (0, 4, 8, 12)),
        ({"r": 6, "inflection": -1}, (12, 8, 4, 0)),
        ({"r": 5, "inflection": 0.3}, (3, 4, 5, 7)),  # 3, 4.33, 5.67, 7
        ({"r": 5, "inflection": -0.5}, (7, 5, 4, 3)),  # 7, 5.67, 4.33, 3
        ({"r": 5, "inflection": 1, "start_block": 3}, (0, 0, 0, 10)),
        ({"r": 5, "inflection": 1, "start_block": 4}, (0, 0, 0, 5)),
        ({"r": (1, 2)}, (1, 2, 0, 0)),
        ({"r": ()}, (0, 0, 0, 0)),
    ],
)
def test_schedules_written_out(layout, schedule):
    assert ToMe(**layout).schedule(4) == schedule


def test_no_block_merges_more_than_half_of_its_patches():
    counts = [(stage.n_in, stage.n_out) for stage in ToMe(r=(0, 150, 40, 1000), metric_feature="x").stages(DEIT_SMALL)]
    assert counts == [(196, 98), (98, 58), (58, 29)]
    assert ToMe(r=1000).stages(DEIT_SMALL)[-1].n_out == 1  # and stays there


@pytest.mark.parametrize(("n_prefix", "even", "odd"), [(0, 98, 98), (1, 99, 98), (2, 99, 99), (5, 101, 100)])
@pytest.mark.parametrize(("feature", "dim"), [("key", 64), ("query", 64), ("x", 384)])
def test_every_even_token_is_compared_with_every_odd_one(n_prefix, even, odd, feature, dim):
    architecture = DEIT_SMALL.model_copy(update={"n_prefix": n_prefix})
    (stage,) = ToMe(r=(0, 0, 7), metric_feature=feature).stages(architecture)
    assert (stage.block, stage.where, stage.overhead_macs) == (3, "inside", even * odd * dim)


def test_spellings_of_one_schedule_are_one_digest():
    spellings = [
        ToMe(r=8, start_block=10),
        ToMe(r=(0,) * 9 + (8, 8, 8)),
        ToMe(r=8, start_block=10, inflection=0.1),  # 7.2, 8, 8.8 would be 7 ...
    ]
    first, same, other = (layout.digest(DEIT_SMALL) for layout in spellings)
    assert first == same != other
    assert ToMe(r=(98,)).digest(DEIT_SMALL) == ToMe(r=(500,)).digest(DEIT_SMALL)


def test_how_merges_are_made_is_part_of_the_effect_only_where_it_shows():
    def digests(r, name, *values):
        return {ToMe(r=r, **{name: value}).digest(DEIT_SMALL) for value in values}

    assert len(digests(8, "metric_feature", "key", "query", "x")) == 3
    assert len(digests(0, "metric_feature", "key", "query", "x")) == 1
    assert len(digests((0,) * 10 + (8,), "prop_attn", True, False)) == 2
    assert len(digests((0,) * 11 + (8,), "prop_attn", True, False)) == 1


def test_json_round_trip_keeps_the_layout():
    for layout in (ToMe(r=8, inflection=-0.5, start_block=2), ToMe(r=(3, 0, 2), metric_feature="x", prop_attn=False)):
        assert ToMe.model_validate_json(layout.canonical_json()) == layout


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"r": -1}, "greater than or equal to 0"),
        ({"r": 8, "inflection": 1.5}, "less than or equal to 1"),
        ({"r": [8], "start_block": 2}, "a list r says .* got inflection=0.0, start_block=2"),
        ({"r": [8], "inflection": 0.5}, "must be left out"),
    ],
)
def test_impossible_settings_are_refused_with_the_reason(values, message):
    with pytest.raises(InvalidInput, match=message):
        ToMe.parse(values)


@pytest.mark.parametrize("layout", [{"r": 8, "start_block": 13}, {"r": (0,) * 13}])
def test_blocks_the_model_does_not_have_are_refused(layout):
    with pytest.raises(InvalidInput, match="merges in block 13, but there are only 12 blocks"):
        ToMe(**layout).stages(DEIT_SMALL)
