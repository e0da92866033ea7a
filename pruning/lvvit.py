"""LV-ViT, which timm does not have, registered with timm: ``lvvit_s`` and ``lvvit_m``.

Built from timm's blocks, so that whatever works on them works here. State dicts have the authors' names, so that their
checkpoints load as they are.

Source: Jiang et al. 2021, "All Tokens Matter: Token Labeling for Training Better Vision Transformers",
arXiv:2104.10858, and the repository zihangJiang/TokenLabeling for what the paper leaves out: the sizes of the stem, the
scale of the residual branches, no bias in query, key and value, and how the two classifiers are added up. We do not mix
tokens in training; the model gives its evaluation output in either mode.
"""

from __future__ import annotations

from functools import partial
from typing import Any

from timm.data import IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD
from timm.layers import to_2tuple
from timm.models import build_model_with_cfg, generate_default_cfgs, register_model
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn

__all__ = ["ConvolutionalStem", "LVViT", "lvvit_m", "lvvit_s"]

_STEM_CHANNELS = 64
_DENSE_SHARE = 0.5  # of the patches' classifier in the logits
_RELEASE = "https://github.com/zihangJiang/TokenLabeling/releases/download/1.0"


def _declared(file: str, crop_pct: float) -> dict[str, Any]:
    return {
        "url": f"{_RELEASE}/{file}",
        "input_size": (3, 224, 224),
        "fixed_input_size": True,
        "num_classes": 1000,
        "pool_size": None,
        "crop_pct": crop_pct,
        "interpolation": "bicubic",
        "mean": IMAGENET_DEFAULT_MEAN,
        "std": IMAGENET_DEFAULT_STD,
        "first_conv": "patch_embed.conv1",
        "classifier": ("head", "aux_head"),
        "license": "apache-2.0",
    }


default_cfgs = generate_default_cfgs(
    {
        "lvvit_s.in1k": _declared("lvvit_s-26M-224-83.3.pth.tar", crop_pct=0.9),
        "lvvit_m.in1k": _declared("lvvit_m-56M-224-84.0.pth.tar", crop_pct=1.0),
    }
)


