"""Write a trial of a study as a bundle: model, layout, numbers and, where asked for, programs checked on its images."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from huggingface_hub import HfApi
from torch import Tensor

from objectives.parity import BATCH_SIZES, USUAL_IMAGES, check_parity
from objectives.runtimes import eager, exported, onnxruntime_session
from pruning import pruned
from pruning.bundle import FILES, is_bundle, write_bundle
from pruning.exporting import (
    EXPORT_FILES,
    metadata,
    require_formats,
    require_traceable,
    takes_batches,
    trace,
    write_program,
)
from pruning.models import LoadedModel
from search.config import DataSettings, SearchSettings
from search.opening import first_images, open_model
from spaces import InvalidInput, PrunefrontError, PruningConfig, parse_layout
from storage import StudyRecord, TrialRecord
from storage.remembered import RememberedStudy

__all__ = ["export_bundle", "push_to_hub"]


def export_bundle(
    study: RememberedStudy,
    folder: str | Path,
    number: int | None = None,
    *,
    budget: str | None = None,
    with_weights: bool = True,
    formats: Sequence[str] = (),
) -> TrialRecord:
    """Write a trial of a study as a bundle that ``pruning.load`` reads; see docs/bundles.md.

    The folder appears whole or not at all. A bundle that is there is replaced; anything else is left alone.

    Args:
        study: has the trial; its model is loaded anew.
        folder: to write.
        number: the trial; the best one if ``None``.
        budget: the best one within this budget.
        with_weights: whether the weights go with it.
        formats: programs to export besides, ``onnx`` and ``pt2``; each is run on images of the study's data, and must
            say what the model says, see ``objectives.parity``.

    Returns:
        The trial.

    Raises:
        InvalidInput: there is no such trial, it was stopped, the folder holds something else, or a format is not there.
        UnsupportedModel: a program is asked for, and the model is a segmenter.
        ParityFailed: an exported program says something else than the model.
        PrunefrontError: the model's weights have changed since the study, or the folder cannot be written.
    """
    formats = tuple(dict.fromkeys(formats))
    require_formats(formats)
    trial = study.chosen(number, budget=budget)
    document = study.layout(trial)
    folder = Path(folder)
    _require_replaceable(folder)
    layout = parse_layout(trial.config)
    settings = SearchSettings.parse(study.record.spec["settings"])
    _require_whole_images(settings.data)
    loaded = open_model(settings.model)
    _require_same_weights(study.record, loaded)
    images = None
    if formats:
        require_traceable(loaded)  # before images are decoded in vain
        pixels = first_images(settings.data, loaded, USUAL_IMAGES).pixels
        images = loaded.preprocessing.normalise(torch.from_numpy(pixels))
    with _written_whole(folder) as place:
        if images is not None:
            document |= {"exports": _export_programs(place, loaded, layout, formats, images)}
        write_bundle(place, loaded, document, with_weights=with_weights)
    return trial


def _export_programs(
    place: Path, loaded: LoadedModel, layout: PruningConfig, formats: Sequence[str], images: Tensor
) -> dict[str, Any]:
    """Write each format, and give what running its file has shown."""
    program = trace(loaded, layout)
    about = metadata(loaded, layout)
    batch_sizes = BATCH_SIZES if takes_batches(layout) else (1,)
    outcomes = {}
    for name in formats:
        path = place / EXPORT_FILES[name]
        write_program(name, program, path, about)
        run = onnxruntime_session(path) if name == "onnx" else exported(path)
        with pruned(loaded.model, layout):
            parity = check_parity(eager(loaded.model), run, images, batch_sizes)
        outcomes[name] = {"file": path.name, **asdict(parity)}
    return outcomes


def _require_whole_images(settings: DataSettings) -> None:
    if settings.stride is not None:
        raise InvalidInput(
            "the study cut its images into windows (--stride), and a bundle's model takes an image whole, with which "
            "its numbers would not be those measured: export the layout alone to a .json file"
        )


def _require_same_weights(record: StudyRecord, loaded: LoadedModel) -> None:
    then, now = record.provenance.weights_digest, loaded.weights_digest
    if now != then:
        raise PrunefrontError(
            f"the weights of study {record.name!r} have changed since it began ({then} then, {now} now), and its "
            f"numbers are not theirs: restore them, or export the layout alone to a .json file"
        )


def _require_replaceable(folder: Path) -> None:
    """Refuse to write over what is not a bundle's."""
    if not folder.parent.is_dir():
        raise InvalidInput(f"cannot write {folder}: its folder does not exist")
    if not folder.exists():
        return
    if not folder.is_dir():
        raise InvalidInput(f"{folder} is a file, and a bundle is a folder: name another")
    strange = sorted(path.name for path in folder.iterdir() if path.name not in FILES)
    if strange:
        raise InvalidInput(f"{folder} holds {strange[0]!r}, which is no part of a bundle: name another folder")


@contextmanager
def _written_whole(folder: Path) -> Iterator[Path]:
    """Give a new folder to write into, which takes the place of ``folder`` if all goes well."""
    try:
        place = Path(tempfile.mkdtemp(dir=folder.parent, prefix=f".{folder.name}."))
        try:
            (place / "new").mkdir()
            yield place / "new"
            _take_place(place / "new", folder, keep=place / "old")
        finally:
            shutil.rmtree(place)
    except OSError as error:
        raise PrunefrontError(f"cannot write {folder}: {error.strerror or error}") from None


def _take_place(new: Path, folder: Path, keep: Path) -> None:
    """Put a new folder in the place of another, which is back if that fails."""
    was_there = folder.exists()
    if was_there:
        folder.rename(keep)
    try:
        new.rename(folder)
    except OSError:
        if was_there:
            keep.rename(folder)
        raise


def push_to_hub(folder: str | Path, repository: str) -> str:
    """Upload a bundle to the Hugging Face hub, with the account that ``hf auth login`` has left on this machine.

    Args:
        folder: the bundle.
        repository: ``org/name``; made, private, where there is none.

    Returns:
        The repository's address.

    Raises:
        InvalidInput: the folder is no bundle.
        PrunefrontError: the hub cannot be reached, or refuses.
    """
    if not is_bundle(folder):
        raise InvalidInput(f"{folder} is no bundle, and nothing else is uploaded")
    hub = HfApi(library_name="prunefront")
    try:
        name = hub.create_repo(repository, private=True, exist_ok=True).repo_id
        hub.upload_folder(repo_id=name, folder_path=folder, commit_message="Add a pruned model")
    except Exception as error:  # of the hub's client, and of the libraries below it
        reason = " ".join(str(error).split()) or type(error).__name__
        raise PrunefrontError(f"cannot upload {folder} to {repository}: {reason}") from None
    return f"{hub.endpoint}/{name}"
