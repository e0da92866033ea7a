"""Train ``shapes_vit_small`` on freshly drawn ``shapes`` and write its weights.

    python -m objectives.train_shapes_vit --output pruning/weights/shapes_vit_small.safetensors

From scratch on the class loss alone a ViT stays at chance for many epochs. A second loss, in which each
patch token names the class of what it covers (the masks know), makes it learn from the first steps; its
linear head is thrown away at the end. No image is drawn twice: a fixed set of 30,000 is overfitted.
"""

from __future__ import annotations

import argparse
import sys
import time
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

__all__ = ["main"]

PATCH = 8
BACKGROUND_WEIGHT = 0.1


def main(arguments: list[str] | None = None) -> None:
    """Train, report held-out top-1 now and then, and write the weights as safetensors."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--output", required=True, help="the .safetensors file to write")
    parser.add_argument("--steps", type=int, default=8000)
    parser.add_argument("--batch", type=int, default=64, help="images a step")
    parser.add_argument("--rate", type=float, default=5e-4, help="highest learning rate of the one cycle")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    options = parser.parse_args(arguments)
    model = train(options.steps, options.batch, options.rate, options.seed, torch.device(options.device))
    weights = {name: tensor.cpu().contiguous() for name, tensor in model.state_dict().items()}
    safetensors.torch.save_file(weights, options.output)
    print(f"held-out top-1 on 4096 images: {100 * held_out_top1(model, 4096):.2f} %", flush=True)


def train(steps: int, batch: int, rate: float, seed: int, device: torch.device) -> nn.Module:
    """Run ``steps`` steps of AdamW on a one-cycle schedule in bfloat16 autocast."""
    torch.manual_seed(seed)
    model: Any = timm.create_model("shapes_vit_small").to(device)
    for block in model.blocks:
        block.attn.fused_attn = False  # on two CPU cores a step takes 0.37 s instead of 0.91 s
    patch_head = nn.Linear(model.num_features, len(CLASS_NAMES) + 1).to(device)
    parameters = [*model.parameters(), *patch_head.parameters()]
    # Gradients come in bursts of fifty times their usual norm: at 1e-3, or with a longer memory than 0.95 for their
    # squares, each burst throws the model back by hundreds of steps.
    optimizer = torch.optim.AdamW(parameters, lr=rate, betas=(0.9, 0.95), weight_decay=0.05, fused=True)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, rate, total_steps=steps, pct_start=0.03, cycle_momentum=False
    )
    class_weights = torch.ones(len(CLASS_NAMES) + 1, device=device)
    class_weights[-1] = BACKGROUND_WEIGHT

    started = time.monotonic()
    for step in range(steps):
        first = N_EVALUATION_IMAGES + step * batch
        pixels, masks, labels = draw_batch(range(first, first + batch))
        target = torch.from_numpy(labels).to(device)
        patch_target = torch.from_numpy(patch_labels(masks, labels)).to(device)
        model.train()
        with torch.autocast(device.type, dtype=torch.bfloat16):
            features = model.forward_features(normalise(pixels, device))
            logits = model.forward_head(features)
            patch_logits = patch_head(features[:, model.num_prefix_tokens :])
        class_loss = functional.cross_entropy(logits.float(), target)
        patch_loss = functional.cross_entropy(
            patch_logits.float().flatten(0, 1), patch_target.flatten(), weight=class_weights
        )
        (class_loss + patch_loss).backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        optimizer.zero_grad()
        schedule.step()
        if (step + 1) % 250 == 0 or step + 1 == steps:
            print(
                f"step {step + 1}/{steps}  class loss {class_loss.item():.3f}  patch loss {patch_loss.item():.3f}"
                f"  held-out top-1 {100 * held_out_top1(model, 1000):.1f} %  {time.monotonic() - started:.0f} s",
                flush=True,
            )
    trained: nn.Module = model
    return trained


def patch_labels(masks: NDArray[np.bool_], labels: NDArray[np.int64]) -> NDArray[np.int64]:
    """Give each patch the class that covers at least half of it, else the background's index.

    Args:
        masks: (n, 96, 96).
        labels: (n,).

    Returns:
        (n, 144), in raster order.
    """
    side = IMAGE_SIZE // PATCH
    covered = masks.reshape(-1, side, PATCH, side, PATCH).mean(axis=(2, 4)).reshape(-1, side * side)
    return np.where(covered >= 0.5, labels[:, None], len(CLASS_NAMES))


def normalise(pixels: NDArray[np.uint8], device: torch.device) -> Tensor:
    """Map (n, 96, 96, 3) uint8 to (n, 3, 96, 96) in [-1, 1], the model's declared mean and deviation."""
    return torch.from_numpy(pixels).to(device).permute(0, 3, 1, 2).float().div(127.5).sub(1)


@torch.inference_mode()
def held_out_top1(model: nn.Module, n_images: int) -> float:
    """Measure top-1 of the float32 model on the first ``n_images`` evaluation images."""
    model.eval()
    device = next(model.parameters()).device
    n_right = 0
    for first in range(0, n_images, 128):
        pixels, _, labels = draw_batch(range(first, min(first + 128, n_images)))
        n_right += int((model(normalise(pixels, device)).argmax(1).cpu().numpy() == labels).sum())
    return n_right / n_images


if __name__ == "__main__":
    main(sys.argv[1:])
