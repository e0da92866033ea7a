"""``prunefront bench``: time a bundle's model on this machine."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

import click

from search.cli.output import print_json, print_table, say
from spaces import InvalidInput

__all__ = ["bench"]


@click.command(short_help="Time a bundle on this machine: dense and pruned, in torch and onnxruntime.")
@click.argument("bundle", type=click.Path(path_type=Path))
@click.option(
    "--runtimes",
    default="torch,compile,onnxruntime",
    show_default=True,
    help="What to run it with: torch, compile (torch.compile), onnxruntime. One that cannot run here is left out, and "
    "said so.",
)
@click.option("--batch-sizes", default="1,32", show_default=True, help="Images of a forward pass: of one, of many.")
@click.option("--seconds", type=float, default=2.0, show_default=True, help="For each model, runtime and batch size.")
@click.option("--threads", type=int, help="CPU threads.  [default: torch's, one for each core]")
@click.option("--device", type=click.Choice(["auto", "cpu", "cuda"]), default="auto", show_default=True)
@click.option("--checkpoint", type=click.Path(path_type=Path), help="Weights of a bundle that was exported without.")
@click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")
def bench(bundle: Path, device: str, threads: int | None, as_json: bool, **options: Any) -> None:
    """Time a bundle's model on this machine, dense and pruned, in turn, after a warm-up.

    Printed are the median of a forward pass with its quartiles, and how much faster the pruned model is.

    \b
    Examples:
      prunefront bench best/
      prunefront bench best/ --threads 1 --runtimes torch,onnxruntime --batch-sizes 1
    """
    batch_sizes = _whole_numbers(options["batch_sizes"])
    import torch  # seconds

    from objectives.bundle_speed import time_bundle
    from objectives.latency import machine_at_hand
    from pruning.bundle import open_bundle
    from search.opening import require_device

    device = ("cuda" if torch.cuda.is_available() else "cpu") if device == "auto" else device
    require_device(device)
    if threads is not None:
        torch.set_num_threads(threads)
    opened = open_bundle(bundle, checkpoint=options["checkpoint"])
    machine = str(machine_at_hand(device, torch.get_num_threads()))
    say(f"timing on {machine}")
    speeds = time_bundle(
        opened,
        runtimes=[name.strip() for name in options["runtimes"].split(",")],
        batch_sizes=batch_sizes,
        device=device,
        seconds=options["seconds"],
        say=say,
    )
    if as_json:
        print_json({"machine": machine, "bundle": str(bundle), "speeds": [asdict(speed) for speed in speeds]})
        return
    headers = ["model", "runtime", "GFLOPs"]
    for size in batch_sizes:
        headers += [f"ms, batch {size} [quartiles]", "images/s", "times dense"]
    print_table([_row(speed, speeds) for speed in speeds], headers)


def _row(speed: Any, speeds: list[Any]) -> list[str]:
    dense = next(other for other in speeds if (other.who, other.runtime) == ("dense", speed.runtime))
    row = [speed.who, speed.runtime, f"{speed.gflops:.4g}"]
    for taken, of_dense in zip(speed.latencies, dense.latencies, strict=True):
        row += [
            f"{taken.median_ms:.2f} [{taken.low_ms:.2f}, {taken.high_ms:.2f}]",
            f"{taken.images_per_s:.1f}",
            f"{of_dense.median_ms / taken.median_ms:.2f}",
        ]
    return row


def _whole_numbers(text: str) -> list[int]:
    try:
        return [int(part) for part in text.split(",")]
    except ValueError:
        raise InvalidInput(f"--batch-sizes takes whole numbers such as 1,32, got {text!r}") from None
