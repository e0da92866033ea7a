"""What the bundled model is worth on images that it was not trained on."""

from __future__ import annotations

import numpy as np
import pytest
import safetensors
from safetensors.torch import load_file

from objectives import train_shapes_vit
from objectives.shapes import CLASS_NAMES, draw_batch
from objectives.train_shapes_vit import held_out_top1, patch_labels, patches_of_object
from pruning import pruned
from pruning.models import load_model
from pruning.shapes_vit import WEIGHTS_FOLDER
from spaces import RandomDrop

N_IMAGES = 4096
WEIGHTS = WEIGHTS_FOLDER / "shapes_vit_small.safetensors"


@pytest.fixture(scope="module")
def model():
    return load_model("shapes_vit_small").model


@pytest.fixture(scope="module")
def dense_top1(model) -> float:
    return held_out_top1(model, N_IMAGES)


def test_the_dense_model_is_right_on_nine_of_ten_held_out_images(dense_top1):
    assert dense_top1 >= 0.90


def test_losing_half_of_the_tokens_at_random_costs_at_least_five_points(model, dense_top1):
    with pruned(model, RandomDrop(after=(3,), keep_rate=(0.5,))):
        halved = held_out_top1(model, N_IMAGES)
    assert halved <= dense_top1 - 0.05


def test_the_weights_are_small_and_plain():
    assert WEIGHTS.stat().st_size <= 5_000_000
    with safetensors.safe_open(WEIGHTS, framework="numpy") as opened:
        dtypes = {opened.get_slice(name).get_dtype() for name in opened.keys()}  # noqa: SIM118  it is no mapping
    assert dtypes == {"F32"}


def test_a_patch_is_labelled_by_what_covers_half_of_it():
    _, masks, labels = draw_batch(range(20))
    found, touched = patch_labels(masks, labels), patches_of_object(masks)
    for image, row, column in np.ndindex(20, 12, 12):
        patch = masks[image, 8 * row : 8 * row + 8, 8 * column : 8 * column + 8]
        expected = labels[image] if patch.sum() >= 32 else len(CLASS_NAMES)
        assert found[image, 12 * row + column] == expected
        assert touched[image, 12 * row + column] == patch.any()


def test_the_training_script_writes_weights_that_load(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(train_shapes_vit, "N_WATCHED", 20)
    monkeypatch.setattr(train_shapes_vit, "N_HELD_OUT", 20)
    output = tmp_path / "weights.safetensors"
    train_shapes_vit.main(["--output", str(output), "--steps", "2", "1", "--device", "cpu"])
    assert capsys.readouterr().out.count("held-out top-1 on 20 images") == 2
    written, bundled = load_file(output), load_file(WEIGHTS)
    assert {name: tensor.shape for name, tensor in written.items()} == {
        name: tensor.shape for name, tensor in bundled.items()
    }
    load_model("shapes_vit_small", checkpoint=output)