class ConvolutionalStem(nn.Module):
    """Three convolutions at half the image's size, then one over what is a patch by then."""

    def __init__(
        self,
        img_size: int | tuple[int, int] = 224,
        patch_size: int | tuple[int, int] = 16,
        in_chans: int = 3,
        embed_dim: int = 384,
        **placement: Any,
    ) -> None:
        """Build the stem.

        Args:
            img_size: height and width of the input, px.
            patch_size: height and width of a patch, px; even.
            in_chans: channels of the input.
            embed_dim: width of a token.
            placement: ``device`` and ``dtype``; what else timm tells a stem does not apply to this one.
        """
        super().__init__()
        placed = {name: placement[name] for name in ("device", "dtype") if name in placement}
        self.img_size: tuple[int, int] = to_2tuple(img_size)
        self.patch_size: tuple[int, int] = to_2tuple(patch_size)
        self.grid_size = (self.img_size[0] // self.patch_size[0], self.img_size[1] // self.patch_size[1])
        self.num_patches = self.grid_size[0] * self.grid_size[1]
        width, half = _STEM_CHANNELS, (self.patch_size[0] // 2, self.patch_size[1] // 2)
        self.conv1 = nn.Conv2d(in_chans, width, 7, stride=2, padding=3, bias=False, **placed)
        self.bn1 = nn.BatchNorm2d(width, **placed)
        self.conv2 = nn.Conv2d(width, width, 3, padding=1, bias=False, **placed)
        self.bn2 = nn.BatchNorm2d(width, **placed)
        self.conv3 = nn.Conv2d(width, width, 3, padding=1, bias=False, **placed)
        self.bn3 = nn.BatchNorm2d(width, **placed)
        self.proj = nn.Conv2d(width, embed_dim, half, stride=half, **placed)

    def forward(self, images: Tensor) -> Tensor:
        """Turn (batch, channel, height, width) into (batch, n_patch, dim)."""
        x = self.bn1(self.conv1(images)).relu()
        x = self.bn2(self.conv2(x)).relu()
        x = self.bn3(self.conv3(x)).relu()
        tokens: Tensor = self.proj(x).flatten(2).transpose(1, 2)
        return tokens


class _DividedBy(nn.Module):
    """Divides what a residual branch adds; in a block it stands where LayerScale would."""

    def __init__(self, divisor: float) -> None:
        super().__init__()
        self.divisor = divisor

    def forward(self, x: Tensor) -> Tensor:
        return x / self.divisor


class LVViT(VisionTransformer):  # type: ignore[misc]  # timm is untyped
    """A ViT whose class token and patch tokens all say what the image shows."""

    def __init__(self, *, residual_divisor: float = 2.0, **arguments: Any) -> None:
        """Build the model.

        Args:
            residual_divisor: what each residual branch is divided by; the authors' ``skip_lam``.
            arguments: of timm's ``VisionTransformer``.
        """
        fixed = {"embed_layer": ConvolutionalStem, "qkv_bias": False, "norm_layer": partial(nn.LayerNorm, eps=1e-5)}
        super().__init__(**(fixed | arguments))
        for block in self.blocks:
            block.ls1, block.ls2 = _DividedBy(residual_divisor), _DividedBy(residual_divisor)
        self.aux_head = self._new_head(self.num_classes)

    def reset_classifier(self, num_classes: int, global_pool: str | None = None) -> None:
        """Replace both classifiers."""
        super().reset_classifier(num_classes, global_pool)
        self.aux_head = self._new_head(num_classes)

    def _new_head(self, num_classes: int) -> nn.Module:
        like = self.pos_embed
        if not num_classes:
            return nn.Identity()
        return nn.Linear(self.embed_dim, num_classes, device=like.device, dtype=like.dtype)

    def forward_head(self, x: Tensor, pre_logits: bool = False) -> Tensor:
        """Turn (batch, n_token, dim) into logits: the class token's, and half the highest that any patch gives.

        Args:
            x: normalised tokens.
            pre_logits: give the pooled features instead, (batch, dim); without classes it is always they.
        """
        pooled: Tensor = super().forward_head(x, pre_logits)
        if pre_logits or isinstance(self.aux_head, nn.Identity):
            return pooled
        of_patches: Tensor = self.aux_head(x[:, self.num_prefix_tokens :])
        return pooled + _DENSE_SHARE * of_patches.amax(dim=1)


def _build(name: str, pretrained: bool, arguments: dict[str, Any]) -> LVViT:
    model: LVViT = build_model_with_cfg(
        LVViT, name, pretrained, feature_cfg={"out_indices": 3, "feature_cls": "getter"}, **arguments
    )
    return model


@register_model  # type: ignore[untyped-decorator]  # timm is untyped
def lvvit_s(pretrained: bool = False, **kwargs: Any) -> LVViT:
    """Build LV-ViT-S: 16 blocks, 384 wide, 6 heads.

    Args:
        pretrained: download the authors' weights.
        kwargs: of ``LVViT``, over those of this model.
    """
    arguments = {"embed_dim": 384, "depth": 16, "num_heads": 6, "mlp_ratio": 3}
    return _build("lvvit_s", pretrained, arguments | kwargs)


@register_model  # type: ignore[untyped-decorator]  # timm is untyped
def lvvit_m(pretrained: bool = False, **kwargs: Any) -> LVViT:
    """Build LV-ViT-M: 20 blocks, 512 wide, 8 heads.

    Args:
        pretrained: download the authors' weights.
        kwargs: of ``LVViT``, over those of this model.
    """
    arguments = {"embed_dim": 512, "depth": 20, "num_heads": 8, "mlp_ratio": 3}
    return _build("lvvit_m", pretrained, arguments | kwargs)
