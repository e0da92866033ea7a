"""Lists of images: what one is, how it is split into search and confirm images, and its hash."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Generic, TypeVar

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError
from torch import Tensor

from spaces.errors import InvalidInput, PrunefrontError

__all__ = [
    "BadImage",
    "Decoded",
    "ImageSource",
    "ListedImage",
    "PreparedImages",
    "decode_first",
    "decoding",
    "list_hash",
    "prepare",
    "stratified_order",
]

T = TypeVar("T")

_N_THREADS = 4


class BadImage(PrunefrontError):
    """An image file cannot be decoded."""


@dataclass(frozen=True)
class ListedImage:
    """One image of a data set.

    Attributes:
        number: its place in the whole data set; names the image for methods that draw at random.
        name: what people call it: its path below the data folder, or ``shapes/17``.
        label: the model's class index, or ``None``.
    """

    number: int
    name: str
    label: int | None


@dataclass(frozen=True)
class ImageSource:
    """A data set: its images, and how one is opened.

    Attributes:
        images: all of them.
        open: gives the PIL image of a listed image.
        layout: what was found, in words.
    """

    images: tuple[ListedImage, ...]
    open: Callable[[ListedImage], Image.Image]
    layout: str


@dataclass(frozen=True)
class PreparedImages:
    """Decoded images, as they wait for a model.

    Attributes:
        pixels: (n, channel, height, width), uint8, resized and cropped.
        labels: (n,), int64, -1 where there is none.
        numbers: (n,), int64, each image's place in its data set.
        list_hash: names the list.
        skipped: files that could not be decoded and were left out.
    """

    pixels: NDArray[np.uint8]
    labels: NDArray[np.int64]
    numbers: NDArray[np.int64]
    list_hash: str
    skipped: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def has_labels(self) -> bool:
        """Whether every image has a label."""
        return bool((self.labels >= 0).all())


def stratified_order(images: Sequence[ListedImage], seed: int) -> list[ListedImage]:
    """Shuffle so that every stretch holds each class in about its share of the whole.

    The first n images are then a stratified subset for any n, and so are the next.

    >>> images = [ListedImage(i, str(i), i // 4) for i in range(8)]
    >>> [image.label for image in stratified_order(images, seed=0)[:2]] in ([0, 1], [1, 0])
    True
    """
    generator = np.random.Generator(np.random.PCG64(seed))
    by_class: dict[int | None, list[ListedImage]] = defaultdict(list)
    for image in images:
        by_class[image.label].append(image)
    placed: list[tuple[float, int, ListedImage]] = []
    for label in sorted(by_class, key=lambda label: -1 if label is None else label):
        members = by_class[label]
        shuffled = np.argsort(generator.random(len(members)))
        jitter = generator.random(len(members))
        for rank, position in enumerate(shuffled):
            image = members[position]
            placed.append(((rank + jitter[rank]) / len(members), image.number, image))
    return [image for _, _, image in sorted(placed, key=lambda entry: entry[:2])]


def list_hash(images: Sequence[ListedImage]) -> str:
    """Name a list of images by their names, labels and order: 16 hexadecimal digits."""
    lines = "\n".join(f"{image.name}\t{image.label}" for image in images)
    return hashlib.sha256(lines.encode()).hexdigest()[:16]


def prepare(
    source: ImageSource,
    wanted: Sequence[ListedImage],
    n: int,
    transform: Callable[[Image.Image], Tensor],
    *,
    skip_bad: bool = False,
    fewer_will_do: bool = False,
) -> tuple[PreparedImages, list[ListedImage]]:
    """Decode the first ``n`` usable images of a list.

    Args:
        source: opens them.
        wanted: candidates, in order.
        n: how many to take.
        transform: a PIL image to (channel, height, width) uint8.
        skip_bad: go on to the next image where one cannot be decoded.
        fewer_will_do: take what is left, if it is not nothing, where fewer than ``n`` are.

    Returns:
        The images, and the candidates after the last one taken.

    Raises:
        BadImage: one cannot be decoded, and ``skip_bad`` is not set.
        InvalidInput: fewer than ``n`` are left, or none.
    """

    def decode(image: ListedImage) -> NDArray[np.uint8]:
        with decoding(image), source.open(image) as opened:
            pixels: NDArray[np.uint8] = np.asarray(transform(opened.convert("RGB")))
            return pixels

    found = decode_first(wanted, n, decode, skip_bad=skip_bad, fewer_will_do=fewer_will_do)
    prepared = PreparedImages(
        pixels=np.stack(found.results),
        labels=np.array([-1 if image.label is None else image.label for image in found.images], dtype=np.int64),
        numbers=np.array([image.number for image in found.images], dtype=np.int64),
        list_hash=list_hash(found.images),
        skipped=tuple(found.skipped),
    )
    return prepared, found.rest


@dataclass
class Decoded(Generic[T]):
    """The first usable images of a list.

    Attributes:
        images: those that were decoded.
        results: what became of each.
        skipped: names of those that could not be.
        rest: candidates after the last one taken.
    """

    images: list[ListedImage]
    results: list[T]
    skipped: list[str]
    rest: list[ListedImage]


def decode_first(
    wanted: Sequence[ListedImage],
    n: int,
    decode: Callable[[ListedImage], T],
    *,
    skip_bad: bool = False,
    fewer_will_do: bool = False,
) -> Decoded[T]:
    """Decode the first ``n`` usable images of a list, some at a time; see ``prepare``.

    Args:
        wanted: candidates, in order.
        n: how many to take.
        decode: raises BadImage of a file that is none, see ``decoding``.
        skip_bad: go on to the next image where one cannot be decoded.
        fewer_will_do: take what is left, if it is not nothing, where fewer than ``n`` are.
    """
    found: Decoded[T] = Decoded([], [], [], list(wanted))

    def attempt(image: ListedImage) -> T | BadImage:
        try:
            return decode(image)
        except BadImage as error:
            return error

    with ThreadPoolExecutor(_N_THREADS) as pool:  # decoding leaves the interpreter free
        while (n_missing := n - len(found.images)) and found.rest:
            batch, found.rest = found.rest[:n_missing], found.rest[n_missing:]
            for image, result in zip(batch, pool.map(attempt, batch), strict=True):
                if not isinstance(result, BadImage):
                    found.images.append(image)
                    found.results.append(result)
                elif skip_bad:
                    found.skipped.append(image.name)
                else:
                    raise result
    if len(found.images) < (1 if fewer_will_do else n):
        left_out = f", {len(found.skipped)} that cannot be decoded left out" if found.skipped else ""
        raise InvalidInput(f"{n} images are asked for, but only {len(found.images)} are left{left_out}")
    return found


@contextmanager
def decoding(image: ListedImage) -> Iterator[None]:
    """Say of whatever goes wrong inside that the file is no image.

    Raises:
        BadImage: with the reason.
    """
    try:
        yield
    except (OSError, UnidentifiedImageError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        reason = " ".join(str(error).split())
        raise BadImage(f"cannot decode {image.name}: {reason}; leave such files out with --skip-bad-images") from None
