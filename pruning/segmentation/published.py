"""The segmentation models there are, registered with timm: the paper's settings, and the bundled small model.

Importing this module adds them to timm's registry, as timm's own model files do.

Source: Tang et al. 2023, DToP, arXiv:2308.01045, and the configurations of its repository for what the paper leaves
out: where the heads are, their widths and their attention heads.
"""

from __future__ import annotations

from typing import Any

from timm.data import IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD
from timm.models import build_model_with_cfg, generate_default_cfgs, register_model

from pruning.segmentation.checkpoints import checkpoint_filter_fn
from pruning.segmentation.segmenter import Segmenter
from pruning.shapes_vit import ENCODER, WEIGHTS_FOLDER

__all__ = [
    "BUNDLED_MODELS",
    "segvit_vit_base",
    "segvit_vit_large",
    "setr_vit_base",
    "setr_vit_large",
    "shapes_seg_small",
]

_BASE = {"patch_size": 16, "embed_dim": 768, "depth": 12, "num_heads": 12, "num_classes": 150}
_LARGE = {"patch_size": 16, "embed_dim": 1024, "depth": 24, "num_heads": 16, "num_classes": 150}


def _declared(size: int, mean: tuple[float, ...], std: tuple[float, ...], **more: Any) -> dict[str, Any]:
    return {
        "input_size": (3, size, size),
        "fixed_input_size": True,
        "num_classes": 150,
        "pool_size": None,
        "crop_pct": 1.0,
        "crop_mode": "squash",
        "interpolation": "bilinear",
        "mean": mean,
        "std": std,
        "first_conv": "encoder.patch_embed.proj",
        "classifier": None,
    } | more


_HALF = (0.5, 0.5, 0.5)
default_cfgs = generate_default_cfgs(
    {
        "segvit_vit_base": _declared(512, IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD),
        "segvit_vit_large": _declared(640, _HALF, _HALF),
        "setr_vit_base": _declared(512, IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD),
        "setr_vit_large": _declared(512, IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD),
        "shapes_seg_small.v1": _declared(
            96,
            _HALF,
            _HALF,
            num_classes=11,
            file=str(WEIGHTS_FOLDER / "shapes_seg_small.safetensors"),
            license="mit",
        ),
    }
)
BUNDLED_MODELS = ("shapes_seg_small",)


@register_model  # type: ignore[untyped-decorator]  # timm is untyped
def segvit_vit_base(pretrained: bool = False, **kwargs: Any) -> Segmenter:
    """Build SegViT-B as DToP has it: 512 px, ATM heads after blocks 6, 8 and 12."""
    heads = {"head": "atm", "after": (6, 8, 12), "head_channels": 384, "head_heads": 6}
    return _built("segvit_vit_base", pretrained, {"img_size": 512} | _BASE | heads | kwargs)


@register_model  # type: ignore[untyped-decorator]  # timm is untyped
def segvit_vit_large(pretrained: bool = False, **kwargs: Any) -> Segmenter:
    """Build SegViT-L as DToP has it: 640 px, ATM heads after blocks 8, 16 and 24."""
    heads = {"head": "atm", "after": (8, 16, 24), "head_channels": 512, "head_heads": 8}
    return _built("segvit_vit_large", pretrained, {"img_size": 640} | _LARGE | heads | kwargs)


@register_model  # type: ignore[untyped-decorator]  # timm is untyped
def setr_vit_base(pretrained: bool = False, **kwargs: Any) -> Segmenter:
    """Build SETR-B with naive heads as DToP has it: 512 px, a class token, a final norm, heads as in its config."""
    heads = {"head": "fcn", "after": (4, 7, 10, 12), "head_channels": 256, "class_token": True, "final_norm": True}
    return _built("setr_vit_base", pretrained, {"img_size": 512} | _BASE | heads | kwargs)


@register_model  # type: ignore[untyped-decorator]  # timm is untyped
def setr_vit_large(pretrained: bool = False, **kwargs: Any) -> Segmenter:
    """Build SETR-L with naive heads as mmsegmentation has it: 512 px, a class token, heads after 10, 15, 20 and 24."""
    heads = {"head": "fcn", "after": (10, 15, 20, 24), "head_channels": 256, "class_token": True}
    return _built("setr_vit_large", pretrained, {"img_size": 512} | _LARGE | heads | kwargs)


@register_model  # type: ignore[untyped-decorator]  # timm is untyped
def shapes_seg_small(pretrained: bool = False, **kwargs: Any) -> Segmenter:
    """Build the segmenter for ``shapes``: patch 8 at 96 px, 12 blocks, 96 wide, FCN heads after blocks 4, 8 and 12.

    Args:
        pretrained: load the bundled weights; nothing is downloaded.
        kwargs: of ``Segmenter``, over those of this model.
    """
    heads = {"head": "fcn", "after": (4, 8, 12), "head_channels": 96, "num_classes": 11}
    return _built("shapes_seg_small", pretrained, ENCODER | heads | kwargs)


def _built(name: str, pretrained: bool, arguments: dict[str, Any]) -> Segmenter:
    model: Segmenter = build_model_with_cfg(
        Segmenter, name, pretrained, pretrained_filter_fn=checkpoint_filter_fn, **arguments
    )
    return model
