"""What runs a model: torch, torch's compiler, and programs exported for onnxruntime and ``torch.export``."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor
from torch.export import ExportedProgram
from torch.export.passes import move_to_device_pass

from spaces import PrunefrontError

__all__ = ["Run", "compiled", "eager", "exported", "onnxruntime_session"]

Run = Callable[[Tensor], Tensor]
"""Turns (batch, channel, height, width) float32 on the CPU, or on the model's device, into (batch, n_classes)."""


def eager(model: Run) -> Run:
    """Run a module as it is, or whatever else torch can call, without gradients."""

    def run(images: Tensor) -> Tensor:
        with torch.inference_mode():
            return model(images)

    return run


def exported(path: Path) -> Run:
    """Run a .pt2 file of one's own: reading one runs whatever code is in it."""
    return eager(torch.export.load(path).module())


def compiled(program: ExportedProgram, device: str = "cpu") -> Run:
    """Compile a traced model with ``torch.compile``, which happens at its first run of a batch size.

    The trace is compiled and not the model: it is one graph without Python between its parts.
    """
    program = move_to_device_pass(program, device)
    return eager(torch.compile(program.module(), dynamic=False))


def onnxruntime_session(path: Path, *, threads: int | None = None, device: str = "cpu") -> Run:
    """Run an ONNX file with onnxruntime.

    Args:
        path: of the file.
        threads: of the CPU; torch's number where it is ``None``.
        device: ``cpu`` or ``cuda``.

    Raises:
        PrunefrontError: onnxruntime is not installed, not for this device, or cannot run the file.
    """
    try:
        import onnxruntime
    except ImportError:
        raise PrunefrontError("onnxruntime is not installed: pip install 'prunefront[export]'") from None
    provider = {"cpu": "CPUExecutionProvider", "cuda": "CUDAExecutionProvider"}[device]
    if provider not in onnxruntime.get_available_providers():
        raise PrunefrontError(f"the onnxruntime installed here has no {provider}: install onnxruntime-gpu")
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads or torch.get_num_threads()
    options.log_severity_level = 3  # errors; below are remarks on its own optimisations
    try:
        session = onnxruntime.InferenceSession(str(path), options, providers=[provider])
    except Exception as error:  # of onnxruntime, which has no base of its own
        raise PrunefrontError(f"onnxruntime cannot run {path}: {' '.join(str(error).split())}") from None
    name = session.get_inputs()[0].name

    def run(images: Tensor) -> Tensor:
        return torch.from_numpy(session.run(None, {name: images.cpu().numpy()})[0])

    return run
