"""Measuring segmenters."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image

from objectives.confusion import Confusions
from objectives.image_costs import CostsDisagree
from objectives.images import ListedImage
from objectives.masks import IGNORED, MaskSource
from objectives.metrics import unpack_counts
from objectives.scenes import prepare_scenes
from objectives.segmentation import SegmentationEvaluator
from pruning import pruned, read_architecture
from pruning.preprocessing import Preprocessing
from pruning.segmentation.inference import Windows
from spaces import DToP, InvalidInput, dense_cost
from tests.tiny_segmenter import tiny_segmenter

PREPROCESSING = Preprocessing(
    input_size=(3, 64, 64), interpolation="bilinear", mean=(0.5,) * 3, std=(0.5,) * 3, crop_pct=1.0, crop_mode="squash"
)
LAYOUT = DToP(after=(2, 4), p0=0.45, k=2)


def scenes(n=5, *, size=(64, 64), windows=None):
    """Noise with masks of noise, some of whose pixels count for nothing."""
    height, width = size

    def pixels(image):
        generator = np.random.default_rng(image.number)
        return Image.fromarray(generator.integers(0, 256, (height, width, 3), dtype=np.uint8))

    def mask(image):
        generator = np.random.default_rng(1000 + image.number)
        return generator.integers(IGNORED, 5, (height, width)).astype(np.int16)

    images = tuple(ListedImage(number, f"noise {number}", None) for number in range(n))
    source = MaskSource(images, pixels, mask, tuple("abcde"), "noise")
    return prepare_scenes(source, images, n, PREPROCESSING, windows=windows)[0]


def evaluator(images=None, **options) -> SegmentationEvaluator:
    return SegmentationEvaluator(tiny_segmenter(), "tiny", images or scenes(), PREPROCESSING, batch_size=2, **options)


def test_a_measurement_is_what_the_model_says_of_each_image():
    images, model = scenes(), tiny_segmenter()
    pairs = []
    with torch.inference_mode(), pruned(model, LAYOUT):
        for pixels, scene in zip(images.pixels, images.scenes, strict=True):
            found = model(PREPROCESSING.normalise(torch.tensor(pixels[None])))[0].argmax(dim=0).numpy()
            pairs.append((scene.classes, found))
    expected = Confusions.of(pairs, 5)
    measured = evaluator(images).measure(LAYOUT)
    kept = Confusions.from_bytes(measured.outcomes["miou_pct"])
    assert np.array_equal(kept.matrix(), expected.matrix())
    assert kept.n_images == measured.n_images == 5
    assert measured.values["miou_pct"] == expected.miou_pct()
    assert measured.values["pixel_accuracy_pct"] == expected.pixel_accuracy_pct()
    assert measured.values["iou_pct: c"].value == pytest.approx(expected.iou_pct()[2])


def test_the_cost_is_the_mean_over_the_images_from_their_active_tokens():
    measured = evaluator().measure(LAYOUT)
    counts = unpack_counts(measured.n_kept, 5)
    architecture = read_architecture(tiny_segmenter())
    each = [LAYOUT.cost_of_image(architecture, row.tolist()).gflops for row in counts]
    assert len(set(each)) > 1
    assert measured.gflops == pytest.approx(np.mean(each), rel=1e-6)
    assert measured.measured_gflops.low < measured.gflops < measured.measured_gflops.high
    assert measured.tokens_per_block[2] == pytest.approx(counts[:, 0].mean(), abs=0.01)


def test_the_dense_model_costs_every_image_the_same():
    measured, _ = evaluator().measure_dense()
    assert measured.macs == dense_cost(read_architecture(tiny_segmenter())).macs
    assert (measured.measured_gflops, measured.n_kept) == (None, None)


def test_the_batch_size_changes_nothing():
    images = scenes()
    alone = SegmentationEvaluator(tiny_segmenter(), "tiny", images, PREPROCESSING, batch_size=1).measure(LAYOUT)
    together = SegmentationEvaluator(tiny_segmenter(), "tiny", images, PREPROCESSING, batch_size=5).measure(LAYOUT)
    assert alone.n_kept == together.n_kept
    assert alone.values["miou_pct"].value == pytest.approx(together.values["miou_pct"].value, abs=0.01)


def test_windows_count_as_images_of_their_own_and_images_alike():
    images = scenes(3, size=(64, 150), windows=Windows((64, 64), (48, 48)))
    measured = evaluator(images).measure(LAYOUT)
    assert (measured.n_images, len(images.pixels)) == (3, 9)
    assert unpack_counts(measured.n_kept, 3).shape == (3, 2)
    assert Confusions.from_bytes(measured.outcomes["miou_pct"]).count.sum() == sum(
        (scene.classes >= 0).sum() for scene in images.scenes
    )


def test_one_window_is_the_whole():
    whole, cut = scenes(), scenes(windows=Windows((64, 64), (30, 30)))
    assert evaluator(whole).measure(LAYOUT).outcomes == evaluator(cut).measure(LAYOUT).outcomes


def test_masks_of_another_size_than_the_input_are_met_by_upsampling():
    measured, _ = evaluator(scenes(2, size=(50, 70))).measure_dense()
    assert Confusions.from_bytes(measured.outcomes["miou_pct"]).n_images == 2


def test_a_closed_form_that_is_wrong_is_found(monkeypatch):
    monkeypatch.setattr(DToP, "cost_of_image", lambda *_: dense_cost(read_architecture(tiny_segmenter())))
    with pytest.raises(CostsDisagree, match="the closed form gives"):
        evaluator().measure(LAYOUT)


def test_a_race_over_miou_is_refused():
    with pytest.raises(ValueError, match="mIoU has no outcome image by image"):
        evaluator().measure(LAYOUT, lambda _: True)


def test_a_layout_that_does_not_fit_is_refused_and_the_model_left_as_it_was():
    measuring = evaluator()
    before, _ = measuring.measure_dense()
    with pytest.raises(InvalidInput, match="no head there"):
        measuring.measure(DToP(after=(3,)))
    assert measuring.measure_dense()[0].outcomes == before.outcomes
