"""Data sets with masks, in the styles there are."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from objectives.images import BadImage
from objectives.mask_folders import MaskFolders
from objectives.masks import IGNORED, find_masks, read_label_map
from objectives.scenes import prepare_scenes
from objectives.shapes import BACKGROUND, draw
from pruning.preprocessing import Preprocessing
from pruning.segmentation.inference import Windows
from spaces import InvalidInput

PREPROCESSING = Preprocessing(
    input_size=(3, 32, 32), interpolation="bilinear", mean=(0.5,) * 3, std=(0.5,) * 3, crop_pct=1.0, crop_mode="squash"
)


def write_data(root, *, names=("a", "b"), values=None, size=(40, 36), split="validation", suffix=".png"):
    """Write a small ADE20K-style data set, masks of the given values at its left, top to bottom."""
    for number, name in enumerate(names):
        (root / "images" / split).mkdir(parents=True, exist_ok=True)
        (root / "annotations" / split).mkdir(parents=True, exist_ok=True)
        width, height = size
        pixels = np.random.default_rng(number).integers(0, 256, (height, width, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(root / "images" / split / f"{name}.jpg")
        mask = np.zeros((height, width), dtype=np.uint8)
        for row, value in enumerate(values or [0, 1, 2, 255]):
            mask[row] = value
        Image.fromarray(mask).save(root / "annotations" / split / f"{name}{suffix}")
    return root


def first_column(root, n_classes, **options):
    source = find_masks(str(root), n_classes=n_classes, folders=MaskFolders(**options))
    return source.open_mask(source.images[0])[:4, 0].tolist()


def test_masks_hold_classes_as_they_are(tmp_path):
    assert first_column(write_data(tmp_path), 3) == [0, 1, 2, IGNORED]


def test_zero_may_count_for_nothing_as_in_ade20k(tmp_path):
    assert first_column(write_data(tmp_path), 2, reduce_zero_label=True) == [IGNORED, 0, 1, IGNORED]


def test_another_value_may_count_for_nothing(tmp_path):
    root = write_data(tmp_path, values=[0, 1, 7, 7])
    assert first_column(root, 2, ignore_index=7) == [0, 1, IGNORED, IGNORED]


def test_a_label_map_says_what_values_mean(tmp_path):
    (tmp_path / "map.txt").write_text("0 1\n1 0\n\n2 ignore\n255,ignore\n")
    assert first_column(write_data(tmp_path), 2, label_map=str(tmp_path / "map.txt")) == [1, 0, IGNORED, IGNORED]


def test_masks_may_have_names_of_their_own_as_in_coco_stuff(tmp_path):
    root = write_data(tmp_path, split="test2014", suffix="_labelTrainIds.png")
    assert first_column(root, 3, mask_suffix="_labelTrainIds.png") == [0, 1, 2, IGNORED]


def test_folders_may_have_names_of_their_own_and_a_list_as_in_pascal_context(tmp_path):
    root = write_data(tmp_path, split=".")
    (root / "images").rename(root / "JPEGImages")
    (root / "annotations").rename(root / "SegmentationClassContext")
    (root / "val.txt").write_text("b\n")
    folders = MaskFolders("JPEGImages", "SegmentationClassContext", list_file=str(root / "val.txt"))
    source = find_masks(str(root), n_classes=3, folders=folders)
    assert [image.name for image in source.images] == ["b.jpg"]


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ({}, r"the mask a\.png has the value 2, which is no class of 2: set reduce_zero_label, ignore_index or a lab"),
        ({"ignore_index": 2}, r"the mask a\.png has the value 255"),
    ],
)
def test_a_value_outside_the_classes_is_named(tmp_path, options, problem):
    with pytest.raises(InvalidInput, match=problem):
        first_column(write_data(tmp_path), 2, **options)


def test_a_value_that_the_label_map_leaves_out_is_named(tmp_path):
    (tmp_path / "map.txt").write_text("0 1\n1 0\n")
    with pytest.raises(InvalidInput, match="has the value 2"):
        first_column(write_data(tmp_path), 2, label_map=str(tmp_path / "map.txt"))


@pytest.mark.parametrize("line", ["1", "a b", "1 5", "1 2 3", "-1 0"])
def test_a_line_that_is_no_entry_of_a_label_map_is_named(tmp_path, line):
    (tmp_path / "map.txt").write_text(f"0 0\n{line}\n")
    with pytest.raises(InvalidInput, match="line 2: a line is VALUE CLASS with a class from 0 to 3 or ignore"):
        read_label_map(tmp_path / "map.txt", 4)


def test_an_image_without_a_mask_is_named(tmp_path):
    (write_data(tmp_path) / "annotations" / "validation" / "b.png").unlink()
    with pytest.raises(InvalidInput, match=r"b\.jpg has no mask b\.png in"):
        find_masks(str(tmp_path), n_classes=3)


def test_missing_folders_and_lists_are_named(tmp_path):
    with pytest.raises(InvalidInput, match=r"there is no folder .*images"):
        find_masks(str(tmp_path), n_classes=3)
    write_data(tmp_path)
    (tmp_path / "val.txt").write_text("c\n")
    with pytest.raises(InvalidInput, match="names c, of which there is no image"):
        find_masks(str(tmp_path), n_classes=3, folders=MaskFolders(list_file=str(tmp_path / "val.txt")))


def test_a_mask_in_colour_is_refused(tmp_path):
    root = write_data(tmp_path)
    Image.new("RGB", (40, 36)).save(root / "annotations" / "validation" / "a.png")
    with pytest.raises(InvalidInput, match=r"the mask a\.png must hold one value for each pixel, got 3 channels"):
        first_column(root, 3)


def test_shapes_have_masks():
    source = find_masks("shapes", n_classes=11)
    mask, image = source.open_mask(source.images[13]), draw(13)
    assert (mask == np.where(image.mask, image.label, BACKGROUND)).all()


def test_shapes_for_another_number_of_classes_are_refused():
    with pytest.raises(InvalidInput, match="the masks of shapes have 11 classes, background included, the model 150"):
        find_masks("shapes", n_classes=150)


def prepared(root, n=2, **options):
    source = find_masks(str(root), n_classes=3)
    return prepare_scenes(source, source.images, n, PREPROCESSING, **options)


def test_a_whole_image_is_brought_to_the_models_input_and_its_mask_is_not(tmp_path):
    scenes, rest = prepared(write_data(tmp_path), 1)
    assert scenes.pixels.shape == (1, 3, 32, 32)
    assert scenes.scenes[0].classes.shape == (36, 40)
    assert [image.name for image in rest] == ["b.jpg"]


def test_for_windows_the_shorter_side_becomes_the_inputs(tmp_path):
    scenes, _ = prepared(write_data(tmp_path, size=(90, 36)), windows=Windows((32, 32), (20, 20)))
    assert scenes.scenes[0].size == (32, 80)
    assert [scene.pieces for scene in scenes.scenes] == [range(4), range(4, 8)]
    assert scenes.pixels.shape == (8, 3, 32, 32)


def test_a_mask_of_another_size_than_its_image_is_refused(tmp_path):
    root = write_data(tmp_path)
    Image.fromarray(np.zeros((36, 41), dtype=np.uint8)).save(root / "annotations" / "validation" / "b.png")
    with pytest.raises(InvalidInput, match=r"the mask of b\.jpg is 41 x 36 px, its image 40 x 36: a mask must be of"):
        prepared(root)


@pytest.mark.parametrize("folder", ["images", "annotations"])
def test_what_cannot_be_decoded_is_named_or_left_out(tmp_path, folder):
    root = write_data(tmp_path)
    name = "a.jpg" if folder == "images" else "a.png"
    (root / folder / "validation" / name).write_bytes(b"nothing")
    with pytest.raises(BadImage, match="cannot decode"):
        prepared(root, 1)
    scenes, _ = prepared(root, 1, skip_bad=True)
    assert scenes.skipped == ("a.jpg",)
    with pytest.raises(InvalidInput, match="2 images are asked for, but only 1 are left, 1 that cannot be decoded"):
        prepared(root, 2, skip_bad=True)
