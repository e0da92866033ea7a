from __future__ import annotations

import pytest

from spaces import AttentionRank, InvalidInput, RandomDrop
from tests.tiny import DEIT_SMALL


def test_costs_what_random_drop_costs():
    layers = {"after": (3, 6, 9), "keep_rate": (0.29, 0.8, 0.7)}
    assert AttentionRank(**layers).cost(DEIT_SMALL) == RandomDrop(**layers).cost(DEIT_SMALL)


def digests(**layers):
    return {AttentionRank(**layers, score=score).digest(DEIT_SMALL) for score in ("mean", "accumulated")}


def test_after_the_first_block_both_scores_are_one_and_after_others_two():
    assert len(digests(after=(1, 6), keep_rate=(0.5, 1.0))) == 1
    assert len(digests(after=(1, 6), keep_rate=(0.5, 0.5))) == 2
    assert len(digests(after=(6,), keep_rate=(1.0,))) == 1


def test_a_model_without_a_class_token_will_do():
    headless = DEIT_SMALL.model_copy(update={"n_prefix": 0, "has_class_token": False, "pool": "mean"})
    assert AttentionRank(after=(3,), keep_rate=(0.5,)).stages(headless)[0].n_out == 98


def test_layers_the_model_does_not_have_are_refused():
    with pytest.raises(InvalidInput, match="has only 12 blocks"):
        AttentionRank(after=(13,), keep_rate=(0.5,)).stages(DEIT_SMALL)
