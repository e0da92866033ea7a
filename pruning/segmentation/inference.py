"""Images of any size in overlapping windows of the model's size, as mmsegmentation cuts them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from torch import Tensor
from torch.nn import functional

from spaces import InvalidInput

__all__ = ["Windows", "combined", "resized_scores"]


@dataclass(frozen=True)
class Windows:
    """How an image is cut into pieces of the model's size.

    Attributes:
        size: height and width of a window, px: the model's input.
        stride: px down and across from one window to the next; the last in a row is moved back to the edge.
    """

    size: tuple[int, int]
    stride: tuple[int, int]

    def __post_init__(self) -> None:
        """Refuse windows that would leave gaps."""
        if not all(1 <= step <= side for step, side in zip(self.stride, self.size, strict=True)):
            raise InvalidInput(f"windows of {self.size} px must step by 1 px to their size, got a stride {self.stride}")

    def places(self, height: int, width: int) -> list[tuple[int, int]]:
        """Give top and left of each window of an image, row by row.

        >>> Windows((4, 4), (3, 3)).places(4, 9)
        [(0, 0), (0, 3), (0, 5)]

        Raises:
            InvalidInput: the image is smaller than a window.
        """
        if height < self.size[0] or width < self.size[1]:
            raise InvalidInput(f"an image must be at least a window of {self.size} px, got {(height, width)}")
        rows = _starts(height, self.size[0], self.stride[0])
        columns = _starts(width, self.size[1], self.stride[1])
        return [(top, left) for top in rows for left in columns]

    def cut(self, image: Tensor) -> Iterator[Tensor]:
        """Cut (..., height, width) into its windows."""
        for top, left in self.places(image.shape[-2], image.shape[-1]):
            yield image[..., top : top + self.size[0], left : left + self.size[1]]


def combined(windows: Windows, scores: Sequence[Tensor], size: tuple[int, int]) -> Tensor:
    """Put the scores of an image's windows together, averaged where windows overlap.

    Args:
        windows: how the image was cut.
        scores: of each window, (class, height, width) of a window.
        size: height and width of the image, px.

    Returns:
        (class, height, width).
    """
    total = scores[0].new_zeros(scores[0].shape[0], *size)
    n_seen = scores[0].new_zeros(size)
    for (top, left), said in zip(windows.places(*size), scores, strict=True):
        place = (..., slice(top, top + windows.size[0]), slice(left, left + windows.size[1]))
        total[place] += said
        n_seen[place] += 1
    return total / n_seen


def resized_scores(scores: Tensor, size: tuple[int, int]) -> Tensor:
    """Bring (class, height, width) scores to the size of an image's mask, whatever the image was resized to."""
    return functional.interpolate(scores[None], size=size, mode="bilinear", align_corners=False)[0]


def _starts(length: int, window: int, stride: int) -> list[int]:
    n_windows = -(-(length - window) // stride) + 1
    return [min(number * stride, length - window) for number in range(n_windows)]
