"""Train ``shapes_seg_small`` on freshly drawn ``shapes`` and write its weights.

    python -m objectives.train_shapes_seg --output pruning/weights/shapes_seg_small.safetensors

The encoder starts from the bundled ``shapes_vit_small``, without its class token. All heads learn at once with the
encoder, each to name what every pixel shows. In most steps DToP is on, with another layout each time, so that later
blocks learn to do without the tokens that were finished before them: a model that never missed any is lost without its
background. The loss is focal, so that heads stay less sure of some tokens than of others, and p0 decides something. No
image is drawn twice. The state is written now and then next to the output; the same command goes on from there.

The bundled weights are what this command wrote on one CPU core with ``OMP_NUM_THREADS=1``, in 35 minutes on a busy
machine: 92.85 % on 2,000 held-out images.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.torch
import timm
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

import pruning.segmentation.published  # noqa: F401  registers the model with timm
from objectives.finetuning import put_to_learn
from objectives.shapes import BACKGROUND, IMAGE_SIZE, MASK_CLASS_NAMES, N_EVALUATION_IMAGES, class_masks, draw_batch
from objectives.train_shapes_vit import normalise
from pruning.dtop import EarlyExit
from pruning.segmentation.segmenter import Segmenter
from pruning.shapes_vit import WEIGHTS_FOLDER
from spaces import DToP

__all__ = ["covered", "drawn_layout", "held_out_miou", "main"]

LOSS_STRIDE = 2  # px: the loss looks at the heads' first upsampling, a quarter of the work of each pixel
HEAD_WEIGHT = 0.4  # of the loss of each head but the last, as SETR trains its own
FOCUS = 3.0  # how much less a pixel counts the surer the head is of its class; with 0 nearly all end above 0.999
DENSE_SHARE = 0.5  # of the steps in which an early head finishes nothing
SURENESS = (0.6, 0.999)  # from which p0 is drawn, evenly in the logarithm of 1 - p0
MOST_CONTEXT = 20
BATCH = 32
N_WATCHED, N_HELD_OUT = 500, 2000  # images for the mIoU that is reported on the way, and at the end
STEPS_BETWEEN_REPORTS = 250
FIRST_IMAGE = N_EVALUATION_IMAGES + 1_000_000  # behind all those that the bundled classifier was trained on


def main(arguments: list[str] | None = None) -> None:
    """Train, report held-out mIoU now and then, and write the weights as safetensors."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--output", required=True, type=Path, help="the .safetensors file to write")
    parser.add_argument("--steps", type=int, default=1500)
    parser.add_argument("--rate", type=float, default=5e-4, help="highest learning rate of the one cycle")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    options = parser.parse_args(arguments)
    model = train(options.output, options.steps, options.rate, options.seed, torch.device(options.device))
    weights = {name: tensor.detach().cpu().contiguous() for name, tensor in model.state_dict().items()}
    safetensors.torch.save_file(weights, options.output)
    print(f"held-out mIoU on {N_HELD_OUT} images: {100 * held_out_miou(model, N_HELD_OUT):.2f} %", flush=True)


def train(output: Path, n_steps: int, rate: float, seed: int, device: torch.device) -> Segmenter:
    """Train from the bundled classifier, or from where an earlier call was stopped."""
    torch.manual_seed(seed)
    model: Segmenter = timm.create_model("shapes_seg_small").to(device)
    for block in model.encoder.blocks:
        block.attn.fused_attn = False  # backwards, the open product is faster on a CPU
    start_from_classifier(model)
    optimizer = torch.optim.AdamW(model.parameters(), lr=rate, betas=(0.9, 0.95), weight_decay=0.05, fused=True)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, rate, total_steps=n_steps, pct_start=0.1, cycle_momentum=False
    )
    stateful: dict[str, Any] = {"model": model, "optimizer": optimizer, "schedule": schedule}
    state_file = output.with_suffix(".state.pt")
    done = _resume(state_file, stateful, device)
    started = time.monotonic()
    for number in range(done, n_steps):
        first = FIRST_IMAGE + number * BATCH
        pixels, masks, labels = draw_batch(range(first, first + BATCH))
        layout = drawn_layout(model.after[:-1], np.random.default_rng([seed, number]))
        put_to_learn(model)
        with torch.autocast(device.type, dtype=torch.bfloat16):
            losses = head_losses(model, layout, normalise(pixels, device), class_masks(masks, labels))
        (losses[-1] + HEAD_WEIGHT * sum(losses[:-1])).backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        schedule.step()
        if (number + 1) % STEPS_BETWEEN_REPORTS == 0 or number + 1 == n_steps:
            torch.save({name: each.state_dict() for name, each in stateful.items()} | {"done": number + 1}, state_file)
            said = " ".join(f"{loss.item():.3f}" for loss in losses)
            miou = held_out_miou(model, N_WATCHED)
            print(
                f"step {number + 1}/{n_steps}  losses {said}  held-out mIoU {100 * miou:.1f} %"
                f"  {time.monotonic() - started:.0f} s",
                flush=True,
            )
    return model


