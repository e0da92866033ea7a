"""The dense model's tokens after each block, kept, so that no layout computes again what all layouts share.

A layout is the dense model up to the block of its first pruning layer. Whoever holds the tokens that enter that block
starts there, with the same numbers to the last bit: what is kept is what the same batch gave.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping

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
    """Tokens of the dense model, by block and by batch, in no more than ``limit_bytes``.

    Depths are kept as layouts ask for them. Where the memory holds fewer than are asked for, those are kept that
    spare the layouts seen so far the most blocks.
    """

    def __init__(self, depth_bytes: int, limit_bytes: int) -> None:
        """Make an empty one, for tokens that take ``depth_bytes`` after one block."""
        self._n_room = limit_bytes // max(1, depth_bytes)
        self._asked: Counter[int] = Counter()
        self._kept: dict[int, dict[int, Tokens]] = {}

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
            self._kept[n_dense] = {}
        elif self._asked.total() % _PLAN_EVERY == 0:
            wanted = most_useful(self._asked, self._n_room)
            self._kept = {depth: self._kept.get(depth, {}) for depth in wanted}

    def forget(self) -> None:
        """Let go of all tokens; they are kept anew as they are asked for."""
        self._kept = {depth: {} for depth in self._kept}

    def tokens(
        self, batch: int, n_dense: int, embed: Callable[[], Tokens], run: Callable[[Tokens, int, int], Tokens]
    ) -> Tokens:
        """Give a batch's tokens after ``n_dense`` blocks of the dense model.

        Args:
            batch: names the batch; the same name must always mean the same images.
            n_dense: blocks to have been executed.
            embed: gives the tokens that enter the first block.
            run: runs tokens through the blocks from the second argument up to, not with, the third.

        Returns:
            (batch, n_token, dim), and for a TNT their words too. Not to be written into.
        """
        held = [depth for depth in self._kept if depth <= n_dense and batch in self._kept[depth]]
        done = max(held, default=0)
        tokens = self._kept[done][batch] if done else embed()
        for depth in [depth for depth in self.depths if done < depth <= n_dense]:
            tokens, done = run(tokens, done, depth), depth
            self._kept[depth][batch] = tokens
        return run(tokens, done, n_dense)


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
