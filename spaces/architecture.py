"""What a vision transformer is, as plain data: enough to count its arithmetic without the model."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, PositiveInt

from spaces.dense_head import DenseHead
from spaces.errors import UnsupportedModel

__all__ = ["Architecture", "Convolution", "Words"]


class Convolution(BaseModel):
    """One convolution of a stem.

    Attributes:
        in_channels: that it reads.
        out_channels: that it gives.
        kernel_size: height and width.
        output_size: height and width of what it gives, of all patches together.
        normalised: whether a batch norm follows.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    in_channels: PositiveInt
    out_channels: PositiveInt
    kernel_size: tuple[PositiveInt, PositiveInt]
    output_size: tuple[PositiveInt, PositiveInt]
    normalised: bool = False


class Words(BaseModel):
    """What a patch token (sentence) of a TNT is made of, and the transformer within each.

    Attributes:
        n_word: words of a sentence.
        dim: width of a word.
        mlp_dim: hidden width of the inner MLP.
        norms_projection: whether a block layer-normalises what the words add to their sentence; the legacy variant
            does not.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    n_word: PositiveInt
    dim: PositiveInt
    mlp_dim: PositiveInt
    norms_projection: bool = True


class Architecture(BaseModel):
    """A plain vision transformer's dimensions, read off a model once.

    Attributes:
        name: the model's name, for messages.
        image_size: height and width of the input, px.
        patch_size: height and width of a patch, px.
        depth: transformer blocks.
        dim: width of a token.
        n_heads: attention heads of a block.
        attention_dim: width of all heads together; ``dim`` for every common ViT.
        mlp_dim: hidden width of a block's MLP.
        n_prefix: tokens before the patches (class, distillation, registers).
        has_class_token: whether the first of them is a class token.
        pool: what the classifier reads: the class token, or a mean (or maximum) over patch tokens.
        norms_query_key: whether query and key are layer-normalised in each head (qk-norm).
        norms_embedding: whether tokens are layer-normalised before the first block (CLIP's pre-norm).
        norms_final_tokens: whether all tokens are layer-normalised after the last block.
        norms_pooled: whether the pooled vector is layer-normalised before the classifier.
        n_classifiers: linear heads on the features; 2 for a distilled DeiT, 0 for none.
        n_classes: classes of each of them.
        classifies_patches: whether one more linear head reads every patch token (LV-ViT).
        stem: the convolutions before the first token; empty for a single one over each patch.
        words: what each patch token is made of, in a TNT.
        heads: the heads that name each token's class, in a segmenter; dense, only the last one runs.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    image_size: tuple[PositiveInt, PositiveInt]
    patch_size: tuple[PositiveInt, PositiveInt]
    in_channels: PositiveInt = 3
    depth: PositiveInt
    dim: PositiveInt
    n_heads: PositiveInt
    attention_dim: PositiveInt
    mlp_dim: PositiveInt
    n_prefix: int = 1
    has_class_token: bool = True
    pool: Literal["token", "mean"] = "token"
    norms_query_key: bool = False
    norms_embedding: bool = False
    norms_final_tokens: bool = True
    norms_pooled: bool = False
    n_classifiers: int = 1
    n_classes: int = 1000
    classifies_patches: bool = False
    stem: tuple[Convolution, ...] = ()
    words: Words | None = None
    heads: tuple[DenseHead, ...] = ()

    @property
    def grid(self) -> tuple[int, int]:
        """Patches down and across."""
        (height, width), (patch_height, patch_width) = self.image_size, self.patch_size
        return height // patch_height, width // patch_width

    @property
    def n_patch(self) -> int:
        """Patch tokens that enter the first block."""
        rows, columns = self.grid
        return rows * columns

    @property
    def convolutions(self) -> tuple[Convolution, ...]:
        """The convolutions that turn pixels into tokens."""
        over_patches = Convolution(
            in_channels=self.in_channels, out_channels=self.dim, kernel_size=self.patch_size, output_size=self.grid
        )
        return self.stem or (over_patches,)

    def require_class_token(self, method: str) -> None:
        """Refuse a method that ranks patches by the class token's attention where there is no class token.

        Raises:
            UnsupportedModel: naming the methods that do without.
        """
        if not self.has_class_token:
            raise UnsupportedModel(
                f"{self.name} has no class token, by whose attention {method} ranks patches: use attention_rank, tome, "
                f"random_drop, or zero_tprune with cls_init=uniform"
            )
