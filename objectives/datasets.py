"""Find the images a person means: an ImageNet-style folder, a flat folder with labels, or ``shapes``."""

from __future__ import annotations

import csv
import re
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from PIL import Image
from timm.data import ImageNetInfo, infer_imagenet_subset

from objectives import shapes
from objectives.images import ImageSource, ListedImage
from spaces.errors import InvalidInput

__all__ = ["find_images", "list_shapes", "open_shape"]

_IMAGE_SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff", ".ppm"})
_SPLIT_FOLDERS = ("val", "validation", "valid", "test")
_SYNSET = re.compile(r"n\d{8}")
_N_NAMED = 3


def find_images(
    data: str,
    *,
    n_classes: int,
    labels: str | Path | None = None,
    class_map: str | Path | None = None,
    split: str | None = None,
) -> ImageSource:
    """List the images of a data set, each with the class index that the model means.

    Args:
        data: ``shapes``; a folder of class folders, or the root above ``val`` or ``validation``; or a folder of images.
        n_classes: of the model. Synset folders (n01440764) are mapped through timm's list for that number, so
            that a subset of the classes scores right; other class folders must be as many, and are numbered
            in sorted order.
        labels: a CSV of file name and class index, or synset, for a folder of images.
        class_map: a text file with one class folder a line, in the order of the model's classes.
        split: the folder below the root to take.

    Raises:
        InvalidInput: no such folder, no images in it, or classes that do not match the model's.
    """
    if data == "shapes":
        return _shapes(n_classes)
    folder = _split_folder(Path(data), split)
    files = sorted(path for path in folder.rglob("*") if path.suffix.lower() in _IMAGE_SUFFIXES)
    if not files:
        raise InvalidInput(
            f"there are no images in {folder}: its files end in none of {', '.join(sorted(_IMAGE_SUFFIXES))}"
        )
    if labels is not None:
        classes = _labels_of_files(Path(labels), folder, files, n_classes)
        layout = f"{len(files)} images labelled by {labels}"
    elif all(path.parent == folder for path in files):
        classes = dict.fromkeys(files)
        layout = f"{len(files)} images without labels"
    else:
        classes, layout = _labels_of_folders(folder, files, n_classes, class_map)
    images = [
        ListedImage(number, path.relative_to(folder).as_posix(), classes[path]) for number, path in enumerate(files)
    ]
    return ImageSource(tuple(images), partial(_open_file, folder), layout)


def _open_file(folder: Path, image: ListedImage) -> Image.Image:
    return Image.open(folder / image.name)


def _shapes(n_classes: int) -> ImageSource:
    if n_classes != len(shapes.CLASS_NAMES):
        raise InvalidInput(
            f"shapes has {len(shapes.CLASS_NAMES)} classes, the model {n_classes}: use shapes_vit_small or a model "
            f"with --num-classes {len(shapes.CLASS_NAMES)}"
        )
    images = list_shapes()
    return ImageSource(images, open_shape, f"{len(images)} generated images of {n_classes} classes")


def list_shapes() -> tuple[ListedImage, ...]:
    """List the generated images of ``shapes`` that no model was trained on."""
    return tuple(
        ListedImage(index, f"shapes-v{shapes.SHAPES_VERSION}/{index}", shapes.label_of(index))
        for index in range(shapes.N_EVALUATION_IMAGES)
    )


def open_shape(image: ListedImage) -> Image.Image:
    """Draw one of them."""
    return Image.fromarray(shapes.draw(image.number).pixels)


def _split_folder(root: Path, split: str | None) -> Path:
    if not root.is_dir():
        raise InvalidInput(f"there is no data folder {root}")
    if split is not None:
        if not (root / split).is_dir():
            folders = sorted(path.name for path in root.iterdir() if path.is_dir())
            raise InvalidInput(f"{root} has no folder {split!r}; it has {_some(folders)}")
        return root / split
    return next((root / name for name in _SPLIT_FOLDERS if (root / name).is_dir()), root)


