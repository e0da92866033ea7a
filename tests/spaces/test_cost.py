from __future__ import annotations

import pytest

from spaces import StageCost, cost_of, dense_cost
from tests.tiny import DEIT_SMALL

DENSE = [
    ({"dim": 192, "n_heads": 3, "attention_dim": 192, "mlp_dim": 768}, 1_258_411_200),
    ({}, 4_608_338_304),
    ({"dim": 768, "n_heads": 12, "attention_dim": 768, "mlp_dim": 3072}, 17_582_740_224),
    ({"n_prefix": 2, "n_classifiers": 2}, 4_633_644_288),
    (
        {"dim": 768, "n_heads": 12, "attention_dim": 768, "mlp_dim": 3072, "image_size": (384, 384)},
        55_539_742_464,
    ),
    ({"dim": 1024, "n_heads": 16, "attention_dim": 1024, "mlp_dim": 4096, "depth": 24}, 61_604_135_936),
]


@pytest.mark.parametrize(
    ("changes", "macs"), DENSE, ids=["DeiT-T", "DeiT-S", "DeiT-B", "DeiT-S distilled", "ViT-B@384", "ViT-L"]
)
def test_dense_cost_is_the_published_integer(changes, macs):
    assert dense_cost(DEIT_SMALL.model_copy(update=changes)).macs == macs


def test_parts_add_up_to_the_whole():
    cost = cost_of(DEIT_SMALL, [StageCost(block=3, n_in=196, n_out=98, overhead_macs=7)])
    assert cost.macs == cost.model_macs + 7
    assert cost.model_macs == cost.stem_macs + sum(block.macs for block in cost.blocks) + cost.tail_macs
    assert cost.tokens_per_block == (197,) * 3 + (99,) * 9


def test_pruning_after_the_last_block_saves_the_final_norm_alone():
    cost = cost_of(DEIT_SMALL, [StageCost(block=12, n_in=196, n_out=96)])
    assert dense_cost(DEIT_SMALL).macs - cost.macs == 5 * 100 * 384