def start_from_classifier(model: Segmenter) -> None:
    """Take over what the bundled classifier knows, but for its class token."""
    weights = safetensors.torch.load_file(WEIGHTS_FOLDER / "shapes_vit_small.safetensors")
    norm = {name: weights.pop(f"norm.{name}") for name in ("weight", "bias")}
    weights = {name: tensor for name, tensor in weights.items() if not name.startswith(("head.", "cls_token"))}
    weights["pos_embed"] = weights["pos_embed"][:, 1:]
    model.encoder.load_state_dict(weights)
    model.head(model.after[-1]).get_submodule("norm").load_state_dict(norm)


def drawn_layout(after: tuple[int, ...], generator: np.random.Generator) -> DToP:
    """Draw with what layout a step is made: each head that grades finishes nothing, or what it is surer of than a p0.

    >>> drawn_layout((4, 8), np.random.default_rng(0)).after
    (4, 8)
    """
    least, most = (np.log(1 - bound) for bound in SURENESS)
    unsure = np.exp(generator.uniform(most, least, len(after)))
    finishes = generator.random(len(after)) >= DENSE_SHARE
    p0 = tuple(float(each) for each in np.where(finishes, 1 - unsure, 1.0))
    return DToP(after=after, p0=p0, k=int(generator.integers(0, MOST_CONTEXT + 1)))


def head_losses(model: Segmenter, layout: DToP, images: Tensor, classes: NDArray[np.uint8]) -> list[Tensor]:
    """Measure how well each head, with those before it, names the (n, height, width) classes of the pixels.

    Mean focal loss. Pixels are taken in squares, each with the shares of its classes.

    Source: Lin et al. 2017, arXiv:1708.02002, without its balance between classes.
    """
    side = IMAGE_SIZE // LOSS_STRIDE
    object_class, share = (torch.from_numpy(each).to(images.device) for each in covered(classes, LOSS_STRIDE))
    losses = []
    for word in EarlyExit(layout).words(model, model.embed(images)):
        grid = word.scores.float().transpose(1, 2).reshape(len(images), -1, *model.grid)
        scores = functional.interpolate(grid, size=(side, side), mode="bilinear", align_corners=False)
        scores = scores.log_softmax(dim=1)
        of_object = scores.gather(1, object_class[:, None, None, None].expand(-1, 1, side, side))[:, 0]
        losses.append((share * _focal(of_object) + (1 - share) * _focal(scores[:, BACKGROUND])).mean())
    return losses


def covered(classes: NDArray[np.uint8], stride: int) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """Say which object each image shows, and how much of each square of ``stride`` pixels it covers.

    Args:
        classes: (n, height, width), one object to an image.
        stride: px, divides both sides.

    Returns:
        (n,) the object's class; (n, height / stride, width / stride) shares.
    """
    is_object = classes != BACKGROUND
    n, height, width = classes.shape
    squares = is_object.reshape(n, height // stride, stride, width // stride, stride)
    object_class = np.where(is_object, classes, 0).reshape(n, -1).max(axis=1)
    return object_class.astype(np.int64), squares.mean(axis=(2, 4), dtype=np.float32)


@torch.inference_mode()
def held_out_miou(model: Segmenter, n_images: int) -> float:
    """Measure the mean IoU over classes, from 0 to 1, on the first ``n_images`` evaluation images."""
    model.eval()
    device = next(model.parameters()).device
    n_classes = len(MASK_CLASS_NAMES)
    confusion = np.zeros((n_classes, n_classes), dtype=np.int64)
    for first in range(0, n_images, 100):
        pixels, masks, labels = draw_batch(range(first, min(first + 100, n_images)))
        found = model(normalise(pixels, device)).argmax(1).cpu().numpy()
        pairs = class_masks(masks, labels).astype(np.int64) * n_classes + found
        confusion += np.bincount(pairs.ravel(), minlength=n_classes**2).reshape(n_classes, n_classes)
    hits = confusion.diagonal()
    iou: NDArray[np.float64] = hits / (confusion.sum(0) + confusion.sum(1) - hits)
    return float(iou.mean())


def _focal(log_probability: Tensor) -> Tensor:
    return -((1 - log_probability.exp()) ** FOCUS) * log_probability


def _resume(state_file: Path, stateful: dict[str, Any], device: torch.device) -> int:
    if not state_file.is_file():
        return 0
    state = torch.load(state_file, map_location=device, weights_only=True)
    for name, each in stateful.items():
        each.load_state_dict(state[name])
    print(f"goes on from step {state['done']}", flush=True)
    done: int = state["done"]
    return done


if __name__ == "__main__":
    main(sys.argv[1:])
