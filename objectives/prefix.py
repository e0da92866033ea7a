"""The dense model's tokens after each block, kept, so that no layout computes again what all layouts share.

A layout is the dense model up to the block of its first pruning layer. Whoever holds the tokens that enter that block
starts there, in whatever order the images come. What is kept of an image is what the batch gave in which it lies in the
list, so that its last bits depend on no candidate that came before.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pruning.backbones.family import Tokens
from spaces import Architecture

__all__ = ["DensePrefix", "most_useful", "prefix_bytes"]

_PLAN_EVERY = 16  # layouts


def prefix_bytes(architecture: Architecture, n_images: int) -> int:
    """Give the bytes that the tokens of all images take after one block, in float32."""
    n_values = (architecture.n_prefix + architecture.n_patch) * architecture.dim
    if architecture.words is not None:
        n_values += architecture.n_patch * architecture.words.n_word * architecture.words.dim
    return 4 * n_images * n_values


class DensePrefix:
    """Tokens of the dense model, by block and by image, in no more than ``limit_bytes``.

    Depths are kept as layouts ask for them. Where the memory holds fewer than are asked for, those are kept that
    spare the layouts seen so far the most blocks.
    """

    def __init__(self, n_images: int, batch_size: int, depth_bytes: int, limit_bytes: int) -> None:
        """Make an empty one.

        Args:
            n_images: of the list.
            batch_size: into batches of how many it is divided.
            depth_bytes: that all tokens take after one block.
            limit_bytes: see above.
        """
        self._n_images, self._batch_size = n_images, batch_size
        self._n_room = limit_bytes // max(1, depth_bytes)
        self._asked: Counter[int] = Counter()
        self._kept: dict[int, _AfterBlock] = {}

    @property
    def depths(self) -> tuple[int, ...]:
        """The numbers of executed blocks after which tokens are kept."""
        return tuple(sorted(self._kept))

    def plan_for(self, n_dense: int) -> None:
        """Say that the next layout shares ``n_dense`` blocks with the dense model."""
        if n_dense == 0:
            return
        self._asked[n_dense] += 1
        if n_dense not in self._kept and len(self._kept) < self._n_room:
            self._kept[n_dense] = _AfterBlock(self._n_images)
        elif self._asked.total() % _PLAN_EVERY == 0:
            wanted = most_useful(self._asked, self._n_room)
            self._kept = {depth: self._kept.get(depth, _AfterBlock(self._n_images)) for depth in wanted}

    def forget(self) -> None:
        """Let go of all tokens; they are kept anew as they are asked for."""
        self._kept = {depth: _AfterBlock(self._n_images) for depth in self._kept}

    def tokens(
        self,
        places: NDArray[np.intp],
        n_dense: int,
        embed: Callable[[NDArray[np.intp]], Tokens],
        run: Callable[[Tokens, int, int], Tokens],
    ) -> Tokens:
        """Give a batch's tokens after ``n_dense`` blocks of the dense model.

        Args:
            places: (batch,), of its images in the list.
            n_dense: blocks to have been executed.
            embed: gives the tokens of images, by their places, that enter the first block.
            run: runs tokens through the blocks from the second argument up to, not with, the third.

        Returns:
            (batch, n_token, dim), and for a TNT their words too. Not to be written into.
        """
        done = max((depth for depth in self._kept if depth <= n_dense), default=0)
        if not done:
            return run(embed(places), 0, n_dense)
        kept = self._kept[done]
        for batch in np.unique(kept.missing(places) // self._batch_size):
            first = batch * self._batch_size
            whole = np.arange(first, min(first + self._batch_size, self._n_images))
            before = max((depth for depth in self._kept if depth < done), default=0)
            kept.keep(whole, run(self.tokens(whole, before, embed, run), before, done))
        return run(kept.of(places), done, n_dense)


class _AfterBlock:
    """The tokens after one block, of those images that came by."""

    def __init__(self, n_images: int) -> None:
        self._is_here = np.zeros(n_images, dtype=bool)
        self._tensors: tuple[Tensor, ...] = ()  # each (n_images, rows of an image, ...)
        self._is_one = True

    def missing(self, places: NDArray[np.intp]) -> NDArray[np.intp]:
        return places[~self._is_here[places]]

    def of(self, places: NDArray[np.intp]) -> Tokens:
        index = torch.from_numpy(places)
        found = tuple(tensor[index.to(tensor.device)].flatten(0, 1) for tensor in self._tensors)
        return found[0] if self._is_one else found

    def keep(self, places: NDArray[np.intp], tokens: Tokens) -> None:
        self._is_one = isinstance(tokens, Tensor)
        tensors = (tokens,) if isinstance(tokens, Tensor) else tokens
        by_image = [each.reshape(len(places), -1, *each.shape[1:]) for each in tensors]
        if not self._tensors:
            self._tensors = tuple(each.new_empty((len(self._is_here), *each.shape[1:])) for each in by_image)
        for tensor, each in zip(self._tensors, by_image, strict=True):
            tensor[torch.from_numpy(places).to(tensor.device)] = each
        self._is_here[places] = True


def most_useful(asked: Mapping[int, int], n: int) -> tuple[int, ...]:
    """Choose ``n`` depths at which to keep tokens, one after the other, each the one that then spares most blocks.

    Args:
        asked: how many layouts share so many blocks with the dense model.
        n: how many depths there is memory for.

    >>> most_useful({2: 10, 3: 1, 7: 4}, 2)
    (2, 7)
    """
    chosen: list[int] = []

    def spared(depths: list[int]) -> int:
        return sum(
            count * max((depth for depth in depths if depth <= need), default=0) for need, count in asked.items()
        )

    for _ in range(min(n, len(asked))):
        left = sorted(depth for depth in asked if depth not in chosen)
        chosen.append(max(left, key=lambda depth: spared([*chosen, depth])))
    return tuple(sorted(chosen))
