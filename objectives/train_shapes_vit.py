"""Train ``shapes_vit_small`` on freshly drawn ``shapes`` and write its weights, in two stages.

    python -m objectives.train_shapes_vit --output pruning/weights/shapes_vit_small.safetensors

From scratch on the class loss alone a ViT stays at chance for many epochs. In the first stage a second loss,
in which each patch token names the class of what it covers (the masks know), makes it learn from the first
steps. It learns to look at the background, though, and to count on every token being there, as no large
pretrained model does. In the second stage every patch token names the class of the image, so it has to look
at the object, and behind a random block a random share of the patches goes, background first.

The linear heads of the second losses are thrown away. No image is drawn twice: a fixed set of 30,000 is
overfitted.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Iterator
from typing import Any

import numpy as np
import safetensors.torch
import timm
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

import pruning.shapes_vit  # noqa: F401  registers the model with timm
from objectives.shapes import CLASS_NAMES, IMAGE_SIZE, N_EVALUATION_IMAGES, draw_batch

__all__ = ["held_out_top1", "main", "patch_labels", "patches_of_object"]

PATCH = 8
BACKGROUND_WEIGHT = 0.1  # of the first stage's patch loss
LEAST_KEPT = 0.3  # share of the patches, in the second stage
LAST_BLOCK_TO_LOSE_BEFORE = 8
BATCH = 64
N_WATCHED, N_HELD_OUT = 1000, 4096  # images for the top-1 that is reported on the way, and at the end of a stage


def main(arguments: list[str] | None = None) -> None:
    """Train, report held-out top-1 now and then, and write the weights as safetensors."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--output", required=True, help="the .safetensors file to write")
    parser.add_argument("--steps", type=int, nargs=2, default=(8000, 2000), help="of either stage")
    parser.add_argument("--rate", type=float, default=5e-4, help="highest learning rate of each stage's one cycle")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--first-stage", help="weights that the first stage left; go on with the second")
    options = parser.parse_args(arguments)
    device = torch.device(options.device)
    n_first, n_second = options.steps
    if options.first_stage is None:
        weights = first_stage(n_first, options.rate, options.seed, device)
        safetensors.torch.save_file(weights, options.output)
    else:
        weights = safetensors.torch.load_file(options.first_stage, device=options.device)
    weights = second_stage(weights, n_first, n_second, options.rate, options.seed + 1, device)
    safetensors.torch.save_file(weights, options.output)


def first_stage(n_steps: int, rate: float, seed: int, device: torch.device) -> dict[str, Tensor]:
    """Teach each patch token what it covers, and the class token the image's class."""
    torch.manual_seed(seed)
    model = _model(device)
    patch_head = nn.Linear(model.num_features, len(CLASS_NAMES) + 1).to(device)
    class_weights = torch.ones(len(CLASS_NAMES) + 1, device=device)
    class_weights[-1] = BACKGROUND_WEIGHT
    for step in _steps(model, patch_head, 0, n_steps, rate, warm_up=0.03):
        patch_target = torch.from_numpy(patch_labels(step.masks, step.labels)).to(device)
        with torch.autocast(device.type, dtype=torch.bfloat16):
            features = model.forward_features(normalise(step.pixels, device))
            logits = model.forward_head(features)
            patch_logits = patch_head(features[:, model.num_prefix_tokens :])
        step.class_loss = functional.cross_entropy(logits.float(), torch.from_numpy(step.labels).to(device))
        step.patch_loss = functional.cross_entropy(
            patch_logits.float().flatten(0, 1), patch_target.flatten(), weight=class_weights
        )
    return _weights(model)


def second_stage(
    weights: dict[str, Tensor], n_before: int, n_steps: int, rate: float, seed: int, device: torch.device
) -> dict[str, Tensor]:
    """Teach every patch token the image's class, and the model to do without some of them.

    Goes on from the first stage's weights, and with the images that follow those of its ``n_before`` steps.
    """
    torch.manual_seed(seed)
    random = np.random.default_rng(seed)
    model = _model(device)
    model.load_state_dict(weights)
    patch_head = nn.Linear(model.num_features, len(CLASS_NAMES)).to(device)
    for step in _steps(model, patch_head, n_before, n_steps, rate, warm_up=0.05):
        is_object = torch.from_numpy(patches_of_object(step.masks))
        n_patches = is_object.shape[1]
        n_kept = round(n_patches * (LEAST_KEPT + (1 - LEAST_KEPT) * random.random()))
        lost_before = int(random.integers(0, LAST_BLOCK_TO_LOSE_BEFORE + 1))
        preference = 0.5 + random.random()
        score = torch.rand(is_object.shape) + preference * is_object
        kept = score.topk(n_kept, dim=1).indices.sort(dim=1).values + model.num_prefix_tokens
        kept = functional.pad(kept, (model.num_prefix_tokens, 0)).to(device)  # the class token is number 0
        with torch.autocast(device.type, dtype=torch.bfloat16):
            tokens = model._pos_embed(model.patch_embed(normalise(step.pixels, device)))
            for number, block in enumerate(model.blocks):
                if number == lost_before:
                    tokens = torch.gather(tokens, 1, kept[:, :, None].expand(-1, -1, tokens.shape[2]))
                tokens = block(tokens)
            features = model.norm(tokens)
            logits = model.forward_head(features)
            patch_logits = patch_head(features[:, model.num_prefix_tokens :])
        target = torch.from_numpy(step.labels).to(device)
        step.class_loss = functional.cross_entropy(logits.float(), target)
        step.patch_loss = functional.cross_entropy(
            patch_logits.float().flatten(0, 1), target.repeat_interleave(patch_logits.shape[1])
        )
    return _weights(model)


