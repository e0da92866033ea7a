"""The folders that a dashboard may use: whoever asks through it names no file outside them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

from spaces.errors import InvalidInput

__all__ = ["Roots"]


@dataclass(frozen=True)
class Roots:
    """Where data, models and outputs of a dashboard's jobs may lie.

    Attributes:
        data: folders of images and of label files.
        model: folders of checkpoints and of ``local-dir:`` models.
        output: the folder into which bundles are written; ``None`` for none.
        downloads: whether jobs may download weights (``--pretrained``, ``hf-hub:``).
    """

    data: tuple[Path, ...] = ()
    model: tuple[Path, ...] = ()
    output: Path | None = None
    downloads: bool = False

    def data_path(self, text: str) -> str:
        """Find a file or folder of data.

        Raises:
            InvalidInput: it lies outside the data roots, or is not there.
        """
        return _inside(text, self.data, "--data-root")

    def output_path(self, name: str) -> str:
        """Name a folder to write, below the folder for outputs.

        Args:
            name: any text; two names never give one folder.

        Raises:
            InvalidInput: there is no folder for outputs.
        """
        if self.output is None:
            raise InvalidInput("this dashboard writes no bundles: start it with --output-root FOLDER")
        return str(self.output.resolve() / quote(name, safe=""))

    def model_path(self, text: str) -> str:
        """Find a file or folder of models; likewise."""
        return _inside(text, self.model, "--model-root")


def _inside(text: str, roots: Sequence[Path], option: str) -> str:
    """Find what a relative or absolute path names inside one of the roots, links followed."""
    if not roots:
        raise InvalidInput(f"this dashboard was started without {option}, so no path can be named, got {text!r}")
    for root in roots:
        whole = root.resolve()
        try:
            path = (whole / text).resolve()
            if path.is_relative_to(whole) and path.exists():
                return str(path)
        except (OSError, ValueError):  # a name too long, or with a NUL
            break
    shown = ", ".join(str(root) for root in roots)
    raise InvalidInput(f"there is no {text!r} under {shown} ({option})")
