"""Training the heads alone."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from objectives.finetuning import FineTuning, finetune_heads, head_loss
from objectives.mask_folders import MaskFolders
from objectives.masks import find_masks
from pruning.apply import read_architecture
from pruning.dtop import EarlyExit, Word
from pruning.models import LoadedModel, weights_digest
from spaces import DToP, InvalidInput
from tests.objectives.test_masks import write_data
from tests.objectives.test_segmentation import PREPROCESSING
from tests.tiny_segmenter import tiny_segmenter

LAYOUT = DToP(after=(2, 4), p0=0.45, k=2)


def loaded(head="fcn") -> LoadedModel:
    model = tiny_segmenter(head=head)
    return LoadedModel("tiny", model, read_architecture(model), PREPROCESSING, weights_digest(model))


def source(root):
    return find_masks(str(write_data(root, split="training")), n_classes=5, folders=MaskFolders(split="training"))


def trained(root, output, *, head="fcn", **options) -> list[float]:
    settings = FineTuning(
        **({"layout": LAYOUT, "n_steps": 8, "batch_size": 4, "rate": 1e-2, "save_every": 3} | options)
    )
    losses: list[float] = []
    finetune_heads(
        loaded(head), source(root), settings, output, is_shapes=False, on_step=lambda _, loss: losses.append(loss)
    )
    return losses


@pytest.mark.parametrize("head", ["fcn", "atm"])
def test_only_the_heads_change_and_the_loss_falls(tmp_path, head):
    losses = trained(tmp_path, tmp_path / "tuned.safetensors", head=head, n_steps=30)
    before, after = tiny_segmenter(head=head).state_dict(), load_file(tmp_path / "tuned.safetensors")
    assert before.keys() == after.keys()
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    assert changed
    assert all(name.startswith("heads.") for name in changed)
    assert {name.split(".")[1] for name in changed} == {"2", "4", "6"}
    assert sum(losses[-5:]) < 0.9 * sum(losses[:5])


def test_batch_norms_keep_the_statistics_with_which_heads_are_asked(tmp_path):
    trained(tmp_path, tmp_path / "tuned.safetensors")
    before, after = tiny_segmenter().state_dict(), load_file(tmp_path / "tuned.safetensors")
    statistics = [name for name in before if "running_" in name]
    assert statistics
    assert all(torch.equal(before[name], after[name]) for name in statistics)


def test_a_mask_of_another_size_than_its_image_is_refused(tmp_path):
    write_data(tmp_path, split="training")
    for name in ("a", "b"):
        Image.fromarray(np.zeros((36, 41), np.uint8)).save(tmp_path / "annotations" / "training" / f"{name}.png")
    source = find_masks(str(tmp_path), n_classes=5, folders=MaskFolders(split="training"))
    settings = FineTuning(layout=LAYOUT, n_steps=1, batch_size=1)
    with pytest.raises(InvalidInput, match=r"the mask of [ab]\.jpg must be of its image's size, \(40, 36\), got"):
        finetune_heads(loaded(), source, settings, tmp_path / "tuned.safetensors", is_shapes=False)


def test_a_head_that_does_not_grade_stays_as_it_is(tmp_path):
    trained(tmp_path, tmp_path / "tuned.safetensors", layout=DToP(after=(4,), p0=0.45))
    before, after = tiny_segmenter().state_dict(), load_file(tmp_path / "tuned.safetensors")
    assert all(torch.equal(before[name], after[name]) for name in before if name.startswith("heads.2."))


def test_a_stopped_training_goes_on_to_the_same_weights(tmp_path):
    trained(tmp_path, tmp_path / "whole.safetensors")

    class Stopped(Exception):
        pass

    def stop(done, _):
        if done == 5:
            raise Stopped

    settings = FineTuning(layout=LAYOUT, n_steps=8, batch_size=4, rate=1e-2, save_every=3)
    output = tmp_path / "stopped.safetensors"
    with pytest.raises(Stopped):
        finetune_heads(loaded(), source(tmp_path), settings, output, is_shapes=False, on_step=stop)
    with pytest.raises(InvalidInput, match="is an unfinished training: go on with --resume, or remove it"):
        finetune_heads(loaded(), source(tmp_path), settings, output, is_shapes=False)
    finetune_heads(loaded(), source(tmp_path), settings, output, is_shapes=False, resume=True)
    whole, resumed = load_file(tmp_path / "whole.safetensors"), load_file(output)
    assert all(torch.equal(whole[name], resumed[name]) for name in whole)
    assert not output.with_suffix(".state.pt").exists()


def test_a_state_of_other_settings_is_refused(tmp_path):
    settings = FineTuning(layout=LAYOUT, n_steps=8, batch_size=4, save_every=3)
    output = tmp_path / "tuned.safetensors"
    with pytest.raises(ZeroDivisionError):
        finetune_heads(
            loaded(), source(tmp_path), settings, output, is_shapes=False, on_step=lambda done, _: 1 / (4 - done)
        )
    others = FineTuning(layout=LAYOUT, n_steps=9, batch_size=4, save_every=3)
    with pytest.raises(InvalidInput, match="is of other settings, layout or weights"):
        finetune_heads(loaded(), source(tmp_path), others, output, is_shapes=False, resume=True)


def test_there_must_be_something_to_resume(tmp_path):
    with pytest.raises(InvalidInput, match="there is nothing to resume: no state"):
        finetune_heads(
            loaded(), source(tmp_path), FineTuning(LAYOUT, 8), tmp_path / "a.safetensors", is_shapes=False, resume=True
        )


def test_a_layout_without_its_head_is_refused(tmp_path):
    with pytest.raises(InvalidInput, match="no head there"):
        trained(tmp_path, tmp_path / "tuned.safetensors", layout=DToP(after=(3,)))


@pytest.mark.parametrize("head", ["fcn", "atm"])
def test_pixels_that_count_for_nothing_do_not(head):
    model = tiny_segmenter(head=head)
    word = EarlyExit(LAYOUT).words(model, model.embed(torch.randn(2, 3, 64, 64)))[-1]
    generator = torch.Generator().manual_seed(0)
    classes = torch.randint(0, 5, (2, 64, 64), generator=generator, dtype=torch.int16)
    classes[:, 32:] = -1
    masks, scores = (each.unflatten(1, (8, 8)).clone() for each in (word.masks, word.scores))
    for each in (masks, scores):  # far enough from what counts that upsampling does not reach it
        each[:, 6:] += 7
    other = Word(scores.flatten(1, 2), masks.flatten(1, 2), word.classes)
    torch.testing.assert_close(head_loss(model, word, classes), head_loss(model, other, classes))
    assert not torch.isclose(head_loss(model, word, classes), head_loss(model, other, classes.flip(1)))
