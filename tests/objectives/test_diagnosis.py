from __future__ import annotations

import numpy as np
import pytest
import torch
from timm.data import IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD

from objectives.diagnosis import DenseTooLow, relabelled_top1, require_dense_top1
from objectives.evaluator import Evaluator
from objectives.images import PreparedImages
from pruning import read_architecture
from pruning.models import LoadedModel
from pruning.preprocessing import Preprocessing
from tests.tiny import tiny_vit


def preprocessing(mean=(0.5,) * 3, std=(0.5,) * 3) -> Preprocessing:
    return Preprocessing(input_size=(3, 32, 32), interpolation="bicubic", mean=mean, std=std, crop_pct=1.0)


@pytest.fixture(scope="module")
def setting():
    """A model, images, and the labels that the model itself gives them when they are normalised as declared."""
    model = tiny_vit(seed=3)
    generator = np.random.default_rng(0)
    # Images of different brightness and contrast, on which another normalisation matters.
    scale = generator.uniform(20, 120, (400, 1, 1, 1))
    pixels = generator.integers(0, 256, (400, 3, 32, 32)) % scale + generator.uniform(0, 100, (400, 3, 1, 1))
    pixels = pixels.astype(np.uint8)
    inputs = preprocessing().normalise(torch.tensor(pixels))
    with torch.no_grad():
        model.head.bias.sub_(model(inputs).mean(0))  # so that every class is chosen for some
        labels = model(inputs).argmax(1).numpy()
    assert len(np.unique(labels)) == 5
    return model, pixels, labels


def check(setting, *, labels=None, declared=None, expect=None):
    model, pixels, true_labels = setting
    labels = true_labels if labels is None else labels
    declared = declared or preprocessing()
    images = PreparedImages(pixels, labels, np.arange(len(labels)), "list")
    loaded = LoadedModel("tiny", model, read_architecture(model, "tiny"), declared, "digest")
    measurement, reference = Evaluator(model, "tiny", images, declared).measure_dense()
    require_dense_top1(measurement, expect, loaded=loaded, images=images, logits=reference.logits)


def test_a_model_that_does_what_it_should_passes(setting):
    check(setting)
    check(setting, expect=99.0)


def test_a_wrong_class_order_is_recognised(setting):
    order = np.array([3, 0, 4, 1, 2])
    with pytest.raises(DenseTooLow, match=r"reach 100 %, so the class order is wrong.*--class-map FILE"):
        check(setting, labels=order[setting[2]])


def test_a_wrong_normalisation_is_recognised_with_the_options_that_mend_it(setting):
    wrong = preprocessing((-3.0,) * 3, (0.02,) * 3)
    with pytest.raises(DenseTooLow, match=r"with mean and std 0\.5 it reaches 100 %.*--mean 0\.5,0\.5,0\.5 --std 0\.5"):
        check(setting, declared=wrong, expect=90)


def test_guessing_is_refused(setting):
    labels = np.random.default_rng(1).integers(0, 5, 400)
    with pytest.raises(DenseTooLow, match=r"no better than guessing \(20 %\): neither another class order"):
        check(setting, labels=labels)


def test_what_is_expected_decides_where_it_is_stated(setting):
    model_is_right_half_the_time = setting[2].copy()
    model_is_right_half_the_time[::2] = (model_is_right_half_the_time[::2] + 1) % 5
    check(setting, labels=model_is_right_half_the_time)
    with pytest.raises(DenseTooLow, match="not the 80 % expected"):
        check(setting, labels=model_is_right_half_the_time, expect=80)
    check(setting, labels=np.random.default_rng(1).integers(0, 5, 400), expect=0)


def test_images_without_labels_are_not_judged(setting):
    check(setting, labels=np.full(400, -1))


def test_relabelling_finds_nothing_in_noise():
    generator = np.random.default_rng(2)
    labels, chosen = generator.integers(0, 50, 500), generator.integers(0, 50, 500)
    assert relabelled_top1(labels, chosen, 50).low < 5


def test_declared_imagenet_normalisation_is_found_too(setting):
    model, pixels, _ = setting
    imagenet = preprocessing(IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD)
    with torch.inference_mode():
        labels = model(imagenet.normalise(torch.tensor(pixels))).argmax(1).numpy()
    with pytest.raises(DenseTooLow, match="with ImageNet's mean and std it reaches 100 %"):
        check((model, pixels, labels), declared=preprocessing((5.0,) * 3, (0.01,) * 3), expect=95)
