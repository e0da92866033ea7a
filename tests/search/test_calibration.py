from __future__ import annotations

import numpy as np
import pytest

from objectives.evaluator import Evaluator
from search import calibration
from search.calibration import calibrate
from search.config import SearchSettings
from search.workbench import load
from spaces import InvalidInput

DATA = {"data": "shapes", "n_search": 256, "n_confirm": 0}


def bench(**changes):
    settings = {"study": "s", "model": "shapes_vit_small", "data": DATA, "budget": "65%"} | changes
    return load(SearchSettings.parse(settings))


def timed(monkeypatch, seconds) -> None:
    monkeypatch.setattr(Evaluator, "time_image", lambda self, _: seconds(self.batch_size, self.precision))


def test_the_smallest_batch_that_is_about_as_fast_as_the_fastest_is_taken(monkeypatch):
    timed(monkeypatch, lambda batch, _: {16: 1.1, 32: 1.02}[batch] if batch < 64 else 1.0)
    found = calibrate(bench(precision="float32", data=DATA | {"n_search": 520}), lambda _: None)
    assert found.bench.settings.batch_size == found.dense.batch_size == 32
    timed(monkeypatch, lambda batch, _: {16: 1.1, 32: 1.04}[batch] if batch < 64 else 1.0)
    found = calibrate(bench(precision="float32", data=DATA | {"n_search": 520}), lambda _: None)
    assert found.bench.settings.batch_size == 64


def test_half_precision_is_taken_where_it_is_faster_and_changes_little(monkeypatch):
    said = []
    timed(monkeypatch, lambda _, precision: 1.0 if precision == "float32" else 0.5)
    found = calibrate(bench(batch_size=64), said.append)
    assert found.bench.settings.precision == found.dense.precision == "bfloat16"
    assert found.bench.settings.batch_size == 64
    assert said[0].startswith("precision: bfloat16, 2.00x as fast as float32 here; it moves the dense model's top1 by")
    assert found.dense.values["agreement_pct"].value == 100  # with itself, as rounded


def test_half_precision_is_left_where_it_gains_little(monkeypatch):
    timed(monkeypatch, lambda _, precision: 1.0 if precision == "float32" else 0.96)
    assert calibrate(bench(batch_size=64), lambda _: None).bench.settings.precision == "float32"


def test_half_precision_that_changes_the_metric_is_refused_or_left(monkeypatch):
    timed(monkeypatch, lambda _, precision: 1.0 if precision == "float32" else 0.5)
    outputs = Evaluator._outputs

    def spoilt(self, logits):
        said = outputs(self, logits)
        return said if self.precision == "float32" else said.roll(1, dims=1)

    monkeypatch.setattr(Evaluator, "_outputs", spoilt)
    said = []
    found = calibrate(bench(batch_size=64), said.append)
    assert found.bench.settings.precision == found.dense.precision == "float32"
    assert said[0].startswith("precision: float32; bfloat16 moves the dense model's top1 by -")
    for metric in ("top1", "agreement"):
        with pytest.raises(InvalidInput, match=r"out of its 95 % interval .*: search with --precision float32"):
            calibrate(bench(batch_size=64, precision="bfloat16", metric=metric), said.append)


def test_what_is_asked_for_is_not_measured(monkeypatch):
    monkeypatch.setattr(Evaluator, "time_image", lambda self, _: pytest.fail("timed"))
    settings = calibrate(bench(batch_size=24, precision="float32"), lambda _: None).bench.settings
    assert (settings.batch_size, settings.precision) == (24, "float32")
    assert calibration._BATCHES["cpu"][0] == 16
    few = bench(precision="float32", data=DATA | {"n_search": 40})
    assert calibrate(few, lambda _: None).bench.settings.batch_size == 16


def test_the_same_images_give_the_same_numbers_in_either_order_of_precisions():
    # Nothing of one precision is left behind in the model for the other.
    held = bench(batch_size=64)
    first = held.evaluator(held.search_images).measure_dense()[1].logits
    held.evaluator(held.search_images, precision="bfloat16").measure_dense()
    np.testing.assert_array_equal(held.evaluator(held.search_images).measure_dense()[1].logits, first)


def test_the_batch_is_doubled_only_as_long_as_that_gains_and_is_found_in_the_precision_that_is_taken(monkeypatch):
    asked = set()

    def seconds(batch, precision):
        asked.add((batch, precision))
        return {16: 1.0, 32: 0.7, 64: 0.7}[batch] if precision == "bfloat16" else 1.0

    timed(monkeypatch, seconds)
    found = calibrate(bench(data=DATA | {"n_search": 1024}), lambda _: None)
    settings = found.bench.settings
    assert found.dense.batch_size == 32
    assert (settings.batch_size, settings.precision) == (32, "bfloat16")
    assert asked == {(16, "bfloat16"), (16, "float32"), (32, "bfloat16"), (64, "bfloat16"), (32, "float32")}


@pytest.mark.parametrize("batch_size", ["auto", 128])
def test_half_precision_that_is_much_slower_in_one_small_batch_is_not_tried_in_larger_ones(monkeypatch, batch_size):
    asked = []

    def seconds(batch, precision):
        asked.append((batch, precision))
        return 2.1 if precision == "bfloat16" else 1.0

    timed(monkeypatch, seconds)
    found = calibrate(bench(batch_size=batch_size), lambda _: None)
    assert found.bench.settings.precision == "float32"
    assert asked.count((16, "bfloat16")) == calibration._GLANCES
    assert {batch for batch, precision in asked if precision == "bfloat16"} == {16}
