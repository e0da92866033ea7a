"""How fast a bundle's model is on this machine: dense and pruned, in each runtime that there is."""

from __future__ import annotations

import copy
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

import torch
from torch._inductor.exc import InductorError

from objectives.latency import Latency, time_in_turn
from objectives.runtimes import Run, compiled, eager, onnxruntime_session
from pruning import prune
from pruning.bundle import Bundle
from pruning.exporting import EXPORT_FILES, require_formats, takes_batches, trace, write_program
from spaces import InvalidInput, PrunefrontError, PruningConfig, dense_cost

__all__ = ["RUNTIMES", "BundleSpeed", "Runtime", "time_bundle"]

Runtime = Literal["torch", "compile", "onnxruntime"]
RUNTIMES: tuple[Runtime, ...] = get_args(Runtime)
_Who = Literal["dense", "pruned"]


@dataclass(frozen=True)
class BundleSpeed:
    """The times of one model in one runtime.

    Attributes:
        who: ``dense`` or ``pruned``.
        runtime: that ran it.
        gflops: what it counts, of one image; where the image decides, the study's mean, or without it the most.
        latencies: for each batch size.
    """

    who: _Who
    runtime: Runtime
    gflops: float
    latencies: tuple[Latency, ...]


def time_bundle(
    bundle: Bundle,
    *,
    runtimes: Sequence[Runtime] = RUNTIMES,
    batch_sizes: Sequence[int] = (1, 32),
    device: str = "cpu",
    seconds: float = 2.0,
    say: Callable[[str], None] = lambda _: None,
) -> list[BundleSpeed]:
    """Time a bundle's model, dense and pruned, on noise.

    Where the image decides how many tokens stay (ATS, DToP), images of one's own may take longer or less.

    Args:
        bundle: the model and its layout.
        runtimes: to time. One that cannot run here is left out, and said so.
        batch_sizes: to time.
        device: ``cpu``, with torch's number of threads for all runtimes, or ``cuda``.
        seconds: for each model, runtime and batch size.
        say: is told, line by line, what was left out and why.

    Raises:
        InvalidInput: there is no such runtime, or no such batch size.
        PrunefrontError: none of the runtimes can run here.
    """
    if strange := [name for name in runtimes if name not in RUNTIMES]:
        raise InvalidInput(f"the runtimes are {', '.join(RUNTIMES)}, got {strange[0]!r}")
    if not batch_sizes or min(batch_sizes) < 1:
        raise InvalidInput(f"batch sizes are whole numbers from 1, got {list(batch_sizes)}")
    architecture = bundle.dense.architecture
    shape = (architecture.in_channels, *architecture.image_size)
    generator = torch.Generator().manual_seed(0)
    largest = torch.randn(max(batch_sizes), *shape, generator=generator).to(device)
    with ExitStack() as kept:
        runs: dict[tuple[_Who, Runtime], Run] = {}
        for runtime in dict.fromkeys(runtimes):
            try:
                _require_batches(bundle.layout, runtime, batch_sizes)
                both = kept.enter_context(_both(bundle, runtime, device))
                for run in both.values():
                    for size in batch_sizes:  # what cannot run or compile here says so before anything is timed
                        run(largest[:size])
            except (PrunefrontError, InductorError) as error:
                say(f"{runtime} is left out: {next(iter(str(error).splitlines()), type(error).__name__)}")
                continue
            runs |= {(who, runtime): run for who, run in both.items()}
        if not runs:
            raise PrunefrontError(f"none of {', '.join(runtimes)} can run {bundle.folder} here")
        timed = [time_in_turn(runs, largest[:size], seconds=seconds) for size in batch_sizes]
    gflops = {"dense": dense_cost(architecture).gflops, "pruned": _gflops(bundle)}
    return [
        BundleSpeed(who, runtime, gflops[who], tuple(times[who, runtime] for times in timed)) for who, runtime in runs
    ]


def _require_batches(layout: PruningConfig, runtime: Runtime, batch_sizes: Sequence[int]) -> None:
    if runtime != "torch" and max(batch_sizes) > 1 and not takes_batches(layout):
        raise PrunefrontError(f"a program of {layout.method} takes one image at a time: --batch-sizes 1")


def _gflops(bundle: Bundle) -> float:
    if bundle.layout.cost_is_measured and "gflops" in bundle.document:
        return float(bundle.document["gflops"])
    return bundle.layout.cost(bundle.dense.architecture).gflops


@contextmanager
def _both(bundle: Bundle, runtime: Runtime, device: str) -> Iterator[Mapping[_Who, Run]]:
    """Give the dense and the pruned model in one runtime, with what lies on disk for it meanwhile."""
    if runtime == "onnxruntime":
        require_formats(("onnx",))
        with tempfile.TemporaryDirectory() as folder:
            yield {
                "dense": _session(bundle, None, Path(folder) / "dense.onnx", device),
                "pruned": _session(bundle, bundle.layout, Path(folder) / "pruned.onnx", device),
            }
        return
    if runtime == "compile":
        loaded = bundle.dense
        loaded.model.to("cpu")
        yield {
            "dense": compiled(trace(loaded, None), device),
            "pruned": compiled(trace(loaded, bundle.layout), device),
        }
        return
    dense = copy.deepcopy(bundle.dense.model).to(device)
    yield {"dense": eager(dense), "pruned": eager(prune(copy.deepcopy(dense), bundle.layout))}


def _session(bundle: Bundle, layout: PruningConfig | None, path: Path, device: str) -> Run:
    """Open the bundle's own ONNX file where it has one, or write it for now."""
    own = bundle.folder / EXPORT_FILES["onnx"]
    if layout is not None and own.is_file():
        path = own
    else:
        write_program("onnx", trace(bundle.dense, layout), path, {})
    return onnxruntime_session(path, device=device)
