from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
import torch
from PIL import Image

from objectives.datasets import find_images
from objectives.images import BadImage, ListedImage, list_hash, prepare, stratified_order
from spaces import InvalidInput
from tests.tiny import write_jpeg


def listed(counts: dict) -> list[ListedImage]:
    labels = [label for label, n in counts.items() for _ in range(n)]
    return [ListedImage(number, f"{number}.jpg", label) for number, label in enumerate(labels)]


def test_every_prefix_is_stratified():
    order = stratified_order(listed({0: 40, 1: 40, 2: 40}), seed=1)
    for n in (12, 30, 60):
        counts = Counter(image.label for image in order[:n])
        assert all(abs(count - n / 3) <= 1 for count in counts.values())


def test_rare_classes_keep_their_share():
    order = stratified_order(listed({0: 90, 1: 10}), seed=1)
    assert 4 <= Counter(image.label for image in order[:50])[1] <= 6


def test_the_order_is_a_permutation_decided_by_the_seed():
    images = listed({0: 20, 1: 20})
    orders = [stratified_order(images, seed) for seed in (1, 1, 2)]
    assert orders[0] == orders[1] != orders[2]
    assert sorted(orders[0], key=lambda image: image.number) == images


def test_images_without_labels_are_shuffled_too():
    order = stratified_order(listed({None: 30}), seed=0)
    assert sorted(image.number for image in order) == list(range(30))
    assert [image.number for image in order] != list(range(30))


def test_the_hash_names_names_labels_and_order():
    images = listed({0: 2, 1: 2})
    changed = [images[0], ListedImage(1, "1.jpg", 1), *images[2:]]
    assert len({list_hash(images), list_hash(images[::-1]), list_hash(images[:3]), list_hash(changed)}) == 4


def to_bytes(image: Image.Image) -> torch.Tensor:
    return torch.from_numpy(np.array(image.resize((8, 8)))).permute(2, 0, 1)


@pytest.fixture
def folder(tmp_path):
    for number in range(10):
        write_jpeg(tmp_path / f"{'ab'[number % 2]}/{number}.jpg", number)
    return tmp_path


def test_search_and_confirm_images_are_disjoint(folder):
    source = find_images(str(folder), n_classes=2)
    order = stratified_order(source.images, 0)
    first, rest = prepare(source, order, 4, to_bytes)
    second, _ = prepare(source, rest, 4, to_bytes)
    assert not set(first.numbers) & set(second.numbers)
    assert first.list_hash != second.list_hash


def test_prepared_images_are_in_the_order_asked_for(folder):
    source = find_images(str(folder), n_classes=2)
    prepared, _ = prepare(source, source.images, 10, to_bytes)
    assert prepared.numbers.tolist() == list(range(10))
    for number, image in enumerate(source.images):
        with source.open(image) as opened:
            assert np.array_equal(prepared.pixels[number], to_bytes(opened.convert("RGB")).numpy())


def test_a_corrupt_image_is_named(folder):
    (folder / "a" / "4.jpg").write_bytes(b"\xff\xd8\xff\xe0 not a photograph")
    source = find_images(str(folder), n_classes=2)
    with pytest.raises(BadImage, match=r"cannot decode a/4\.jpg.*--skip-bad-images"):
        prepare(source, source.images, 10, to_bytes)


def test_a_truncated_image_is_corrupt(folder):
    whole = (folder / "a" / "4.jpg").read_bytes()
    (folder / "a" / "4.jpg").write_bytes(whole[: len(whole) // 2])
    source = find_images(str(folder), n_classes=2)
    with pytest.raises(BadImage, match=r"a/4\.jpg"):
        prepare(source, source.images, 10, to_bytes)


def test_skipping_takes_the_next_image_instead_and_says_which(folder):
    (folder / "a" / "0.jpg").write_bytes(b"nothing")
    source = find_images(str(folder), n_classes=2)
    prepared, rest = prepare(source, source.images, 9, to_bytes, skip_bad=True)
    assert prepared.skipped == ("a/0.jpg",)
    assert len(prepared) == 9
    assert rest == []


def test_fewer_images_than_asked_for_is_an_error(folder):
    (folder / "a" / "0.jpg").write_bytes(b"nothing")
    source = find_images(str(folder), n_classes=2)
    with pytest.raises(InvalidInput, match="10 images are asked for, but only 9 are left, 1 that cannot be decoded"):
        prepare(source, source.images, 10, to_bytes, skip_bad=True)


def test_grey_and_transparent_images_are_taken_as_rgb(tmp_path):
    for mode in ("L", "RGBA", "P"):
        Image.new(mode, (20, 20)).save(tmp_path / f"{mode}.png")
    source = find_images(str(tmp_path), n_classes=2)
    prepared, _ = prepare(source, source.images, 3, to_bytes)
    assert prepared.pixels.shape == (3, 3, 8, 8)
    assert not prepared.has_labels
