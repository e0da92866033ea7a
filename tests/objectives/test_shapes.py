from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest

from objectives.shapes import CLASS_NAMES, IMAGE_SIZE, N_EVALUATION_IMAGES, draw, draw_batch, label_of


def test_an_image_is_a_function_of_its_index_alone():
    program = "from objectives.shapes import draw; print(int(draw(41).pixels.astype(int).sum()))"
    elsewhere = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    draw(3)
    assert int(draw(41).pixels.astype(int).sum()) == int(elsewhere.stdout)
    assert not np.array_equal(draw(41).pixels, draw(51).pixels)


@pytest.mark.parametrize("label", range(10), ids=CLASS_NAMES)
def test_the_mask_is_where_the_object_lies(label):
    for index in range(label, 100, 10):
        image = draw(index)
        assert image.label == label == label_of(index)
        assert image.mask.shape == (IMAGE_SIZE, IMAGE_SIZE)
        pixels = image.pixels.astype(float)
        # The object is one colour, lighter than the background in every channel; strokes are thin and few.
        assert np.median(pixels[image.mask], axis=0).min() > np.median(pixels[~image.mask], axis=0).max() - 40
        assert np.median(pixels[image.mask]) > np.median(pixels[~image.mask]) + 30


def test_objects_are_between_36_and_68_pixels_across_and_inside_the_image():
    for index in range(60):
        rows, columns = np.nonzero(draw(index).mask)
        across = max(np.ptp(rows), np.ptp(columns)) + 1
        assert 24 <= across <= 69  # a crescent or a triangle does not fill its circle
        assert rows.min() > 0
        assert columns.max() < IMAGE_SIZE - 1


def test_classes_differ_in_how_much_of_their_circle_they_fill():
    shares = []
    for label in range(len(CLASS_NAMES)):
        masks = [draw(index).mask for index in range(label, 300, 10)]
        shares.append(np.mean([mask.sum() for mask in masks]))
    assert max(shares) / min(shares) > 2


def test_a_batch_holds_the_images_drawn_one_by_one():
    pixels, masks, labels = draw_batch([5, 17])
    for row, index in enumerate((5, 17)):
        image = draw(index)
        assert np.array_equal(pixels[row], image.pixels)
        assert np.array_equal(masks[row], image.mask)
        assert labels[row] == image.label


def test_every_class_is_equally_frequent():
    counts = np.bincount([label_of(index) for index in range(N_EVALUATION_IMAGES)])
    assert (counts == N_EVALUATION_IMAGES // len(CLASS_NAMES)).all()


def test_a_negative_index_is_refused():
    with pytest.raises(ValueError, match="at least 0, got -1"):
        draw(-1)
