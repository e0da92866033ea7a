from __future__ import annotations

from spaces import RandomDrop, ZeroTPrune
from tests.tiny import DEIT_SMALL


def test_costs_what_zero_tprune_costs_without_its_overhead():
    layers = {"after": (3, 6, 9), "keep_rate": (0.9, 0.8, 0.7)}
    random = RandomDrop(**layers).cost(DEIT_SMALL)
    assert random.macs == ZeroTPrune(**layers, s=0).cost(DEIT_SMALL).model_macs
    assert random.overhead_macs == 0


def test_the_seed_is_part_of_the_effect_only_where_something_is_dropped():
    digests = {RandomDrop(after=(3,), keep_rate=(0.5,), seed=seed).digest(DEIT_SMALL) for seed in (0, 1)}
    assert len(digests) == 2
    idle = {RandomDrop(after=(3,), keep_rate=(1.0,), seed=seed).digest(DEIT_SMALL) for seed in (0, 1)}
    assert len(idle) == 1
