"""A plain vision transformer with segmentation heads at the ends of its stages."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn
from torch.nn import functional

from pruning.segmentation.checkpoints import checkpoint_filter_fn
from pruning.segmentation.heads import ATMHead, FCNHead, SegmentationHead
from pruning.segmentation.packing import PackedTokens, run_block
from spaces import HeadKind, InvalidInput

__all__ = ["FCN_UPSAMPLING", "EarlyExiting", "Segmenter", "checkpoint_filter_fn"]

FCN_UPSAMPLING = 4


class EarlyExiting(Protocol):
    """What may run a segmenter in the place of its blocks and last head."""

    def __call__(self, model: Segmenter, tokens: Tensor) -> Tensor:
        """Take the (batch, n_token, dim) that enter the first block to (batch, n_patch, class) scores."""


class Segmenter(nn.Module):
    """A model that names the class of every pixel.

    Dense, only its last head speaks. The others, at the ends of earlier stages, served training, and are what DToP
    grades tokens by.

    Attributes:
        encoder: timm's ``VisionTransformer`` without pooling and classifier.
        heads: by the number of blocks executed before each.
        num_classes: of every head.
        num_features: width of a token, as timm's models say it.
        early_exit: runs in the place of blocks and last head; ``pruned`` sets it.
    """

    def __init__(
        self,
        *,
        head: HeadKind,
        after: Sequence[int],
        head_channels: int,
        num_classes: int,
        head_layers: int = 3,
        head_heads: int = 8,
        class_token: bool = False,
        final_norm: bool = False,
        **encoder: Any,
    ) -> None:
        """Build the model.

        Args:
            head: kind of all heads.
            after: blocks executed before each head, increasing; the last is the model's depth.
            head_channels: width inside a head.
            num_classes: classes to tell apart.
            head_layers: decoder layers of an ATM head.
            head_heads: attention heads of an ATM head.
            class_token: whether a class token goes along; no head looks at it.
            final_norm: whether the tokens are normalised before the last head.
            encoder: what else ``VisionTransformer`` takes.

        Raises:
            InvalidInput: heads at other depths than 1 to the model's.
        """
        super().__init__()
        self.num_classes = num_classes
        self.early_exit: EarlyExiting | None = None
        self.head_kind: HeadKind = head
        self.encoder: Any = VisionTransformer(
            num_classes=0, global_pool="", class_token=class_token, final_norm=final_norm, **encoder
        )
        depth, dim = len(self.encoder.blocks), self.encoder.embed_dim
        self.num_features = dim
        places = list(after)
        if not places or places != sorted(set(places)) or places[0] < 1 or places[-1] != depth:
            raise InvalidInput(
                f"heads must be at increasing depths from 1 to the model's last block, {depth}, got {places}"
            )
        self.heads = nn.ModuleDict()
        for place in places:
            self.heads[str(place)] = (
                FCNHead(dim, head_channels, num_classes)
                if head == "fcn"
                else ATMHead(dim, head_channels, num_classes, n_layers=head_layers, n_heads=head_heads)
            )

    @property
    def after(self) -> tuple[int, ...]:
        """Blocks executed before each head."""
        return tuple(int(place) for place in self.heads)

    @property
    def grid(self) -> tuple[int, int]:
        """Patches down and across."""
        rows, columns = self.encoder.patch_embed.grid_size
        return rows, columns

    def head(self, after: int) -> SegmentationHead:
        """Give the head behind a block.

        Raises:
            InvalidInput: there is none.
        """
        if str(after) not in self.heads:
            raise InvalidInput(
                f"there is no head after block {after}: the model has heads after {', '.join(self.heads)}"
            )
        head = self.heads[str(after)]
        assert isinstance(head, SegmentationHead)
        return head

    def embed(self, images: Tensor) -> Tensor:
        """Turn (batch, channel, height, width) into the (batch, n_token, dim) that enter the first block."""
        encoder = self.encoder
        tokens: Tensor = encoder.norm_pre(encoder.patch_drop(encoder._pos_embed(encoder.patch_embed(images))))
        return tokens

    def run_blocks(self, tokens: PackedTokens, first: int, last: int) -> PackedTokens:
        """Run tokens through the blocks from ``first`` up to, not with, ``last``, counted from 0."""
        for block in list(self.encoder.blocks)[first:last]:
            tokens = run_block(block, tokens)
        return tokens

    def forward(self, images: Tensor) -> Tensor:
        """Give (batch, class, height, width) scores at the size of the model's input."""
        return self.upsampled(self.forward_scores(images))

    def forward_scores(self, images: Tensor) -> Tensor:
        """Give (batch, n_patch, class) before upsampling: what the last head says, or with ``early_exit`` all."""
        tokens = self.embed(images)
        if self.early_exit is not None:
            return self.early_exit(self, tokens)
        return self.read(self.after[-1], self.run_blocks(PackedTokens.of(tokens), 0, len(self.encoder.blocks)))

    def read(self, after: int, tokens: PackedTokens) -> Tensor:
        """Give (batch, n_patch, class) scores of the head behind a block, of images with all their tokens."""
        patches = PackedTokens.of(self.normed(after, tokens).rectangle()[:, self.encoder.num_prefix_tokens :])
        head = self.head(after)
        said = head(patches)
        classes = None if said.classes is None else said.classes[:, None]
        return head.scores(said.masks.unflatten(0, (len(patches.lengths), -1)), classes)

    def normed(self, after: int, tokens: PackedTokens) -> PackedTokens:
        """Apply the final norm, if there is one, behind the last block."""
        return tokens.with_values(self.encoder.norm(tokens.values)) if after == self.after[-1] else tokens

    def upsampled(self, scores: Tensor) -> Tensor:
        """Bring (batch, n_patch, class) scores to (batch, class, height, width) of the input.

        The naive heads of SETR do it in two steps, the first to four times the grid.
        """
        batch, _, n_classes = scores.shape
        grid = scores.transpose(1, 2).reshape(batch, n_classes, *self.grid)
        if self.head_kind == "fcn":
            grid = _interpolated(grid, (FCN_UPSAMPLING * self.grid[0], FCN_UPSAMPLING * self.grid[1]))
        return _interpolated(grid, self.encoder.patch_embed.img_size)


def _interpolated(grid: Tensor, size: tuple[int, int]) -> Tensor:
    return functional.interpolate(grid, size=size, mode="bilinear", align_corners=False)