def _labels_of_folders(
    folder: Path, files: Sequence[Path], n_classes: int, class_map: str | Path | None
) -> tuple[dict[Path, int | None], str]:
    names = sorted({path.relative_to(folder).parts[0] for path in files})
    stray = [path.name for path in files if path.parent == folder]
    if stray:
        raise InvalidInput(f"{folder} holds both class folders and images of no class, such as {_some(stray)}")
    if class_map is not None:
        index = _read_class_map(Path(class_map), names, n_classes)
        layout = f"class folders in the order of {class_map}"
    elif all(_SYNSET.fullmatch(name) for name in names):
        index, layout = _synset_index(names, n_classes), "synset folders"
    else:
        if len(names) != n_classes:
            raise InvalidInput(
                f"{folder} has {len(names)} class folders ({_some(names)}), the model {n_classes} classes: name the "
                f"model's classes in order with --class-map FILE, or set --num-classes {len(names)}"
            )
        # Numbered folders mean their numbers: in sorted order 10 would come before 2.
        ordered = sorted(names, key=int) if all(name.isdecimal() for name in names) else names
        index = {name: number for number, name in enumerate(ordered)}
        layout = "class folders in sorted order"
    described = f"{len(files)} images in {len(names)} {layout}"
    return {path: index[path.relative_to(folder).parts[0]] for path in files}, described


def _synset_index(names: Sequence[str], n_classes: int) -> dict[str, int]:
    subset = infer_imagenet_subset({"num_classes": n_classes})
    if subset is None:
        raise InvalidInput(
            f"the data has synset folders, but no ImageNet list has the model's {n_classes} classes: name the "
            f"model's classes in order with --class-map FILE"
        )
    known = {synset: number for number, synset in enumerate(ImageNetInfo(subset).label_names())}
    unknown = [name for name in names if name not in known]
    if unknown:
        raise InvalidInput(
            f"{len(unknown)} class folders are no classes of {subset}: {_some(unknown)}; name the model's classes "
            f"in order with --class-map FILE"
        )
    return {name: known[name] for name in names}


def _read_class_map(path: Path, names: Sequence[str], n_classes: int) -> dict[str, int]:
    lines = [line.strip() for line in _read_text(path).splitlines() if line.strip()]
    if len(lines) != n_classes:
        raise InvalidInput(f"{path} must name the model's {n_classes} classes, one a line, got {len(lines)} lines")
    index = {name: number for number, name in enumerate(lines)}
    unknown = [name for name in names if name not in index]
    if unknown:
        raise InvalidInput(f"{path} does not name the class folders {_some(unknown)}")
    return index


def _labels_of_files(table: Path, folder: Path, files: Sequence[Path], n_classes: int) -> dict[Path, int | None]:
    rows = [(row[0].strip(), (row[1].split() or [""])[0]) if len(row) > 1 else ("", "") for row in _csv_rows(table)]
    synsets = sorted({label for _, label in rows if _SYNSET.fullmatch(label)})
    known = _synset_index(synsets, n_classes) if synsets else {}
    of_name: dict[str, int] = {}
    for line, (name, label) in enumerate(rows, start=1):
        if label in known:
            of_name[name] = known[label]
        elif label.isdecimal() and int(label) < n_classes:
            of_name[name] = int(label)
        elif line > 1:  # the first line may be a heading
            raise InvalidInput(
                f"{table}, line {line}: a line is FILE,CLASS with a class from 0 to {n_classes - 1} or a synset"
            )
    found: dict[Path, int | None] = {}
    for path in files:
        name = path.relative_to(folder).as_posix()
        label_index = of_name.get(name, of_name.get(path.name, of_name.get(path.stem)))
        if label_index is None:
            raise InvalidInput(f"{table} gives no class for {name}")
        found[path] = label_index
    return found


def _csv_rows(table: Path) -> list[list[str]]:
    return [row for row in csv.reader(_read_text(table).splitlines()) if row]


def _read_text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidInput(f"cannot read {path}: {getattr(error, 'strerror', None) or error}") from None


def _some(names: Sequence[str]) -> str:
    more = f" and {len(names) - _N_NAMED} more" if len(names) > _N_NAMED else ""
    return ", ".join(names[:_N_NAMED]) + more
