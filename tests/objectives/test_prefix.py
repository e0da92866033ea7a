"""Starting from the dense model's kept tokens: the same results to the last bit, with less work."""

from __future__ import annotations

import itertools
from collections import Counter
from functools import partial

import numpy as np
import pytest

from objectives.prefix import DensePrefix, most_useful, prefix_bytes
from objectives.visits import Visits
from pruning import read_architecture
from pruning.backbones.families import family_of
from spaces import RandomDrop, ZeroTPrune
from tests.objectives.test_evaluator import evaluator, images
from tests.tiny import tiny_images, tiny_lvvit, tiny_tnt, tiny_vit

LAYOUTS = [
    ZeroTPrune(after=(3, 5), keep_rate=(0.7, 0.6), s=2),
    ZeroTPrune(after=(5,), keep_rate=(0.7,), s=2, feature="x_pre"),
    RandomDrop(after=(4,), keep_rate=(0.5,)),
    ZeroTPrune(after=(1, 2), keep_rate=(0.7, 0.6), s=2),
    RandomDrop(after=(2, 5), keep_rate=(0.5, 0.5)),
    RandomDrop(after=(2,), keep_rate=(1.0,)),
    ZeroTPrune(after=(3, 4), keep_rate=(0.9, 0.3), s=0),
]


def depth_bytes(model, n: int = 50) -> int:
    return prefix_bytes(read_architecture(model), n)


MODELS = {
    "ViT": partial(tiny_vit, depth=6),
    "distilled DeiT": partial(tiny_vit, depth=6, distilled=True),
    "TNT": partial(tiny_tnt, depth=6),
    "LV-ViT": partial(tiny_lvvit, depth=6),
}


@pytest.mark.parametrize("made", MODELS.values(), ids=MODELS)
@pytest.mark.parametrize("n_depths", [1, 2, 100])
def test_results_are_those_of_the_whole_model_to_the_last_bit(made, n_depths):
    model = made()
    plain = evaluator(model, batch_size=16)
    kept = evaluator(model, batch_size=16, cache_bytes=n_depths * depth_bytes(model))
    for each in (plain, kept):
        each.measure_dense()
    for layout in 3 * LAYOUTS:
        expected, found = plain.measure(layout), kept.measure(layout)
        assert (found.values, found.outcomes) == (expected.values, expected.outcomes)
        assert found.tokens_per_block == expected.tokens_per_block


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
@pytest.mark.parametrize("made", MODELS.values(), ids=MODELS)
def test_what_came_before_changes_no_bit_in_whatever_order_images_come(made, precision):
    model = made()
    plain, fresh, kept = (
        evaluator(model, batch_size=16, precision=precision, cache_bytes=n * depth_bytes(model)) for n in (0, 100, 100)
    )
    for each in (plain, fresh, kept):
        each.measure_dense()
    chance = np.random.default_rng(0)
    for number, layout in enumerate(LAYOUTS):
        visits = Visits(number, chance.random((5, 50)) < 0.5)
        kept.measure(LAYOUTS[number - 2], lambda _: True, Visits(0, ~visits.mistakes))
        fresh.with_smaller_batches()  # lets go of what it kept
        found, expected = kept.measure(layout, visits=visits), fresh.measure(layout, visits=visits)
        assert (found.values, found.outcomes) == (expected.values, expected.outcomes)
        in_list = plain.measure(layout)
        assert found.outcomes == in_list.outcomes
        assert found.values["kl_nats"].value == pytest.approx(in_list.values["kl_nats"].value, rel=0.02, abs=1e-5)


def test_blocks_that_a_layout_shares_with_an_earlier_one_are_not_run_again():
    model = tiny_vit(depth=6)
    measured = evaluator(model, batch_size=16, cache_bytes=100 * depth_bytes(model))
    measured.measure_dense()
    ran = Counter()
    for number, block in enumerate(model.blocks):
        block.register_forward_pre_hook(lambda *_, number=number: ran.update([number]))

    def batches_through_each_block(layout) -> list[int]:
        ran.clear()
        measured.measure(layout)
        return [ran[number] - 1 for number in range(6)]  # one image more goes through the model to be counted

    first = batches_through_each_block(RandomDrop(after=(4,), keep_rate=(0.5,)))
    again = batches_through_each_block(RandomDrop(after=(4,), keep_rate=(0.7,)))
    later = batches_through_each_block(RandomDrop(after=(5,), keep_rate=(0.7,)))
    earlier = batches_through_each_block(RandomDrop(after=(3,), keep_rate=(0.7,)))
    assert first == [4, 4, 4, 4, 4, 4]
    assert again == [0, 0, 0, 4, 4, 4]
    assert later == [0, 0, 0, 4, 4, 4]
    assert earlier == [4, 4, 4, 4, 4, 4]


@pytest.mark.parametrize("made", MODELS.values(), ids=MODELS)
def test_kept_tokens_take_the_bytes_that_are_planned_for(made):
    model = made()
    family = family_of(model, "tiny")
    held = family.run_blocks(model, family.embed(model, tiny_images(3)), 0, 2)
    tensors = held if isinstance(held, tuple) else (held,)
    assert sum(tensor.nbytes for tensor in tensors) == depth_bytes(model, 3)


@pytest.mark.parametrize("n_depths", [0, 1, 2])
def test_no_more_is_kept_than_the_memory_holds(n_depths):
    model = tiny_vit(depth=6)
    prefix = DensePrefix(50, 16, depth_bytes(model), n_depths * depth_bytes(model) + 1)
    for n_dense in [1, 2, 3, 4, 5, 5, 4, 5, 5] * 10:
        prefix.plan_for(n_dense)
        assert len(prefix.depths) <= n_depths
    assert prefix.depths == [(), (4,), (2, 4)][n_depths]


def test_without_memory_nothing_is_kept():
    kept = evaluator(tiny_vit(depth=6), images(), cache_bytes=0)
    kept.measure_dense()
    kept.measure(LAYOUTS[0])
    assert kept.kept_depths == ()


@pytest.mark.parametrize("n", [1, 2, 3])
def test_the_depths_chosen_spare_nearly_as_much_as_the_best_choice(n):
    asked = {1: 9, 2: 30, 3: 4, 5: 17, 6: 2, 9: 6}

    def spared(depths) -> int:
        return sum(count * max((d for d in depths if d <= need), default=0) for need, count in asked.items())

    best = max(spared(choice) for choice in itertools.combinations(asked, n))
    assert spared(most_useful(asked, n)) >= (1 - 1 / 2.718281828) * best
