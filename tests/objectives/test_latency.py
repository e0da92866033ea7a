from __future__ import annotations

import socket
import time
from dataclasses import replace

import pytest
import torch

from objectives.latency import machine_at_hand, time_alone, time_in_turn


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


def test_one_alone_takes_its_batches_in_turn_after_a_warm_up():
    seen = []
    batches = [torch.full((1,), float(number)) for number in range(2)]
    found = time_alone(lambda images: seen.append(int(images)) or images, batches, seconds=0, least_rounds=9)
    assert seen == [0, 1, 0, *[number % 2 for number in range(9)]]
    assert 0 < found.low <= found.value <= found.high


def test_one_alone_is_timed_for_as_long_as_was_asked():
    seen = []
    started = time.perf_counter()
    found = time_alone(lambda images: time.sleep(0.01) or seen.append(1) or images, [torch.zeros(1)], seconds=0.2)
    assert 0.2 < time.perf_counter() - started < 5
    assert len(seen) >= 3 + 7
    assert found.value >= 10


def test_the_machine_at_hand_says_what_decides_a_latency():
    here = machine_at_hand("cpu", 3)
    assert here.processor
    assert str(here) == f"{here.processor}, 3 threads"
    assert str(replace(here, threads=1)) == f"{here.processor}, 1 thread"
    assert torch.__version__ in here.runtime
    assert here.host == socket.gethostname()
