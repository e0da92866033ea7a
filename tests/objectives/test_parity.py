from __future__ import annotations

import pytest
import torch

from objectives.parity import ParityFailed, check_parity
from spaces import InvalidInput

IMAGES = torch.randn(200, 3, 4, 4, generator=torch.Generator().manual_seed(0))
WEIGHTS = torch.randn(48, 5, generator=torch.Generator().manual_seed(1))


def classify(images):
    return images.flatten(1) @ WEIGHTS


def wrong_for(*places, by=1.0):
    """Classify, but put the logits of the images at these places off."""
    seen = {tuple(IMAGES[place].flatten().tolist()) for place in places}

    def run(images):
        off = torch.tensor([tuple(image.flatten().tolist()) in seen for image in images])
        return classify(images) + by * off[:, None] * torch.tensor([1.0, 0, 0, 0, 0])

    return run


def test_equal_programs_agree_on_all_images():
    parity = check_parity(classify, classify, IMAGES)
    assert (parity.n_images, parity.batch_sizes) == (200, (1, 3))
    assert (parity.within_pct, parity.agreement_pct) == (100, 100)
    assert parity.max_difference < 1e-5


def test_one_image_in_a_hundred_may_fall_otherwise_and_no_more():
    parity = check_parity(classify, wrong_for(3, 77), IMAGES)
    assert parity.within_pct == 99
    assert parity.max_difference == pytest.approx(1)
    assert parity.median_difference < 1e-5
    with pytest.raises(ParityFailed, match=r"logits beyond 0\.\d+ for 1\.5 % \(by up to 1\), and at most 1 % may"):
        check_parity(classify, wrong_for(3, 77, 120), IMAGES)


def test_another_class_for_all_images_is_a_failure():
    with pytest.raises(ParityFailed, match=r"another class for 100\.0 % of 40 images and logits beyond"):
        check_parity(classify, lambda images: -classify(images), IMAGES[:40])


def test_a_program_that_is_wrong_in_one_batch_size_alone_is_found_out():
    with pytest.raises(ParityFailed, match="at most 1 % may differ"):
        check_parity(classify, lambda images: classify(images) + (images.shape[0] == 1), IMAGES)


def test_outputs_that_are_no_numbers_are_a_failure():
    with pytest.raises(ParityFailed, match=r"for 100\.0 %"):
        check_parity(classify, lambda images: classify(images) * torch.nan, IMAGES[:40])


def test_few_images_say_too_little():
    with pytest.raises(InvalidInput, match="at least 32 images, got 31"):
        check_parity(classify, classify, IMAGES[:31])
