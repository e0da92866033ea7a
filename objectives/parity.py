"""Whether an exported program says what the model says, on images that are no noise and in batches of several sizes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from objectives.runtimes import Run
from spaces import InvalidInput, PrunefrontError

__all__ = ["BATCH_SIZES", "LEAST_IMAGES", "USUAL_IMAGES", "Parity", "ParityFailed", "check_parity"]

LEAST_IMAGES, USUAL_IMAGES = 32, 100
BATCH_SIZES = (1, 3)
_TOLERANCE = 1e-3
_LEAST_SHARE_PCT = 99.0


class ParityFailed(PrunefrontError):
    """An exported program does not do what the model does."""


@dataclass(frozen=True)
class Parity:
    """How far two ways of running a model agree.

    Attributes:
        n_images: compared, in batches of each size.
        batch_sizes: the sizes.
        max_difference: greatest difference of a logit.
        median_difference: median, over images, of each one's greatest.
        tolerance: what an image's greatest difference may be: 0.001 of the greatest logit. Rounding stays far below
            it; a tie between two tokens that falls otherwise may not.
        within_pct: share of images within it.
        agreement_pct: share of images with the same class.
    """

    n_images: int
    batch_sizes: tuple[int, ...]
    max_difference: float
    median_difference: float
    tolerance: float
    within_pct: float
    agreement_pct: float

    @property
    def holds(self) -> bool:
        """Whether 99 % of the images have the same class, and 99 % the same logits up to the tolerance."""
        return min(self.within_pct, self.agreement_pct) >= _LEAST_SHARE_PCT


def check_parity(reference: Run, other: Run, images: Tensor, batch_sizes: Sequence[int] = BATCH_SIZES) -> Parity:
    """Compare two ways of running a model, image by image.

    Args:
        reference: the model.
        other: what was made of it.
        images: (n, channel, height, width), normalised; at least 32.
        batch_sizes: to run both in.

    Raises:
        InvalidInput: fewer images, of which an agreement would say little.
        ParityFailed: they disagree; see ``Parity.holds``.
    """
    if images.shape[0] < LEAST_IMAGES:
        raise InvalidInput(f"an exported program is compared on at least {LEAST_IMAGES} images, got {images.shape[0]}")
    differences, same, greatest = [], [], 0.0
    for size in batch_sizes:
        expected, said = (
            torch.cat([run(batch).float() for batch in torch.split(images, size)]) for run in (reference, other)
        )
        greatest = max(greatest, float(expected.abs().max()))
        differences.append((expected - said).abs().amax(dim=1))
        same.append(expected.argmax(dim=1) == said.argmax(dim=1))
    worst = torch.stack(differences).amax(dim=0)
    tolerance = _TOLERANCE * greatest
    parity = Parity(
        n_images=images.shape[0],
        batch_sizes=tuple(batch_sizes),
        max_difference=float(worst.max()),
        median_difference=float(worst.median()),
        tolerance=tolerance,
        within_pct=100 * float((worst <= tolerance).double().mean()),  # NaN is within nothing
        agreement_pct=100 * float(torch.stack(same).all(dim=0).double().mean()),
    )
    if not parity.holds:
        raise ParityFailed(
            f"the exported program gives another class for {100 - parity.agreement_pct:.1f} % of {parity.n_images} "
            f"images and logits beyond {tolerance:.2g} for {100 - parity.within_pct:.1f} % (by up to "
            f"{parity.max_difference:.2g}), and at most 1 % may differ"
        )
    return parity
