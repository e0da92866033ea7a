"""Windows over images of any size."""

from __future__ import annotations

import pytest
import torch

from pruning.segmentation.inference import Windows, combined, resized_scores
from spaces import InvalidInput


def test_windows_cover_every_pixel_and_stay_inside():
    windows = Windows((8, 8), (5, 6))
    seen = torch.zeros(19, 23)
    for top, left in windows.places(19, 23):
        assert 0 <= top <= 19 - 8
        assert 0 <= left <= 23 - 8
        seen[top : top + 8, left : left + 8] += 1
    assert (seen > 0).all()


def test_an_image_of_a_windows_size_is_one_window():
    assert Windows((8, 8), (5, 5)).places(8, 8) == [(0, 0)]


def test_windows_that_agree_give_back_the_whole():
    windows, whole = Windows((8, 8), (5, 6)), torch.randn(3, 19, 23)
    torch.testing.assert_close(combined(windows, list(windows.cut(whole)), (19, 23)), whole)


def test_windows_are_averaged_where_they_overlap():
    scores = [torch.full((1, 2, 2), 1.0), torch.full((1, 2, 2), 4.0)]
    assert combined(Windows((2, 2), (1, 1)), scores, (2, 3)).tolist() == [[[1.0, 2.5, 4.0]] * 2]


def test_upsampling_does_not_align_corners():
    found = resized_scores(torch.tensor([[[0.0, 4.0]]]), (1, 4))
    assert found[0, 0].tolist() == [0.0, 1.0, 3.0, 4.0]


def test_a_stride_that_would_leave_gaps_is_refused():
    with pytest.raises(InvalidInput, match=r"windows of \(8, 8\) px must step by 1 px to their size"):
        Windows((8, 8), (9, 8))


def test_an_image_smaller_than_a_window_is_refused():
    with pytest.raises(InvalidInput, match=r"must be at least a window of \(8, 8\) px, got \(7, 20\)"):
        Windows((8, 8), (5, 5)).places(7, 20)
