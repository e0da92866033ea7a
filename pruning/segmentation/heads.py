"""Heads that name the class of every token they are given, whichever tokens those are.

A head with spatial convolutions could not run on the tokens that are left; these work token by token (FCN) or through
attention (ATM).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from pruning.segmentation.packing import PackedTokens

__all__ = ["ATMHead", "FCNHead", "HeadOutput", "SegmentationHead"]


@dataclass(frozen=True)
class HeadOutput:
    """What a head says of a batch.

    Attributes:
        masks: (n_token of all images, class), before any softmax or sigmoid.
        classes: (batch, class), how probable it is that an image shows the class at all; ``None`` for a head that
            does not say.
    """

    masks: Tensor
    classes: Tensor | None = None


class SegmentationHead(nn.Module):
    """What both heads offer."""

    def forward(self, tokens: PackedTokens) -> HeadOutput:
        """Look at the tokens of a batch."""
        raise NotImplementedError

    def scores(self, masks: Tensor, classes: Tensor | None) -> Tensor:
        """Give what is upsampled and compared between classes.

        Args:
            masks: (..., class), of this head's kind.
            classes: how probable each class is in the token's image, from the same or another head of this kind;
                of a shape that broadcasts to the masks'.

        Returns:
            Of the shape of ``masks``.
        """
        raise NotImplementedError

    def probabilities(self, masks: Tensor, classes: Tensor | None) -> Tensor:
        """Give how sure the head is of each class, from 0 to 1: what tokens are graded by. Shapes as of ``scores``."""
        raise NotImplementedError


class FCNHead(SegmentationHead):
    """SETR's naive head: norm, 1x1 convolution, batch norm, ReLU, 1x1 convolution.

    The published head upsamples four times before its last convolution. A 1x1 convolution and bilinear upsampling can
    change places without changing the result; before it, the convolution takes a sixteenth of the work and can run on
    any set of tokens. The convolutions are linear layers here.

    Source: Zheng et al. 2021, SETR, arXiv:2012.15840.
    """

    def __init__(self, dim: int, channels: int, num_classes: int) -> None:
        """Build the head.

        Args:
            dim: width of a token.
            channels: width between the convolutions.
            num_classes: classes to tell apart.
        """
        super().__init__()
        self.norm = nn.LayerNorm(dim, eps=1e-6)
        self.reduce = nn.Linear(dim, channels, bias=False)
        self.batch_norm = nn.BatchNorm1d(channels)
        self.classify = nn.Linear(channels, num_classes)

    def forward(self, tokens: PackedTokens) -> HeadOutput:
        """Give each token's class logits."""
        hidden = self.batch_norm(self.reduce(self.norm(tokens.values)))
        return HeadOutput(self.classify(hidden.relu()))

    def scores(self, masks: Tensor, classes: Tensor | None) -> Tensor:
        """Give the logits themselves, as SETR upsamples them."""
        return masks

    def probabilities(self, masks: Tensor, classes: Tensor | None) -> Tensor:
        """Give the softmax over classes."""
        return masks.softmax(dim=-1)


class ATMHead(SegmentationHead):
    """SegViT's attention-to-mask head, as DToP separates it: its own class tokens look at the image's tokens.

    Masks are the attention scores of the last decoder layer, before the softmax, averaged over heads.

    Source: Zhang et al. 2022, SegViT, arXiv:2210.05844; Tang et al. 2023, DToP, arXiv:2308.01045, section 3.3.
    """

    def __init__(self, dim: int, channels: int, num_classes: int, *, n_layers: int = 3, n_heads: int = 8) -> None:
        """Build the head.

        Args:
            dim: width of a token.
            channels: width in the decoder.
            num_classes: classes to tell apart; as many class tokens.
            n_layers: decoder layers.
            n_heads: attention heads of each.
        """
        super().__init__()
        self.project = nn.Linear(dim, channels)
        self.norm = nn.LayerNorm(channels)
        self.queries = nn.Parameter(torch.randn(num_classes, channels))
        self.layers = nn.ModuleList(_DecoderLayer(channels, n_heads) for _ in range(n_layers))
        self.shows_class = nn.Linear(channels, 2)

    def forward(self, tokens: PackedTokens) -> HeadOutput:
        """Give each token's mask logits and each image's class probabilities."""
        memory = tokens.with_values(self.norm(self.project(tokens.values)))
        queries = self.queries.expand(len(tokens.lengths), -1, -1)
        masks = memory.values.new_empty(0)
        for layer in self.layers:
            queries, masks = layer(queries, memory)
        return HeadOutput(masks, self.shows_class(queries).softmax(dim=-1)[..., 0])

    def scores(self, masks: Tensor, classes: Tensor | None) -> Tensor:
        """Weigh the masks with the class probabilities."""
        if classes is None:
            raise ValueError("an ATM head's masks are worth nothing without class probabilities")
        return classes * masks.sigmoid()

    def probabilities(self, masks: Tensor, classes: Tensor | None) -> Tensor:
        """Give the scores, which are probabilities already."""
        return self.scores(masks, classes)


