"""What becomes of a batch's patch tokens at a pruning layer: some stay, or all go into fewer."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from pruning.tokens import all_tokens, gather_tokens

__all__ = ["Keep", "KeepSome", "Merge", "Reduction"]


class Reduction(Protocol):
    """A decision about patch tokens, as a value: apply it to whatever is laid out like them."""

    @property
    def n_out(self) -> int:
        """Patch tokens that leave."""

    def reduce(self, x: Tensor, n_prefix: int) -> Tensor:
        """Turn (batch, n_prefix + n_in, dim) into (batch, n_prefix + n_out, dim); the prefix stays as it is."""

    def sum_up(self, counts: Tensor) -> Tensor:
        """Turn what was counted of each patch token, (batch, n_in), into what is of each that leaves."""

    def owners(self) -> Tensor:
        """Say in which of the tokens that leave each patch token is now: (batch, n_in), -1 for none."""


@dataclass(frozen=True)
class Keep:
    """Some patch tokens stay as they are, the others go.

    Attributes:
        positions: (batch, n_out), of those that stay, ascending.
        n_in: patch tokens that enter.
    """

    positions: Tensor
    n_in: int

    @property
    def n_out(self) -> int:
        """Patch tokens that leave."""
        return self.positions.shape[1]

    def reduce(self, x: Tensor, n_prefix: int) -> Tensor:
        """Gather the prefix and the patches that stay: (batch, n_prefix + n_out, dim)."""
        return gather_tokens(x, all_tokens(self.positions, n_prefix))

    def sum_up(self, counts: Tensor) -> Tensor:
        """Give the counts of those that stay: (batch, n_out)."""
        return counts.gather(1, self.positions)

    def owners(self) -> Tensor:
        """Number those that stay: (batch, n_in), -1 for those that go.

        >>> Keep(torch.tensor([[0, 3]]), n_in=4).owners()
        tensor([[ 0, -1, -1,  1]])
        """
        batch, n_out = self.positions.shape
        order = torch.arange(n_out, device=self.positions.device).expand(batch, -1)
        return torch.full((batch, self.n_in), -1, device=order.device).scatter(1, self.positions, order)


@dataclass(frozen=True)
class KeepSome(Keep):
    """Of each image another number of patch tokens stay; shorter rows are filled up to the longest.

    What fills them are copies of some patch, which stand for no patch: nobody may attend to them.

    Attributes:
        counts: (batch,), int64, how many stay of each image: the first ones of its row of ``positions``.
    """

    counts: Tensor

    @classmethod
    def where(cls, stays: Tensor) -> KeepSome:
        """Keep what is marked in (batch, n_in) booleans, at least one patch of each image.

        >>> kept = KeepSome.where(torch.tensor([[True, False, True], [False, True, False]]))
        >>> kept.positions, kept.counts
        (tensor([[0, 2],
                [1, 0]]), tensor([2, 1]))
        """
        n_in, counts = stays.shape[1], stays.sum(dim=1)
        if len(stays) == 1:
            return cls(_marked(stays[0])[None], n_in, counts)
        order = torch.arange(n_in, device=stays.device).where(stays, n_in).sort(dim=1).values
        positions = order[:, : int(counts.max())]
        return cls(positions.where(positions < n_in, 0), n_in, counts)

    @property
    def is_real(self) -> Tensor:
        """Say of each place whether a patch is there that stays: (batch, n_out)."""
        return torch.arange(self.n_out, device=self.counts.device) < self.counts[:, None]

    @property
    def has_filling(self) -> bool:
        """Whether some row is filled up; that of a single image never is."""
        return len(self.counts) > 1 and not bool(self.is_real.all())

    def sum_up(self, counts: Tensor) -> Tensor:
        """Give the counts of those that stay, and 0 for what fills rows: (batch, n_out)."""
        return super().sum_up(counts) * self.is_real

    def owners(self) -> Tensor:
        """Number those that stay: (batch, n_in), -1 for those that go.

        >>> KeepSome(torch.tensor([[1, 2], [2, 0]]), n_in=3, counts=torch.tensor([2, 1])).owners()
        tensor([[-1,  0,  1],
                [-1, -1,  0]])
        """
        batch, n_out = self.positions.shape
        order = torch.arange(n_out, device=self.positions.device).expand(batch, -1)
        # What fills rows goes behind the last patch, and is cut off.
        places = self.positions.where(self.is_real, self.n_in)
        return torch.full((batch, self.n_in + 1), -1, device=order.device).scatter(1, places, order)[:, : self.n_in]


@dataclass(frozen=True)
class Merge:
    """Each patch token goes into one token that leaves, with a share of its own, or into none.

    Attributes:
        into: (batch, n_in), int64, the token that it goes into, from 0; ``n_out`` for none.
        shares: (batch, n_in), its weight in that token. A weighted mean has shares that sum to 1 for each token.
        n_out: patch tokens that leave.
    """

    into: Tensor
    shares: Tensor
    n_out: int

    @classmethod
    def by_weight(cls, into: Tensor, weights: Tensor, n_out: int) -> Merge:
        """Let each token that leaves be a weighted mean of what goes into it.

        >>> Merge.by_weight(torch.tensor([[1, 0, 1]]), torch.tensor([[1.0, 2.0, 3.0]]), n_out=2).shares
        tensor([[0.2500, 1.0000, 0.7500]])

        Args:
            into: (batch, n_in), int64, as the attribute.
            weights: (batch, n_in), above 0.
            n_out: patch tokens that leave.
        """
        totals = weights.new_zeros(weights.shape[0], n_out + 1).scatter_add(1, into, weights)
        return cls(into, weights / totals.gather(1, into), n_out)

    def reduce(self, x: Tensor, n_prefix: int) -> Tensor:
        """Add up the patches' shares: (batch, n_prefix + n_out, dim). A token of share 1 alone stays bit for bit."""
        batch, _, dim = x.shape
        n_token = n_prefix + self.n_out
        first = n_token * torch.arange(batch, device=x.device)[:, None]
        nowhere = batch * n_token  # one row behind all others, for those that go
        patches = torch.where(self.into == self.n_out, nowhere, self.into + n_prefix + first)
        rows = torch.cat([first + torch.arange(n_prefix, device=x.device), patches], dim=1)
        shares = torch.cat([self.shares.new_ones(batch, n_prefix), self.shares], dim=1)
        weighted = (x * shares[..., None].to(x.dtype)).reshape(-1, dim)
        # Whole rows are added: on a CPU 20 to 30 times faster than scatter_add, which goes element by element. ONNX
        # has it as ScatterND.
        added = weighted.new_zeros(nowhere + 1, dim).index_add(0, rows.flatten(), weighted)
        return added[:nowhere].view(batch, n_token, dim)

    def sum_up(self, counts: Tensor) -> Tensor:
        """Add up the counts of what goes into each token: (batch, n_out).

        >>> Merge(torch.tensor([[1, 0, 1, 2]]), torch.ones(1, 4), n_out=2).sum_up(torch.ones(1, 4))
        tensor([[1., 2.]])
        """
        added = counts.new_zeros(counts.shape[0], self.n_out + 1).scatter_add(1, self.into, counts)
        return added[:, : self.n_out]

    def owners(self) -> Tensor:
        """Say which token each goes into: (batch, n_in), -1 for none."""
        return torch.where(self.into == self.n_out, -1, self.into)


def _marked(stays: Tensor) -> Tensor:
    """Give the positions of what is marked in (n_in,) booleans, ascending, without reading how many there are.

    So that one image's way can be written as a graph of tensor operations, which ``torch.export`` must be told the
    bounds of.
    """
    positions = stays.nonzero()[:, 0]
    n_out = positions.shape[0]  # len() would read it
    if isinstance(n_out, torch.SymInt):
        torch._check(n_out >= 1)
        torch._check(n_out <= stays.shape[0])
    return positions
