"""The bundled small model for ``shapes``, registered with timm.

Importing this module adds ``shapes_vit_small`` to timm's registry, as timm's own model files do. Its
weights lie beside this file; ``objectives.train_shapes_vit`` reproduces them.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from timm.models import build_model_with_cfg, generate_default_cfgs, register_model
from timm.models.vision_transformer import VisionTransformer, checkpoint_filter_fn

__all__ = ["BUNDLED_MODELS", "ENCODER", "IN_TIMM", "WEIGHTS_FOLDER", "shapes_vit_small"]

WEIGHTS_FOLDER = Path(__file__).parent / "weights"
BUNDLED_MODELS = ("shapes_vit_small",)
ENCODER = {
    "img_size": 96,
    "patch_size": 8,
    "embed_dim": 96,
    "depth": 12,
    "num_heads": 3,
    "mlp_ratio": 2,
}
IN_TIMM = ("vit_tiny_patch16_224", ENCODER)  # the same model under a name and by arguments that timm alone knows

default_cfgs = generate_default_cfgs(
    {
        "shapes_vit_small.v1": {
            "file": str(WEIGHTS_FOLDER / "shapes_vit_small.safetensors"),
            "input_size": (3, 96, 96),
            "fixed_input_size": True,
            "num_classes": 10,
            "pool_size": None,
            "crop_pct": 1.0,
            "interpolation": "bicubic",
            "mean": (0.5, 0.5, 0.5),
            "std": (0.5, 0.5, 0.5),
            "first_conv": "patch_embed.proj",
            "classifier": "head",
            "license": "mit",
        }
    }
)


@register_model  # type: ignore[untyped-decorator]  # timm is untyped
def shapes_vit_small(pretrained: bool = False, **kwargs: Any) -> VisionTransformer:
    """Build the ViT for ``shapes``: patch 8 at 96 px (144 patch tokens), 12 blocks, 96 wide, 3 heads.

    Args:
        pretrained: load the bundled weights; nothing is downloaded.
        kwargs: timm's ``VisionTransformer`` arguments, over those of this model.
    """
    model: VisionTransformer = build_model_with_cfg(
        VisionTransformer,
        "shapes_vit_small",
        pretrained,
        pretrained_filter_fn=checkpoint_filter_fn,
        feature_cfg={"out_indices": 3, "feature_cls": "getter"},
        **(ENCODER | kwargs),
    )
    return model