class _DecoderLayer(nn.Module):
    """Class tokens look at each other, then at the image; norms behind each step."""

    def __init__(self, channels: int, n_heads: int) -> None:
        super().__init__()
        self.self_attention = _Attention(channels, n_heads)
        self.norm1 = nn.LayerNorm(channels)
        self.cross_attention = _Attention(channels, n_heads)
        self.norm2 = nn.LayerNorm(channels)
        self.fc1 = nn.Linear(channels, 4 * channels)
        self.fc2 = nn.Linear(4 * channels, channels)
        self.norm3 = nn.LayerNorm(channels)

    def forward(self, queries: Tensor, memory: PackedTokens) -> tuple[Tensor, Tensor]:
        """Return the class tokens, (batch, class, channel), and their scores, (n_token of all images, class)."""
        mixed, _ = self.self_attention(queries, PackedTokens.of(queries))
        queries = self.norm1(queries + mixed)
        mixed, scores = self.cross_attention(queries, memory)
        queries = self.norm2(queries + mixed)
        return self.norm3(queries + self.fc2(self.fc1(queries).relu())), scores


class _Attention(nn.Module):
    """Attention of (batch, query, channel) to packed tokens, with its scores in the open."""

    def __init__(self, channels: int, n_heads: int) -> None:
        super().__init__()
        self.n_heads = n_heads
        self.scale = (channels // n_heads) ** -0.5
        self.query = nn.Linear(channels, channels)
        self.key = nn.Linear(channels, channels)
        self.value = nn.Linear(channels, channels)
        self.project = nn.Linear(channels, channels)

    def forward(self, queries: Tensor, memory: PackedTokens) -> tuple[Tensor, Tensor]:
        """Return what is seen, of the shape of ``queries``, and the scores, (n_token of all images, query)."""
        query = self._by_head(self.query(queries))
        key = memory.with_values(self.key(memory.values))
        value = memory.with_values(self.value(memory.values))
        if memory.is_rectangular:
            mixed, scores = self._seen(query, self._by_head(key.rectangle()), self._by_head(value.rectangle()))
            return self.project(mixed), scores.flatten(0, 1)
        seen = [
            self._seen(own, self._by_head(its_key[None]), self._by_head(its_value[None]))
            for own, its_key, its_value in zip(torch.split(query, 1), key.split(), value.split(), strict=True)
        ]
        mixed = torch.cat([mixed for mixed, _ in seen])
        return self.project(mixed), torch.cat([scores[0] for _, scores in seen])

    def _seen(self, query: Tensor, key: Tensor, value: Tensor) -> tuple[Tensor, Tensor]:
        """Attend from (batch, head, query, ...) to (batch, head, n_token, ...).

        Returns:
            (batch, query, channel), and the scores (batch, n_token, query).
        """
        logits = query @ key.transpose(-2, -1) * self.scale
        mixed = (logits.softmax(dim=-1) @ value).transpose(1, 2).flatten(2)
        return mixed, logits.mean(dim=1).transpose(1, 2)

    def _by_head(self, x: Tensor) -> Tensor:
        batch, n, channels = x.shape
        return x.view(batch, n, self.n_heads, channels // self.n_heads).transpose(1, 2)
