"""What a layout cost on the images that it was measured on: the closed form, held against the tokens that there were.

Where the images decide how many tokens stay, each has a cost of its own, from its own counts; what fills the rows of a
batch up to the longest is no part of it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from objectives.metrics import pack_counts
from objectives.statistics import Estimate, mean_of
from objectives.visits import Part
from pruning.apply import Pruning
from spaces import Architecture, PrunefrontError, PruningConfig

__all__ = ["Costs", "CostsDisagree", "MeanCost", "Ran", "costs_of", "mean_cost", "require_counted", "what_ran"]


class CostsDisagree(PrunefrontError):
    """The closed form and the counted operations differ: one of them is wrong, so the result is worth nothing."""


@dataclass(frozen=True)
class Ran:
    """The tokens of one batch, as they were counted on their way.

    Attributes:
        tokens_per_block: that entered each block, filling included.
        n_kept: (batch, n_layers), the patches of each image that each layer kept whose count the image decides.
    """

    tokens_per_block: tuple[int, ...]
    n_kept: NDArray[np.int64]


@dataclass(frozen=True)
class MeanCost:
    """What an image costs on average: see the fields of ``Measurement``; ``gflops`` where it was measured."""

    macs: int
    tokens_per_block: tuple[float, ...]
    gflops: Estimate | None = None
    n_kept: bytes | None = None


class Costs(Protocol):
    """Collects batch by batch what a layout cost."""

    def take(self, ran: Ran | None) -> None:
        """Take in one batch. Raises CostsDisagree if it had other tokens than the closed form."""

    def in_all(self, order: NDArray[np.intp] | None = None, part: Part | None = None) -> MeanCost:
        """Say what an image cost on average.

        Args:
            order: of the images taken in, how they stand in their list; as they came, if ``None``.
            part: which of the list they are; all, if ``None``.
        """


def costs_of(config: PruningConfig, architecture: Architecture) -> Costs:
    """Begin to collect what a layout costs."""
    differs = config.cost_is_measured and config.stages(architecture)
    return (_OfEachImage if differs else _OfAnyImage)(config, architecture)


def what_ran(pruning: Pruning) -> Ran:
    """Read the tokens of the last batch."""
    counts = [pruning.n_kept[block].cpu().numpy() for block in sorted(pruning.n_kept)]
    return Ran(pruning.tokens_per_block, np.stack(counts, axis=1) if counts else np.empty((0, 0), dtype=np.int64))


def require_counted(macs: int, expected: int, config: PruningConfig | None) -> None:
    """Refuse a result whose operations, counted as they ran, are not those of the closed form.

    Raises:
        CostsDisagree: with both.
    """
    if macs != expected:
        raise CostsDisagree(f"the closed form gives {expected} multiply-adds, but {macs} were counted for {config!r}")


def mean_cost(
    config: PruningConfig,
    architecture: Architecture,
    n_kept: NDArray[np.int64],
    by_image: Callable[[NDArray[np.float64]], NDArray[np.float64]] = lambda rows: rows,
    mean: Callable[[NDArray[np.float64]], Estimate] = mean_of,
) -> MeanCost:
    """Average what images cost, each by the tokens that it kept.

    Args:
        config: the layout.
        architecture: of the model.
        n_kept: (n_row, n_layers), the patches that each layer kept.
        by_image: averages rows, the first axis, over those of each image, where an image ran in several pieces.
        mean: estimates a mean over all images from (n_image,) values.
    """
    different, which = np.unique(n_kept, axis=0, return_inverse=True)
    costs = [config.cost_of_image(architecture, row.tolist()) for row in different]
    gflops = mean(by_image(np.array([cost.macs for cost in costs], dtype=np.float64)[which]) / 1e9)
    tokens = by_image(np.array([cost.tokens_per_block for cost in costs], dtype=np.float64)[which])
    return MeanCost(
        macs=round(1e9 * gflops.value),
        tokens_per_block=tuple(round(mean(column).value, 2) for column in tokens.T),
        gflops=gflops,
        n_kept=pack_counts(by_image(n_kept.astype(np.float64)).round().astype(np.int64)),
    )


class _OfAnyImage:
    """A layout that costs every image the same."""

    def __init__(self, config: PruningConfig, architecture: Architecture) -> None:
        self._config, self._cost = config, config.cost(architecture)

    def take(self, ran: Ran | None) -> None:
        tokens, expected = ran and ran.tokens_per_block, self._cost.tokens_per_block
        if tokens != expected:
            raise CostsDisagree(
                f"the closed form has {expected} tokens enter the blocks, but {tokens} did for {self._config!r}"
            )

    def in_all(self, order: NDArray[np.intp] | None = None, part: Part | None = None) -> MeanCost:
        return MeanCost(self._cost.macs, self._cost.tokens_per_block)


class _OfEachImage:
    """A layout that costs each image as many multiply-adds as it kept tokens for."""

    def __init__(self, config: PruningConfig, architecture: Architecture) -> None:
        self._config, self._architecture = config, architecture
        self._most = np.array([stage.n_out for stage in config.stages(architecture)], dtype=np.int64)
        self._n_kept: list[NDArray[np.int64]] = []

    def take(self, ran: Ran | None) -> None:
        counts = np.empty((0, 0), dtype=np.int64) if ran is None else ran.n_kept
        if counts.shape[1:] != self._most.shape or (counts < 1).any() or (counts > self._most).any():
            raise CostsDisagree(
                f"each layer can keep 1 to {self._most.tolist()} patches, but there were {counts.min(0).tolist()} to "
                f"{counts.max(0).tolist()} for {self._config!r}"
            )
        self._n_kept.append(counts)

    def in_all(self, order: NDArray[np.intp] | None = None, part: Part | None = None) -> MeanCost:
        n_kept = np.concatenate(self._n_kept)
        rows = n_kept if order is None else n_kept[order]
        return mean_cost(self._config, self._architecture, rows, mean=mean_of if part is None else part.mean)
