"""What the bundled segmenter is worth on images that it was not trained on."""

from __future__ import annotations

import numpy as np
import pytest
import safetensors
import torch
from safetensors.torch import load_file

from objectives import train_shapes_seg
from objectives.comparison import compare_on
from objectives.masks import find_masks
from objectives.scenes import prepare_scenes
from objectives.segmentation import SegmentationEvaluator
from objectives.shapes import BACKGROUND, class_masks, draw_batch
from objectives.train_shapes_seg import covered, drawn_layout
from pruning.models import load_model
from pruning.shapes_vit import WEIGHTS_FOLDER
from spaces import DToP

N_IMAGES = 300
WEIGHTS = WEIGHTS_FOLDER / "shapes_seg_small.safetensors"


@pytest.fixture(scope="module")
def evaluator() -> SegmentationEvaluator:
    loaded = load_model("shapes_seg_small")
    source = find_masks("shapes", n_classes=11)
    images, _ = prepare_scenes(source, source.images, N_IMAGES, loaded.preprocessing)
    return SegmentationEvaluator(loaded.model, loaded.name, images, loaded.preprocessing, batch_size=50)


@pytest.fixture(scope="module")
def dense(evaluator):
    return evaluator.measure_dense()[0]


def test_the_dense_model_reaches_75_percent_on_held_out_images(dense):
    assert dense.values["miou_pct"].low >= 75
    assert dense.values["pixel_accuracy_pct"].value >= 95


@pytest.mark.parametrize(("layout", "share"), [(DToP(after=(4,), p0=0.9), 0.55), (DToP(after=(8,), p0=0.9), 0.8)])
def test_finishing_tokens_early_spares_much_and_loses_little(evaluator, dense, layout, share):
    measured = evaluator.measure(layout)
    assert measured.gflops <= share * dense.gflops
    difference = compare_on("miou", measured, dense)
    assert difference.low_pct >= -1.5


def test_layouts_of_steps_are_drawn_of_all_sorts_and_the_same_for_the_same_step():
    drawn = [drawn_layout((4, 8), np.random.default_rng([0, number])) for number in range(200)]
    p0 = np.array([layout.p0 for layout in drawn])
    finishes = p0 < 1
    assert 0.1 < (~finishes).all(axis=1).mean() < 0.4, "steps with all tokens"
    assert (p0[finishes] >= 0.6).all()
    assert (p0[finishes] <= 0.999).all()
    assert 0.3 < (p0[finishes] > 1 - np.sqrt(0.4 * 0.001)).mean() < 0.7, "evenly in the logarithm of doubt"
    assert {layout.k for layout in drawn} == set(range(21))
    assert drawn[7] == drawn_layout((4, 8), np.random.default_rng([0, 7]))


def test_the_weights_are_small_and_plain():
    assert WEIGHTS.stat().st_size <= 5_000_000
    with safetensors.safe_open(WEIGHTS, framework="numpy") as opened:
        dtypes = {opened.get_slice(name).get_dtype() for name in opened.keys()}  # noqa: SIM118  it is no mapping
    assert dtypes <= {"F32", "I64"}


def test_squares_hold_the_share_that_the_object_covers():
    _, masks, labels = draw_batch(range(12))
    object_class, share = covered(class_masks(masks, labels), 4)
    assert (object_class == labels).all()
    for image, row, column in np.ndindex(12, 24, 24):
        square = masks[image, 4 * row : 4 * row + 4, 4 * column : 4 * column + 4]
        assert share[image, row, column] == square.mean()
    assert BACKGROUND == 10


def test_the_training_script_writes_weights_that_load_and_goes_on_where_it_stopped(tmp_path, monkeypatch, capsys):
    for name, value in (("N_WATCHED", 20), ("N_HELD_OUT", 20), ("STEPS_BETWEEN_REPORTS", 1), ("BATCH", 4)):
        monkeypatch.setattr(train_shapes_seg, name, value)
    output = tmp_path / "weights.safetensors"
    arguments = ["--output", str(output), "--steps", "2", "--device", "cpu"]
    train_shapes_seg.main(arguments)
    written = load_file(output)
    train_shapes_seg.main(arguments)  # its state says that all steps are done
    said = capsys.readouterr().out
    assert said.count("held-out mIoU on 20 images") == 2
    assert "goes on from step 2" in said
    bundled = load_file(WEIGHTS)
    assert {name: each.shape for name, each in written.items()} == {name: each.shape for name, each in bundled.items()}
    assert all(torch.equal(each, load_file(output)[name]) for name, each in written.items())
    load_model("shapes_seg_small", checkpoint=output)
