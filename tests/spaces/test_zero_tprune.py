from __future__ import annotations

import pytest

from spaces import InvalidInput, UnsupportedModel, ZeroTPrune
from tests.tiny import DEIT_SMALL

PAPER_Y = {"after": (1, 3, 6, 9, 11), "keep_rate": (1, 0.9, 0.8, 0.7, 1)}
PAPER_X = {"after": (3, 6, 9, 11), "keep_rate": (0.8, 0.7, 0.7, 0.6), "s": 0}


def three(*rates: float, s: int = 0) -> dict:
    return {"after": (3, 6, 9), "keep_rate": rates, "s": s}


# (layout, model multiply-adds, tokens with CLS in the groups between pruning layers); METHODS, author notebook.
ROWS = {
    "Z1": (three(0.9, 0.8, 0.7), 3_554_802_816, (197, 177, 141, 99)),
    "Z2": (three(0.8, 0.8, 0.8), 3_343_868_928, (197, 157, 125, 100)),
    "Z3": (three(0.7, 0.7, 0.7), 2_872_513_152, (197, 138, 96, 67)),
    "Z4": (three(0.6, 0.6, 0.6), 2_477_893_248, (197, 118, 71, 43)),
    "X floor": (PAPER_X, 3_066_205_440, (197, 157, 110, 77, 46)),
    "X round": (PAPER_X | {"rounding": "round_total"}, 3_083_711_616, None),
    "Y floor": (PAPER_Y, 3_071_147_904, (197, 187, 158, 116, 71, 61)),
    "Y round": (PAPER_Y | {"rounding": "round_total"}, 3_071_147_904, (197, 187, 158, 116, 71, 61)),
    "Table 7": (
        {"after": (1, 3, 5, 7, 9, 11), "keep_rate": (0.9, 0.9, 0.85, 0.8, 0.7, 0.65), "s": 0},
        2_987_159_424,
        None,
    ),
    "budget a": (PAPER_Y | {"s": 12}, 2_977_711_872, None),
    "budget b": (three(0.7, 0.65, 0.6, s=10), 2_498_570_496, None),
    "budget c": (three(0.94, 0.94, 0.94, s=6), 3_970_119_936, None),
}


@pytest.mark.parametrize("row", ROWS)
def test_model_cost_is_the_published_integer(row):
    layout, macs, tokens = ROWS[row]
    cost = ZeroTPrune(**layout).cost(DEIT_SMALL)
    assert cost.model_macs == macs
    if tokens is not None:
        groups = dict.fromkeys(cost.tokens_per_block)
        assert tuple(groups) == tokens


@pytest.mark.parametrize(("row", "published"), [("Z2", 3_344_264_343), ("Z3", 2_872_848_497), ("Z4", 2_478_182_118)])
def test_totals_of_the_author_notebook_are_ours_with_five_votes_on_averaged_attention(row, published):
    layout = ZeroTPrune(**ROWS[row][0], iterations=5)
    # Their votes run once on the mean over heads, ours on each head; the arithmetic of one vote is the same.
    assert DEIT_SMALL.n_heads * (published - ROWS[row][1]) == layout.cost(DEIT_SMALL).overhead_macs


def test_overhead_of_the_papers_layout_is_what_methods_gives():
    cost = ZeroTPrune(**PAPER_Y).cost(DEIT_SMALL)
    comparisons, votes_without_idle_stages = 11_115_264, 2_367_840
    assert cost.overhead_macs == comparisons + votes_without_idle_stages
    # METHODS' 8 684 586 also runs the votes of the first and last layer, whose rate of 1 removes nothing by rank.
    idle = 6 * (30 * 187**2 + 1 * 61**2)
    assert votes_without_idle_stages + idle == 8_684_586


def test_iterations_follow_the_papers_rule_by_depth():
    layout = ZeroTPrune(after=(1, 3, 6, 9, 11), keep_rate=(0.9,) * 5, s=0)
    assert [stage.iterations for stage in layout.stages(DEIT_SMALL)] == [30, 5, 5, 1, 1]


