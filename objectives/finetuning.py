"""DToP@Finetune: train a segmenter's heads alone, with DToP on, so that each learns on the tokens it will see.

Source: Tang et al. 2023, DToP, arXiv:2308.01045, section 4.3.1: 40,000 steps of the heads on the base model. Its
random photometric distortion is left out; images are scaled by 1 to 2, cropped and flipped at random.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.torch
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional

from objectives import shapes
from objectives.masks import IGNORED, MaskSource
from pruning.dtop import EarlyExit, Word
from pruning.models import LoadedModel
from pruning.segmentation.segmenter import Segmenter
from spaces import DToP, InvalidInput

__all__ = ["FineTuning", "finetune_heads", "head_loss", "put_to_learn"]

_MASK_WEIGHT, _DICE_WEIGHT, _ABSENT_WEIGHT = 20.0, 1.0, 0.1  # SegViT's, of its three losses
_EARLY_WEIGHT = 0.4  # of the loss of each head but the last, as SETR trains its own
FIRST_SHAPE = shapes.N_EVALUATION_IMAGES + 2_000_000  # behind all that any bundled model was trained on


@dataclass(frozen=True)
class FineTuning:
    """How heads are trained.

    Attributes:
        layout: how tokens are finished meanwhile.
        n_steps: of the optimiser.
        batch_size: images of a step.
        rate: highest learning rate; it falls to 0 along a line after a short warm-up.
        seed: of the images' order and their crops.
        save_every: steps between two checkpoints.
    """

    layout: DToP
    n_steps: int
    batch_size: int = 16
    rate: float = 2e-4
    seed: int = 0
    save_every: int = 500


def finetune_heads(
    loaded: LoadedModel,
    source: MaskSource,
    settings: FineTuning,
    output: Path,
    *,
    is_shapes: bool,
    resume: bool = False,
    device: str = "cpu",
    on_step: Callable[[int, float], None] = lambda *_: None,
) -> None:
    """Train the heads and write the whole model's weights; every other weight stays as it is, bit for bit.

    Args:
        loaded: a segmenter.
        source: images to train on.
        settings: how.
        output: the .safetensors file to write; the state lies beside it until the end.
        is_shapes: whether ``source`` is ``shapes``, of which fresh images are drawn instead.
        resume: go on from the state of an earlier call.
        device: where to run.
        on_step: is told the number of steps done and the last one's loss.

    Raises:
        InvalidInput: the model is no segmenter or lacks a head; a state of an earlier call is there and ``resume``
            is not set, or the reverse; or the state is of other settings.
    """
    settings.layout.require_heads(loaded.architecture)
    model = loaded.model.to(device)
    if not isinstance(model, Segmenter):
        raise InvalidInput(f"{loaded.name} is no segmenter: it has no heads to train")
    heads = [model.head(after) for after in (*settings.layout.after, model.after[-1])]
    model.eval().requires_grad_(False)
    for head in heads:
        head.requires_grad_(True)
        put_to_learn(head)
    parameters = [parameter for head in heads for parameter in head.parameters()]
    optimizer = torch.optim.AdamW(parameters, lr=settings.rate, weight_decay=0.01)
    n_warm = max(1, settings.n_steps // 20)
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda step: min((step + 1) / n_warm, 1 - step / settings.n_steps)
    )
    stateful: dict[str, Any] = {"model": model, "optimizer": optimizer, "schedule": schedule}
    state = _StateFile(output.with_suffix(".state.pt"), _digest(settings, loaded.weights_digest))
    done = state.restore(stateful, device) if resume else state.require_none()
    early_exit = EarlyExit(settings.layout)
    for number in range(done, settings.n_steps):
        pixels, classes = _batch(loaded, source, settings, number, is_shapes=is_shapes)
        images = loaded.preprocessing.normalise(torch.from_numpy(pixels).to(device))
        words = early_exit.words(model, model.embed(images))
        losses = [head_loss(model, word, torch.from_numpy(classes).to(device)) for word in words]
        loss = losses[-1] + _EARLY_WEIGHT * torch.stack([torch.zeros_like(losses[-1]), *losses[:-1]]).sum()
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        optimizer.zero_grad()
        schedule.step()
        on_step(number + 1, float(loss.detach()))
        if (number + 1) % settings.save_every == 0:
            state.save(stateful, number + 1)
    weights = {name: tensor.detach().cpu().contiguous() for name, tensor in model.state_dict().items()}
    safetensors.torch.save_file(weights, output)
    state.remove()


def put_to_learn(module: nn.Module) -> None:
    """Make ready for training, but for the statistics of batch norms: those of the tokens that DToP leaves are others.

    A head would learn with the statistics of each batch and be asked with their average, over layouts or over batches
    that leave different tokens. So it learns with those that it will be asked with.
    """
    module.train()
    for each in module.modules():
        if isinstance(each, nn.BatchNorm1d):
            each.eval()


def head_loss(model: Segmenter, word: Word, classes: Tensor) -> Tensor:
    """Measure how far heads are from the (batch, height, width) classes of the pixels; ``IGNORED`` counts for nothing.

    Naive heads: mean cross-entropy of a pixel. Attention-to-mask heads: SegViT's, whether each class is shown
    (cross-entropy), and of those shown where (focal and Dice loss of their masks).
    """
    if word.classes is None:
        return functional.cross_entropy(model.upsampled(word.scores), classes.long(), ignore_index=IGNORED)
    logits = model.upsampled(word.masks)
    counted = (classes != IGNORED)[:, None]
    target = (classes[:, None] == torch.arange(logits.shape[1], device=classes.device)[:, None, None]) & counted
    is_shown = target.flatten(2).any(dim=2)
    weight = torch.where(is_shown, 1.0, _ABSENT_WEIGHT)
    shown = functional.binary_cross_entropy(
        word.classes.clamp(1e-7, 1 - 1e-7), is_shown.float(), weight, reduction="sum"
    )
    shown = shown / weight.sum()
    counted = counted.expand_as(target)[is_shown].flatten(1).float()
    masks, truth = logits[is_shown].flatten(1), target[is_shown].flatten(1).float()
    n_counted = counted.sum(dim=1).clamp(min=1)
    each = functional.binary_cross_entropy_with_logits(masks, truth, reduction="none")
    probability = masks.sigmoid()
    missed = (1 - (probability * truth + (1 - probability) * (1 - truth))) ** 2
    balance = 0.25 * truth + 0.75 * (1 - truth)
    focal = ((balance * missed * each * counted).sum(dim=1) / n_counted).mean()
    overlap = 2 * (probability * truth * counted).sum(dim=1) + 1
    dice = (1 - overlap / ((probability * counted).sum(dim=1) + truth.sum(dim=1) + 1)).mean()
    return shown + _MASK_WEIGHT * focal + _DICE_WEIGHT * dice


def _batch(
    loaded: LoadedModel, source: MaskSource, settings: FineTuning, number: int, *, is_shapes: bool
) -> tuple[NDArray[np.uint8], NDArray[np.int16]]:
    """Give (batch, channel, height, width) pixels and (batch, height, width) classes of one step.

    They depend on the seed and the step's number alone, so that a resumed run sees what it would have seen.
    """
    size = settings.batch_size
    if is_shapes:
        first = FIRST_SHAPE + (settings.seed * settings.n_steps + number) * size
        pixels, masks, labels = shapes.draw_batch(range(first, first + size))
        return pixels.transpose(0, 3, 1, 2), shapes.class_masks(masks, labels).astype(np.int16)
    generator = np.random.default_rng([settings.seed, number])
    _, height, width = loaded.preprocessing.input_size
    crops = [
        _crop(source, int(index), (height, width), generator)
        for index in generator.integers(0, len(source.images), size)
    ]
    return np.stack([pixels for pixels, _ in crops]), np.stack([classes for _, classes in crops])


def _crop(
    source: MaskSource, index: int, size: tuple[int, int], generator: np.random.Generator
) -> tuple[NDArray[np.uint8], NDArray[np.int16]]:
    """Take a random piece of an image, 1 to 2 times as large as what evaluation sees, and flip it at random."""
    image = source.images[index]
    with source.open(image) as opened:
        picture = opened.convert("RGB")
    classes = source.open_mask(image)
    if classes.shape != picture.size[::-1]:
        raise InvalidInput(f"the mask of {image.name} must be of its image's size, {picture.size}, got {classes.shape}")
    (height, width), (wide, high) = size, picture.size
    scale = max(height / high, width / wide) * generator.uniform(1.0, 2.0)
    new = max(round(scale * wide), width), max(round(scale * high), height)
    pixels = np.asarray(picture.resize(new, Image.Resampling.BILINEAR))
    classes = np.asarray(Image.fromarray(classes.astype(np.int32)).resize(new, Image.Resampling.NEAREST), np.int16)
    top, left = generator.integers(0, new[1] - height + 1), generator.integers(0, new[0] - width + 1)
    place = slice(top, top + height), slice(left, left + width)
    pixels, classes = pixels[place], classes[place]
    if generator.random() < 0.5:
        pixels, classes = pixels[:, ::-1], classes[:, ::-1]
    return pixels.transpose(2, 0, 1).copy(), classes.copy()


def _digest(settings: FineTuning, weights_digest: str) -> str:
    said = settings.__dict__ | {"layout": settings.layout.canonical_json(), "weights": weights_digest, "save_every": 0}
    return hashlib.sha256(json.dumps(said, sort_keys=True).encode()).hexdigest()[:16]


@dataclass(frozen=True)
class _StateFile:
    """Where an unfinished training lies, and of which settings it is."""

    path: Path
    digest: str

    def save(self, stateful: dict[str, Any], done: int) -> None:
        """Write the state whole or not at all."""
        state = {name: each.state_dict() for name, each in stateful.items()}
        unfinished = self.path.with_suffix(".part")
        torch.save({**state, "done": done, "digest": self.digest}, unfinished)
        os.replace(unfinished, self.path)

    def restore(self, stateful: dict[str, Any], device: str) -> int:
        """Take the state up again, and return the steps that were done."""
        if not self.path.is_file():
            raise InvalidInput(f"there is nothing to resume: no state {self.path}")
        state = torch.load(self.path, map_location=device, weights_only=True)
        if state["digest"] != self.digest:
            raise InvalidInput(f"{self.path} is of other settings, layout or weights: restore them, or begin anew")
        for name, each in stateful.items():
            each.load_state_dict(state[name])
        done: int = state["done"]
        return done

    def require_none(self) -> int:
        """Refuse to begin where an earlier training was not finished; return the steps that were done: none."""
        if self.path.is_file():
            raise InvalidInput(f"{self.path} is an unfinished training: go on with --resume, or remove it")
        return 0

    def remove(self) -> None:
        """Remove the state of a training that is finished."""
        self.path.unlink(missing_ok=True)
