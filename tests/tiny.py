"""Small models and images that tests make."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from PIL import Image
from timm.models.deit import VisionTransformerDistilled
from timm.models.vision_transformer import VisionTransformer

from spaces import Architecture

DEIT_SMALL = Architecture(
    name="deit_small_patch16_224",
    image_size=(224, 224),
    patch_size=(16, 16),
    depth=12,
    dim=384,
    n_heads=6,
    attention_dim=384,
    mlp_dim=1536,
)


def tiny_vit(*, distilled: bool = False, seed: int = 0, **arguments) -> VisionTransformer:
    """Build a ViT with 16 patches, 4 blocks and 5 classes, whose attention is far from uniform."""
    torch.manual_seed(seed)
    family = VisionTransformerDistilled if distilled else VisionTransformer
    defaults = {
        "img_size": 32,
        "patch_size": 8,
        "embed_dim": 24,
        "depth": 4,
        "num_heads": 3,
        "mlp_ratio": 2,
        "num_classes": 5,
    }
    model = family(**(defaults | arguments)).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            # As they are made, weights give attention so even that every ranking is a matter of rounding.
            parameter.add_(0.3 * torch.randn_like(parameter))
    return model


def tiny_images(n: int = 4, size: int = 32) -> torch.Tensor:
    """Give (n, 3, size, size) of noise."""
    return torch.randn(n, 3, size, size, generator=torch.Generator().manual_seed(1))


def write_jpeg(path: Path, seed: int, size: tuple[int, int] = (40, 36)) -> Path:
    """Write a photograph-like JPEG: smooth noise, not the same for any two seeds."""
    path.parent.mkdir(parents=True, exist_ok=True)
    coarse = np.random.default_rng(seed).integers(0, 256, (6, 6, 3), dtype=np.uint8)
    Image.fromarray(coarse).resize(size, Image.Resampling.BICUBIC).save(path, quality=92)
    return path