class _Step:
    """One batch; the body of the loop leaves its two losses here."""

    class_loss: Tensor
    patch_loss: Tensor

    def __init__(self, number: int) -> None:
        first = N_EVALUATION_IMAGES + number * BATCH
        self.pixels, self.masks, self.labels = draw_batch(range(first, first + BATCH))


def _steps(
    model: Any, patch_head: nn.Module, n_before: int, n_steps: int, rate: float, *, warm_up: float
) -> Iterator[_Step]:
    """Run the steps of AdamW on a one-cycle schedule around the losses that the caller computes."""
    parameters = [*model.parameters(), *patch_head.parameters()]
    # Gradients come in bursts of fifty times their usual norm: at 1e-3, or with a longer memory than 0.95 for their
    # squares, each burst throws the model back by hundreds of steps.
    optimizer = torch.optim.AdamW(parameters, lr=rate, betas=(0.9, 0.95), weight_decay=0.05, fused=True)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, rate, total_steps=n_steps, pct_start=warm_up, cycle_momentum=False
    )
    started = time.monotonic()
    for number in range(n_steps):
        step = _Step(n_before + number)
        model.train()
        yield step
        (step.class_loss + step.patch_loss).backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        optimizer.zero_grad()
        schedule.step()
        if (number + 1) % 250 == 0 or number + 1 == n_steps:
            print(
                f"step {number + 1}/{n_steps}  class loss {step.class_loss.item():.3f}"
                f"  patch loss {step.patch_loss.item():.3f}"
                f"  held-out top-1 {100 * held_out_top1(model, N_WATCHED):.1f} %  {time.monotonic() - started:.0f} s",
                flush=True,
            )
    print(f"held-out top-1 on {N_HELD_OUT} images: {100 * held_out_top1(model, N_HELD_OUT):.2f} %", flush=True)


def patch_labels(masks: NDArray[np.bool_], labels: NDArray[np.int64]) -> NDArray[np.int64]:
    """Give each patch the class that covers at least half of it, else the background's index.

    Args:
        masks: (n, 96, 96).
        labels: (n,).

    Returns:
        (n, 144), in raster order.
    """
    return np.where(_coverage(masks) >= 0.5, labels[:, None], len(CLASS_NAMES))


def patches_of_object(masks: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Say which patches hold any of the object: (n, 96, 96) -> (n, 144), in raster order."""
    return _coverage(masks) > 0


def _coverage(masks: NDArray[np.bool_]) -> NDArray[np.float64]:
    side = IMAGE_SIZE // PATCH
    covered: NDArray[np.float64] = masks.reshape(-1, side, PATCH, side, PATCH).mean(axis=(2, 4))
    return covered.reshape(-1, side * side)


def normalise(pixels: NDArray[np.uint8], device: torch.device) -> Tensor:
    """Map (n, 96, 96, 3) uint8 to (n, 3, 96, 96) in [-1, 1], the model's declared mean and deviation."""
    return torch.from_numpy(pixels).to(device).permute(0, 3, 1, 2).float().div(127.5).sub(1)


@torch.inference_mode()
def held_out_top1(model: nn.Module, n_images: int) -> float:
    """Measure top-1, from 0 to 1, of the float32 model on the first ``n_images`` evaluation images."""
    model.eval()
    device = next(model.parameters()).device
    n_right = 0
    for first in range(0, n_images, 128):
        pixels, _, labels = draw_batch(range(first, min(first + 128, n_images)))
        n_right += int((model(normalise(pixels, device)).argmax(1).cpu().numpy() == labels).sum())
    return n_right / n_images


def _model(device: torch.device) -> Any:
    model: Any = timm.create_model("shapes_vit_small").to(device)
    for block in model.blocks:
        block.attn.fused_attn = False  # on two CPU cores a step of the first stage takes 0.37 s instead of 0.91 s
    return model


def _weights(model: nn.Module) -> dict[str, Tensor]:
    return {name: tensor.detach().cpu().contiguous() for name, tensor in model.state_dict().items()}


if __name__ == "__main__":
    main(sys.argv[1:])
