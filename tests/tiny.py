"""Small models and images that tests make."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from timm.models.deit import VisionTransformerDistilled
from timm.models.tnt import TNT
from timm.models.vision_transformer import VisionTransformer

from pruning.lvvit import LVViT
from spaces import Architecture, DenseHead

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
SEGVIT_BASE = Architecture(
    name="segvit_vit_base",
    image_size=(512, 512),
    patch_size=(16, 16),
    depth=12,
    dim=768,
    n_heads=12,
    attention_dim=768,
    mlp_dim=3072,
    n_prefix=0,
    has_class_token=False,
    pool="mean",
    norms_final_tokens=False,
    n_classifiers=0,
    n_classes=150,
    heads=tuple(DenseHead(after=after, kind="atm", channels=384, n_layers=3) for after in (6, 8, 12)),
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
    return _shaken(family(**(defaults | arguments)))


def tiny_tnt(*, seed: int = 0, **arguments) -> TNT:
    """Build a TNT with 16 sentences of 4 words, 4 blocks and 5 classes."""
    torch.manual_seed(seed)
    defaults = {
        "img_size": 32,
        "patch_size": 8,
        "embed_dim": 24,
        "inner_dim": 6,
        "depth": 4,
        "num_heads_inner": 2,
        "num_heads_outer": 3,
        "mlp_ratio": 2,
        "num_classes": 5,
    }
    return _shaken(TNT(**(defaults | arguments)))


def tiny_lvvit(*, seed: int = 0, **arguments) -> LVViT:
    """Build an LV-ViT with 16 patches, 4 blocks and 5 classes."""
    torch.manual_seed(seed)
    defaults = {
        "img_size": 32,
        "patch_size": 8,
        "embed_dim": 24,
        "depth": 4,
        "num_heads": 3,
        "mlp_ratio": 2,
        "num_classes": 5,
    }
    model = _shaken(LVViT(**(defaults | arguments)))
    for name, buffer in model.named_buffers():
        if name.endswith(("running_mean", "running_var")):
            buffer.add_(torch.rand_like(buffer))
    return model


def _shaken(model):
    """As they are made, weights give attention so even that every ranking is a matter of rounding."""
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
    return model.eval()


def _unfused_vit() -> VisionTransformer:
    model = tiny_vit()
    for block in model.blocks:
        block.attn.fused_attn = False
    return model


TINY_MODELS = {
    "ViT": tiny_vit,
    "unfused": _unfused_vit,
    "distilled DeiT": partial(tiny_vit, distilled=True),
    "DeiT-III": partial(tiny_vit, init_values=0.5, no_embed_class=True),
    "MAE": partial(tiny_vit, global_pool="avg"),
    "mean pooling": partial(tiny_vit, global_pool="avg", class_token=False),
    "DINOv2 with registers": partial(tiny_vit, reg_tokens=2, init_values=0.5, no_embed_class=True),
    "query and key norm": partial(tiny_vit, qk_norm=True),
    "norm before the blocks": partial(tiny_vit, pre_norm=True),
    "TNT": tiny_tnt,
    "legacy TNT": partial(tiny_tnt, legacy=True),
    "TNT, mean pooling": partial(tiny_tnt, global_pool="avg"),
    "LV-ViT": tiny_lvvit,
}


def tiny_images(n: int = 4, size: int = 32) -> torch.Tensor:
    """Give (n, 3, size, size) of noise."""
    return torch.randn(n, 3, size, size, generator=torch.Generator().manual_seed(1))


def write_jpeg(path: Path, seed: int, size: tuple[int, int] = (40, 36)) -> Path:
    """Write a photograph-like JPEG: smooth noise, not the same for any two seeds."""
    path.parent.mkdir(parents=True, exist_ok=True)
    coarse = np.random.default_rng(seed).integers(0, 256, (6, 6, 3), dtype=np.uint8)
    Image.fromarray(coarse).resize(size, Image.Resampling.BICUBIC).save(path, quality=92)
    return path
