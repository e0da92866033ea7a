from __future__ import annotations

import math

import numpy as np
import pytest

from spaces import Architecture, Convolution, StageCost, Words, cost_of, dense_cost
from spaces.cost import model_macs_of_many
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

PATCH_HEADED = DEIT_SMALL.model_copy(update={"classifies_patches": True, "norms_pooled": True})


def tnt(dim: int, n_heads: int, word_dim: int, *, legacy: bool = False, n_word: int = 16) -> Architecture:
    side = 14 * math.isqrt(n_word)
    return Architecture(
        name="TNT",
        image_size=(224, 224),
        patch_size=(16, 16),
        depth=12,
        dim=dim,
        n_heads=n_heads,
        attention_dim=dim,
        mlp_dim=4 * dim,
        stem=(Convolution(in_channels=3, out_channels=word_dim, kernel_size=(7, 7), output_size=(side, side)),),
        words=Words(n_word=n_word, dim=word_dim, mlp_dim=4 * word_dim, norms_projection=not legacy),
    )


@pytest.mark.parametrize(
    ("architecture", "macs"),
    [
        (tnt(192, 3, 12), 1_417_857_984),
        (tnt(384, 6, 24), 5_245_147_008),
        (tnt(384, 6, 24, legacy=True), 5_240_631_168),
        (tnt(640, 10, 40), 14_096_202_880),
    ],
    ids=["Ti", "S", "S legacy", "B"],
)
def test_dense_cost_of_a_tnt_is_the_published_integer(architecture, macs):
    assert dense_cost(architecture).macs == macs


@pytest.mark.parametrize(("n_word", "word_dim", "gflops"), [(64, 6, 5.137), (4, 96, 6.004)])
def test_other_numbers_of_words_cost_what_the_tnt_paper_says(n_word, word_dim, gflops):
    assert dense_cost(tnt(384, 6, word_dim, n_word=n_word)).gflops == pytest.approx(gflops, abs=5e-4)


def test_a_dropped_sentence_spares_its_words_from_the_next_block_on():
    architecture = tnt(384, 6, 24)
    plain = architecture.model_copy(update={"words": None})

    def of_words(block: int, where: str) -> int:
        stages = [StageCost(block=6, n_in=196, n_out=96, where=where)]
        blocks = [cost_of(each, stages).blocks[block - 1].macs for each in (architecture, plain)]
        return blocks[0] - blocks[1]

    for where in ("after", "inside"):
        assert of_words(6, where) * 96 == of_words(7, where) * 196


def test_a_classifier_of_patches_reads_those_that_are_left():
    architecture = DEIT_SMALL.model_copy(update={"classifies_patches": True})
    stages = [StageCost(block=12, n_in=196, n_out=96)]
    spared = cost_of(DEIT_SMALL, ()).macs - cost_of(DEIT_SMALL, stages).macs
    assert cost_of(architecture, ()).macs - cost_of(architecture, stages).macs == spared + 100 * 384 * 1000


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


@pytest.mark.parametrize("where", ["after", "inside", "in_attention"])
@pytest.mark.parametrize("architecture", [DEIT_SMALL, tnt(384, 6, 24), PATCH_HEADED])
def test_many_layouts_are_counted_at_once_to_the_integer(architecture, where):
    layouts = [[(3, 150), (7, 60)], [(1, 195)], [], [(2, 90), (9, 89), (12, 1)]]
    left, macs = [], []
    for layout in layouts:
        n_in, stages = 196, []
        for block, n_out in layout:
            stages.append(StageCost(block=block, n_in=n_in, n_out=n_out, overhead_macs=10**6, where=where))
            n_in = n_out
        macs.append(cost_of(architecture, stages).model_macs)
        n_out, n_left = dict(layout), 196
        left.append([n_left := n_out.get(block, n_left) for block in range(1, 13)])
    assert model_macs_of_many(architecture, np.array(left, float), where).tolist() == macs
