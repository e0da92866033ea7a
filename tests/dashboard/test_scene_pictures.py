from __future__ import annotations

import numpy as np

from dashboard.scene_pictures import draw_classes, draw_stages

PIXELS = np.full((8, 8, 3), 128, dtype=np.uint8)
STAGE = np.array([0, 1, 2, 2])


def test_pixels_of_a_class_share_a_colour_that_no_other_has_and_ignored_ones_are_nearly_black():
    classes = np.repeat([[0, 0, 3, 3, 0, 0, -1, -1]], 8, axis=0)
    drawn = draw_classes(PIXELS, classes)
    assert np.array_equal(drawn[:, 0], drawn[:, 4])
    assert not np.array_equal(drawn[:, 0], drawn[:, 2])
    assert (drawn[:, 7] <= 0.14 * PIXELS[:, 7] + 0.5).all()
    assert (drawn[:, 1] > drawn[:, 0]).all(), "a border where another class begins"


def test_patches_are_the_darker_the_earlier_they_left_and_those_that_stayed_are_as_they_were():
    drawn = draw_stages(PIXELS, STAGE, (2, 2), n_graded=2)
    inner = [drawn[row, column, 0] for row, column in ((0, 0), (0, 5), (6, 0), (6, 6))]
    assert inner[0] < inner[1] < inner[2] == inner[3] == 128


def test_where_no_head_graded_an_image_stays_as_it_is():
    assert np.array_equal(draw_stages(PIXELS, np.zeros(4, dtype=np.int64), (2, 2), n_graded=0), PIXELS)
