from __future__ import annotations

import numpy as np
import pytest

from dashboard.token_pictures import draw_owners
from spaces import InvalidInput

PIXELS = np.random.default_rng(0).integers(0, 256, (8, 8, 3), dtype=np.uint8)


def patches(pixels):
    """Cut (8, 8, 3) into its four patches by rows: (4, 4, 4, 3)."""
    return pixels.reshape(2, 4, 2, 4, 3).swapaxes(1, 2).reshape(4, 4, 4, 3)


def test_a_token_of_its_own_leaves_its_patch_as_it_is():
    assert np.array_equal(draw_owners(PIXELS, np.arange(4), (2, 2)), PIXELS)


def test_dropped_patches_are_nearly_black_and_the_others_untouched():
    drawn, whole = patches(draw_owners(PIXELS, np.array([0, -1, 1, -1]), (2, 2))), patches(PIXELS)
    assert np.array_equal(drawn[[0, 2]], whole[[0, 2]])
    assert (drawn[[1, 3]] <= 0.14 * whole[[1, 3]] + 0.5).all()


def test_patches_that_share_a_token_share_a_colour_that_no_other_has():
    grey = np.full((8, 8, 3), 128, dtype=np.uint8)
    drawn = patches(draw_owners(grey, np.array([0, 0, 1, 1]), (2, 2)))
    inner = drawn[:, :3, :3].reshape(4, -1, 3)
    assert (inner == inner[:, :1]).all()
    assert np.array_equal(inner[0], inner[1])
    assert np.array_equal(inner[2], inner[3])
    assert not np.array_equal(inner[0], inner[2])


def test_patches_that_do_not_fill_the_image_are_refused():
    with pytest.raises(InvalidInput, match=r"3 patches do not fill a grid of \(2, 2\) on 8 x 8 pixels"):
        draw_owners(PIXELS, np.arange(3), (2, 2))