def test_s_comes_on_top_of_the_rate_or_before_it():
    on_top = ZeroTPrune(after=(3,), keep_rate=(0.5,), s=10).stages(DEIT_SMALL)[0]
    before = ZeroTPrune(after=(3,), keep_rate=(0.5,), s=10, k_base="after_s").stages(DEIT_SMALL)[0]
    assert (on_top.n_out, before.n_out) == (98 - 10, (196 - 10) // 2)


@pytest.mark.parametrize("k_base", ["n_in", "after_s"])
def test_both_orders_leave_as_many_tokens(k_base):
    layouts = [
        ZeroTPrune(after=(3, 6), keep_rate=(0.7, 0.8), s=(10, 4), k_base=k_base, order=order)
        for order in ("I'-S-I", "I-S")
    ]
    counts = [[stage.n_out for stage in layout.stages(DEIT_SMALL)] for layout in layouts]
    assert counts[0] == counts[1]


def test_floating_point_artefacts_are_kept():
    assert ZeroTPrune(after=(1,), keep_rate=(0.29,), s=0)._kept(100, 0.29, 1) == 28


def test_a_layer_never_removes_all_tokens():
    layout = ZeroTPrune(after=tuple(range(1, 12)), keep_rate=(0.05,) * 11, s=1000, min_tokens=2)
    assert layout.stages(DEIT_SMALL)[-1].n_out == 2


def test_equal_effect_is_one_digest():
    one = ZeroTPrune(after=(3, 6), keep_rate=(0.7, 1.0), s=0, feature="query", iterations=(5, 7))
    same = ZeroTPrune(after=(3,), keep_rate=(0.7001,), s=0, feature="key", iterations=5)
    other = ZeroTPrune(after=(3,), keep_rate=(0.7,), s=0, iterations=6)
    assert one.digest(DEIT_SMALL) == same.digest(DEIT_SMALL)
    assert one.digest(DEIT_SMALL) != other.digest(DEIT_SMALL)


@pytest.mark.parametrize(
    "change",
    [
        {"feature": "value"},
        {"partition": "alternate"},
        {"similarity": "dot"},
        {"cls_init": "uniform"},
        {"head_agg": "mean"},
        {"vhf": False},
        {"v_max": 0.8},
        {"order": "I-S"},
        {"temperature": 0.5},
        {"iterations": 7},
    ],
    ids=lambda change: next(iter(change)),
)
def test_a_setting_that_matters_changes_the_digest(change):
    layout = {"after": (3,), "keep_rate": (0.7,), "s": 10}
    assert ZeroTPrune(**layout).digest(DEIT_SMALL) != ZeroTPrune(**layout | change).digest(DEIT_SMALL)


def test_the_identity_layout_has_the_digest_of_no_layers():
    nothing = ZeroTPrune(after=(), keep_rate=(), s=0)
    idle = ZeroTPrune(after=(3, 6), keep_rate=(1.0, 1.0), s=0, vhf=False)
    assert nothing.digest(DEIT_SMALL) == idle.digest(DEIT_SMALL)


def test_json_round_trip_keeps_the_layout():
    layout = ZeroTPrune(after=(3, 6), keep_rate=(0.7, 0.8), s=(10, 0), similarity="minkowski_inf")
    assert ZeroTPrune.model_validate_json(layout.canonical_json()) == layout


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"after": (3, 3), "keep_rate": (0.5, 0.5)}, r"strictly increasing, got \[3, 3\]"),
        ({"after": (3,), "keep_rate": (0.5, 0.5)}, "one value for each of the 1 pruning layers"),
        ({"after": (3,), "keep_rate": (1.5,)}, "less than or equal to 1"),
        ({"after": (0,), "keep_rate": (0.5,)}, "greater than or equal to 1"),
        ({"after": (3,), "keep_rate": (0.5,), "v_min": 1.0, "v_max": 0.5}, "v_min < v_max must hold"),
        ({"after": (3,), "keep_rate": (0.5,), "keep": 3}, "keep: Extra inputs are not permitted"),
        ({"after": (3,), "keep_rate": (0.5,), "iterations": 0}, "iterations"),
    ],
)
def test_impossible_settings_are_refused_with_the_reason(values, message):
    with pytest.raises(InvalidInput, match=message):
        ZeroTPrune.parse(values)


def test_all_mistakes_are_told_at_once():
    with pytest.raises(InvalidInput, match=r"keep_rate.*v_min") as error:
        ZeroTPrune.parse({"after": (3,), "keep_rate": (2.0,), "v_min": -1})
    assert "\n" not in str(error.value)


def test_layers_the_model_does_not_have_are_refused():
    with pytest.raises(InvalidInput, match="after block 13, but deit_small_patch16_224 has only 12 blocks"):
        ZeroTPrune(after=(13,), keep_rate=(0.5,)).stages(DEIT_SMALL)


def test_a_model_without_a_class_token_needs_the_uniform_start():
    headless = DEIT_SMALL.model_copy(update={"n_prefix": 0, "has_class_token": False, "pool": "mean"})
    with pytest.raises(UnsupportedModel, match="use cls_init=uniform"):
        ZeroTPrune(after=(3,), keep_rate=(0.5,)).stages(headless)
    assert ZeroTPrune(after=(3,), keep_rate=(0.5,), cls_init="uniform").stages(headless)
