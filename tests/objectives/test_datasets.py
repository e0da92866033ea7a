from __future__ import annotations

import pytest
from timm.data import ImageNetInfo

from objectives.datasets import find_images
from spaces import InvalidInput
from tests.tiny import write_jpeg


def labels_of(source):
    return {image.name: image.label for image in source.images}


@pytest.fixture
def make(tmp_path):
    def write(*names: str):
        for seed, name in enumerate(names):
            write_jpeg(tmp_path / name, seed)
        return tmp_path

    return write


@pytest.mark.parametrize("root", ["", "val/", "validation/"])
def test_synset_folders_are_mapped_by_name_so_that_a_subset_scores_right(make, root):
    folder = make(f"{root}n03888257/a.JPEG", f"{root}n01440764/b.JPEG")
    source = find_images(str(folder), n_classes=1000)
    assert labels_of(source) == {"n01440764/b.JPEG": 0, "n03888257/a.JPEG": 701}
    assert "2 images in 2 synset folders" in source.layout


def test_the_mapping_is_that_of_the_models_own_imagenet(make):
    folder = make("n01440764/a.jpg")
    names = ImageNetInfo("imagenet-22k").label_names()
    assert labels_of(find_images(str(folder), n_classes=len(names)))["n01440764/a.jpg"] == names.index("n01440764")


def test_plain_class_folders_are_numbered_in_sorted_order(make):
    folder = make("cat/1.png", "ant/2.png", "bee/3.png")
    assert labels_of(find_images(str(folder), n_classes=3)) == {"ant/2.png": 0, "bee/3.png": 1, "cat/1.png": 2}


def test_numbered_folders_mean_their_numbers(make):
    folder = make(*(f"{number}/x.jpg" for number in range(11)))
    found = labels_of(find_images(str(folder), n_classes=11))
    assert found == {f"{number}/x.jpg": number for number in range(11)}


def test_a_class_map_gives_the_models_order(make, tmp_path):
    folder = make("data/cat/1.jpg", "data/ant/2.jpg")
    (tmp_path / "map.txt").write_text("cat\ndog\nant\n")
    found = find_images(str(folder / "data"), n_classes=3, class_map=tmp_path / "map.txt")
    assert labels_of(found) == {"ant/2.jpg": 2, "cat/1.jpg": 0}


def test_a_split_is_the_folder_named(make):
    folder = make("train/a/1.jpg", "val/a/2.jpg", "val/b/3.jpg", "train/b/4.jpg")
    assert set(labels_of(find_images(str(folder), n_classes=2))) == {"a/2.jpg", "b/3.jpg"}
    assert set(labels_of(find_images(str(folder), n_classes=2, split="train"))) == {"a/1.jpg", "b/4.jpg"}


@pytest.mark.parametrize(
    ("table", "expected"),
    [
        ("one.jpg,4\ntwo.jpg,0\n", {"one.jpg": 4, "two.jpg": 0}),
        ("file,class\none.jpg,4\ntwo.jpg,0\n", {"one.jpg": 4, "two.jpg": 0}),
        ("one,4\ntwo,0\n", {"one.jpg": 4, "two.jpg": 0}),
    ],
)
def test_a_table_labels_a_flat_folder(make, tmp_path, table, expected):
    folder = make("flat/one.jpg", "flat/two.jpg")
    (tmp_path / "labels.csv").write_text(table)
    found = find_images(str(folder / "flat"), n_classes=5, labels=tmp_path / "labels.csv")
    assert labels_of(found) == expected


def test_a_table_of_synsets_as_kaggle_writes_it(make, tmp_path):
    folder = make("flat/ILSVRC2012_val_00000001.JPEG")
    (tmp_path / "solution.csv").write_text("ImageId,PredictionString\nILSVRC2012_val_00000001,n03888257 10 20 30 40\n")
    found = find_images(str(folder / "flat"), n_classes=1000, labels=tmp_path / "solution.csv")
    assert labels_of(found) == {"ILSVRC2012_val_00000001.JPEG": 701}


def test_a_flat_folder_without_a_table_has_no_labels(make):
    source = find_images(str(make("a.jpg", "b.webp")), n_classes=5)
    assert labels_of(source) == {"a.jpg": None, "b.webp": None}
    assert "2 images without labels" in source.layout


def test_shapes_are_there_without_any_file():
    source = find_images("shapes", n_classes=10)
    assert len(source.images) == 50_000
    assert source.open(source.images[12]).size == (96, 96)
    with pytest.raises(InvalidInput, match="shapes has 10 classes, the model 1000"):
        find_images("shapes", n_classes=1000)


@pytest.mark.parametrize(
    ("names", "n_classes", "message"),
    [
        ([], 2, "there are no images in"),
        (["notes.txt"], 2, "there are no images in"),
        (["a/1.jpg", "b/2.jpg", "c/3.jpg"], 2, r"3 class folders \(a, b, c\), the model 2 classes.*--class-map FILE"),
        (["n01440764/1.jpg", "n99999999/2.jpg"], 1000, "1 class folders are no classes of imagenet-1k: n99999999"),
        (["n01440764/1.jpg"], 7, "no ImageNet list has the model's 7 classes"),
        (["a/1.jpg", "2.jpg"], 1, "images of no class, such as 2.jpg"),
    ],
)
def test_data_that_does_not_fit_is_refused_with_a_remedy(make, tmp_path, names, n_classes, message):
    for name in names:
        if name.endswith(".txt"):
            (tmp_path / name).write_text("no image")
        else:
            make(name)
    with pytest.raises(InvalidInput, match=message) as error:
        find_images(str(tmp_path), n_classes=n_classes)
    assert "\n" not in str(error.value)


def test_a_missing_folder_is_named():
    with pytest.raises(InvalidInput, match="there is no data folder /nowhere"):
        find_images("/nowhere", n_classes=2)


def test_a_missing_split_names_those_there_are(make):
    folder = make("train/a/1.jpg")
    with pytest.raises(InvalidInput, match="has no folder 'val'; it has train"):
        find_images(str(folder), n_classes=1, split="val")


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ("one.jpg,4\nbroken\n", "line 2"),
        ("one.jpg,4\n", "gives no class for two.jpg"),
        ("one.jpg,0\ntwo.jpg,9\n", "line 2"),
    ],
)
def test_a_broken_table_names_its_line(make, tmp_path, table, message):
    folder = make("flat/one.jpg", "flat/two.jpg")
    (tmp_path / "labels.csv").write_text(table)
    with pytest.raises(InvalidInput, match=message):
        find_images(str(folder / "flat"), n_classes=5, labels=tmp_path / "labels.csv")


@pytest.mark.parametrize(
    ("lines", "message"),
    [("cat\n", "must name the model's 2 classes"), ("cat\ndog\n", "does not name the class folders ant")],
)
def test_a_class_map_that_does_not_fit_is_refused(make, tmp_path, lines, message):
    folder = make("data/cat/1.jpg", "data/ant/2.jpg")
    (tmp_path / "map.txt").write_text(lines)
    with pytest.raises(InvalidInput, match=message):
        find_images(str(folder / "data"), n_classes=2, class_map=tmp_path / "map.txt")
