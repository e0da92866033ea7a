"""Write a pruned model as a program that runs without prunefront: for ``torch.export`` and for onnxruntime.

Needs onnx and onnxscript for the second, which ``pip install prunefront[export]`` brings.
"""

from __future__ import annotations

import json
import logging
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from torch.export import Dim, ExportedProgram

from pruning.apply import pruned
from pruning.models import LoadedModel
from pruning.segmentation.segmenter import Segmenter
from spaces import InvalidInput, PrunefrontError, PruningConfig, UnsupportedModel, layout_document

__all__ = [
    "EXPORT_FILES",
    "METADATA_KEY",
    "metadata",
    "require_formats",
    "require_traceable",
    "takes_batches",
    "trace",
    "write_program",
]

EXPORT_FILES: Mapping[str, str] = {"onnx": "model.onnx", "pt2": "model.pt2"}
METADATA_KEY = "prunefront"
_NEEDS = {"onnx": ("onnx", "onnxscript", "onnxruntime"), "pt2": ()}
_MOST_IN_ONE_FILE = 2**31 - 2**24  # bytes of weights; protobuf, which ONNX is written in, ends at 2 GiB


def require_formats(formats: tuple[str, ...]) -> None:
    """Refuse formats that there are not, or that cannot be written with what is installed.

    Raises:
        InvalidInput: naming them, or what to install.
    """
    for name in formats:
        if name not in EXPORT_FILES:
            raise InvalidInput(f"the formats are {', '.join(EXPORT_FILES)}, got {name!r}")
        missing = [package for package in _NEEDS[name] if find_spec(package) is None]
        if missing:
            raise InvalidInput(f"format {name} needs {', '.join(missing)}: pip install 'prunefront[export]'")


def require_traceable(loaded: LoadedModel) -> None:
    """Refuse what ``trace`` cannot turn into a graph.

    Raises:
        UnsupportedModel: the model is a segmenter.
    """
    if isinstance(loaded.model, Segmenter):
        raise UnsupportedModel(
            f"{loaded.name} is a segmenter, and cannot be exported: which blocks and heads still have tokens is "
            f"decided image by image, and a program has no such choice; export the bundle without --format, and run "
            f"it in torch by pruning.load"
        )


def takes_batches(layout: PruningConfig | None) -> bool:
    """Say whether a program takes images together; where each decides how many tokens stay, it takes one at a time."""
    return layout is None or not layout.cost_is_measured


def trace(loaded: LoadedModel, layout: PruningConfig | None) -> ExportedProgram:
    """Turn a model, pruned or dense, into one graph of tensor operations, for batches of any size or of one image.

    Args:
        loaded: the dense model; is left as it is.
        layout: what prunes it; ``None`` for nothing.

    Returns:
        A program of (batch, channel, height, width) float32 images, which gives (batch, n_classes) logits; see
        ``takes_batches``.

    Raises:
        UnsupportedModel: the model is a segmenter.
        PrunefrontError: torch cannot follow the model.
    """
    require_traceable(loaded)
    height, width = loaded.architecture.image_size
    # Two images: of a batch of one torch would take the size for a constant.
    example = torch.zeros(2 if takes_batches(layout) else 1, loaded.architecture.in_channels, height, width)
    sizes = ({0: Dim("batch", min=1)},) if takes_batches(layout) else None
    with _pruned(loaded, layout), torch.no_grad(), _quiet():
        try:
            return torch.export.export(loaded.model, (example,), dynamic_shapes=sizes, strict=False)
        except Exception as error:  # torch raises whatever its tracing stumbles over
            raise PrunefrontError(f"torch.export cannot follow {loaded.name}: {_first_line(error)}") from None


def write_program(format_: str, program: ExportedProgram, path: Path, about: Mapping[str, str]) -> None:
    """Write a traced model to a file.

    Args:
        format_: a key of ``EXPORT_FILES``.
        program: of ``trace``.
        path: of the file. The weights of an ONNX model of over 2 GB lie beside it, in ``.data``.
        about: texts that the file carries, by key; see ``metadata``.

    Raises:
        PrunefrontError: an operation has no counterpart in the format, or the file cannot be written.
    """
    write: Callable[[ExportedProgram, Path, Mapping[str, str]], None] = {"onnx": _write_onnx, "pt2": _write_pt2}[
        format_
    ]
    try:
        with _quiet():
            write(program, path, about)
    except OSError as error:
        raise PrunefrontError(f"cannot write {path}: {error.strerror or error}") from None
    except Exception as error:  # of torch's exporter, and of onnxscript
        raise PrunefrontError(f"the model cannot be written as {path.name}: {_first_line(error)}") from None


def metadata(loaded: LoadedModel, layout: PruningConfig) -> dict[str, str]:
    """Say what an exported file should know of itself: the layout and the preprocessing, as JSON under one key."""
    document = layout_document(
        layout, model={"weights_digest": loaded.weights_digest}, preprocessing=loaded.preprocessing.model_dump()
    )
    return {METADATA_KEY: json.dumps(document, allow_nan=False)}


def _write_pt2(program: ExportedProgram, path: Path, about: Mapping[str, str]) -> None:
    torch.export.save(program, path, extra_files=dict(about))


def _write_onnx(program: ExportedProgram, path: Path, about: Mapping[str, str]) -> None:
    written: Any = torch.onnx.export(
        program, input_names=["images"], output_names=["logits"], dynamo=True, verbose=False
    )
    graph = written.model.graph
    n_images = graph.inputs[0].shape[0]
    if not isinstance(n_images, int):
        written.rename_axes({n_images: "batch"})
    written.model.metadata_props.update(about)
    n_bytes = sum(tensor.numel() * tensor.element_size() for tensor in program.state_dict.values())
    written.save(path, external_data=n_bytes > _MOST_IN_ONE_FILE)


@contextmanager
def _pruned(loaded: LoadedModel, layout: PruningConfig | None) -> Iterator[None]:
    if layout is None:
        yield
        return
    with pruned(loaded.model, layout):
        yield


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep to itself what torch says of its own inner workings meanwhile."""
    loggers = [logging.getLogger(name) for name in ("torch.onnx", "torch.export", "onnxscript")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


def _first_line(error: BaseException) -> str:
    """Give the reason below what torch's exporter wraps about it."""
    while error.__cause__ is not None:
        error = error.__cause__
    return next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
