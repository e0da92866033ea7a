from __future__ import annotations

import time

import pytest
import torch

from objectives.latency import time_in_turn


def test_the_slower_of_two_is_the_slower_and_its_median_is_in_milliseconds():
    images = torch.zeros(4, 3, 2, 2)

    def sleep(seconds):
        return lambda images: time.sleep(seconds) or images

    times = time_in_turn({"slow": sleep(0.02), "fast": sleep(0.002)}, images, seconds=0.1)
    slow, fast = times["slow"], times["fast"]
    assert slow.median_ms >= 20
    assert slow.low_ms <= slow.median_ms <= slow.high_ms
    assert fast.median_ms < slow.median_ms
    assert slow.batch_size == 4
    assert slow.images_per_s == pytest.approx(4000 / slow.median_ms)


def test_runs_take_turns_and_warm_up_first():
    order = []
    times = time_in_turn(
        {name: lambda images, name=name: order.append(name) or images for name in "ab"}, torch.zeros(1), seconds=0
    )
    assert "".join(order) == "aaabbb" + 7 * "ab"
    assert {name: latency.n_runs for name, latency in times.items()} == {"a": 7, "b": 7}
