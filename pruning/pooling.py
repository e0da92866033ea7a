"""What classifiers over all patches see where the images of a batch keep different numbers of them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import Tensor, nn

if TYPE_CHECKING:
    from pruning.apply import Pruning

__all__ = ["FillWithMean", "fill_with_mean"]


def fill_with_mean(tokens: Tensor, sizes: Tensor, n_prefix: int) -> Tensor:
    """Put the mean of an image's patches in the place of whatever fills its row.

    That changes neither the mean over the row nor the maximum of anything linear in a token.

    Args:
        tokens: (batch, n_prefix + n_patch, dim).
        sizes: (batch, n_patch), 0 for what fills a row.
        n_prefix: tokens before the patches.

    Returns:
        (batch, n_prefix + n_patch, dim).
    """
    is_real = (sizes > 0)[..., None]
    patches = tokens[:, n_prefix:]
    mean = patches.where(is_real, 0).sum(dim=1, keepdim=True) / is_real.sum(dim=1, keepdim=True)
    filled = tokens.clone()
    filled[:, n_prefix:] = patches.where(is_real, mean.to(tokens.dtype))
    return filled


class FillWithMean:
    """A hook on a model's final norm, behind which patches are pooled or classified."""

    def __init__(self, pruning: Pruning) -> None:
        self.pruning = pruning

    def __call__(self, module: nn.Module, inputs: tuple[Tensor, ...], tokens: Tensor) -> Tensor:
        """Fill rows where there is something to fill."""
        sizes = self.pruning.sizes
        if sizes is None:
            return tokens
        return fill_with_mean(tokens, sizes, self.pruning.architecture.n_prefix)
