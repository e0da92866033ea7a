"""A head that names the class of every patch token, as plain data: where it is, and what it costs on some tokens."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, PositiveInt

__all__ = ["DenseHead", "HeadKind"]

HeadKind = Literal["fcn", "atm"]


class DenseHead(BaseModel):
    """One segmentation head.

    Attributes:
        after: blocks executed before it.
        kind: token-wise convolutions (``fcn``), or class tokens that look at the image (``atm``).
        channels: width inside it.
        n_layers: decoder layers of an ``atm`` head; 0 for ``fcn``.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    after: PositiveInt
    kind: HeadKind
    channels: PositiveInt
    n_layers: int = 0

    def macs(self, n_token: int, *, dim: int, n_classes: int) -> int:
        """Count the multiply-adds of the head on ``n_token`` tokens, before any upsampling.

        >>> DenseHead(after=12, kind="atm", channels=384, n_layers=3).macs(1024, dim=768, n_classes=150)
        2547340032

        Source: for ``atm`` the count of fvcore on DToP's own head, to the integer.
        """
        width = self.channels
        if self.kind == "fcn":
            norms = 5 * n_token * dim + 2 * n_token * width  # LayerNorm, batch norm
            return n_token * width * (dim + n_classes) + norms
        projections = 14 * n_classes * width**2 + 2 * n_token * width**2
        products = 2 * n_classes**2 * width + 2 * n_classes * n_token * width
        norms = 15 * n_classes * width
        decoder = self.n_layers * (projections + products + norms)
        return n_token * dim * width + 5 * n_token * width + decoder + 2 * n_classes * width
