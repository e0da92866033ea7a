"""Write what was found to files: a layout that prunes a model elsewhere, and tables."""

from __future__ import annotations

import csv
import io
import json
import os
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from objectives.metrics import LATENCY, Measurement
from spaces import InvalidInput, PrunefrontError, layout_document, parse_layout
from storage.axis import timing_of
from storage.records import MeasurementKind, StudyRecord, TrialRecord, TrialState
from storage.results import estimate_of

__all__ = ["layout_of", "layout_text", "measurement_values", "table_of", "trial_as_json", "write_layout", "write_text"]

_LAYOUT_SUFFIXES = (".json", ".yaml", ".yml")


def layout_of(
    study: StudyRecord, trial: TrialRecord, dense: Mapping[MeasurementKind, Measurement | None]
) -> dict[str, Any]:
    """Make the document of a trial's layout: itself, its numbers and the dense model's, and where they come from.

    Args:
        study: of the trial.
        trial: has a layout, and what was measured of it.
        dense: what was measured of the dense model.
    """
    measured = {MeasurementKind.CONFIRM: trial.confirmation, MeasurementKind.SEARCH: trial.measurement}
    interval, timing = _interval(trial.measurement), timing_of(study)
    return layout_document(
        parse_layout(trial.config),
        model={"name": study.model, "weights_digest": study.provenance.weights_digest},
        gflops=trial.gflops,
        dense_gflops=study.dense_gflops,
        **({} if interval is None else {"gflops_interval": interval}),
        **({} if timing is None else {"timed_on": vars(timing.machine)}),
        measured=_by_images(measured),
        dense=_by_images(dense),
        study={
            "name": study.name,
            "trial": trial.number,
            "seed": study.seed,
            "sampler": study.sampler,
            "versions": dict(study.provenance.versions),
        },
    )


def _by_images(measured: Mapping[MeasurementKind, Measurement | None]) -> dict[str, Any]:
    """Write measurements under the images that they were made on."""
    names = {MeasurementKind.CONFIRM: "confirmed", MeasurementKind.SEARCH: "searched"}
    return {
        name: measurement_values(found) for kind, name in names.items() if (found := measured.get(kind)) is not None
    }


def measurement_values(measurement: Measurement) -> dict[str, Any]:
    """Flatten a measurement for people's files: each metric with its interval, the images, the cost."""
    values: dict[str, Any] = {}
    for name, estimate in measurement.values.items():
        values[name] = estimate.value
        if estimate.low is not None:
            values[f"{name}_interval"] = [estimate.low, estimate.high]
    return values | {
        "n_images": measurement.n_images,
        "image_list_hash": measurement.image_list_hash,
        "gflops": measurement.gflops,
        "tokens_per_block": list(measurement.tokens_per_block),
    }


def trial_as_json(trial: TrialRecord) -> dict[str, Any]:
    """Give a trial for programs."""
    return {
        "trial": trial.number,
        "state": trial.state.value,
        "gflops": trial.gflops,
        "is_over_budget": trial.state is TrialState.INFEASIBLE,
        "overhead_gflops": trial.overhead_gflops,
        "measured": _with_batch_size(trial.measurement),
        "confirmed": _with_batch_size(trial.confirmation),
        "duplicate_of": trial.duplicate_of,
        "stopped_against": trial.rival,
        "error": trial.error,
        "layout": dict(trial.config),
    }


def _with_batch_size(measurement: Measurement | None) -> dict[str, Any] | None:
    return None if measurement is None else measurement_values(measurement) | {"batch_size": measurement.batch_size}


def layout_text(document: Mapping[str, Any], suffix: str) -> str:
    """Write a layout document as JSON or YAML, by a file's ending.

    Raises:
        InvalidInput: another ending.
    """
    if suffix == ".json":
        return json.dumps(document, indent=2, allow_nan=False) + "\n"
    if suffix in (".yaml", ".yml"):
        return yaml.safe_dump(dict(document), sort_keys=False, allow_unicode=True)
    raise InvalidInput(f"a layout is written as .json or .yaml, got {suffix!r}")


def write_layout(document: Mapping[str, Any], path: Path) -> None:
    """Write a layout document as JSON or YAML, by the file's ending.

    Raises:
        InvalidInput: another ending.
        PrunefrontError: the file cannot be written.
    """
    if path.suffix not in _LAYOUT_SUFFIXES:
        raise InvalidInput(f"a layout is written to a .json or .yaml file, got {path}")
    write_text(layout_text(document, path.suffix), path)


def table_of(trials: Sequence[TrialRecord], metric: str) -> str:
    """Write trials as CSV: number, cost, the metric with its interval, and again on the confirm images.

    The cost has an interval too where the images decide it, and a latency where it was timed. Texts that a spreadsheet
    would take for a formula are quoted.
    """
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    of_metric = [metric, f"{metric}_low", f"{metric}_high", "n_images"]
    head = ["trial", "gflops", *of_metric, *(f"confirmed_{name}" for name in of_metric)]
    of_cost = ["gflops_low", "gflops_high", "confirmed_gflops", "confirmed_gflops_low", "confirmed_gflops_high"]
    latency = [LATENCY, f"{LATENCY}_low", f"{LATENCY}_high"]
    of_latency = [*latency, *(f"confirmed_{name}" for name in latency)]
    writer.writerow([*head, *of_cost, *of_latency, "method", "digest", "config"])
    for trial in trials:
        row: list[Any] = [trial.number, trial.gflops]
        for measurement in (trial.measurement, trial.confirmation):
            estimate = estimate_of(measurement, metric)
            if measurement is None or estimate is None:
                row += [None] * 4
            else:
                row += [estimate.value, estimate.low, estimate.high, measurement.n_images]
        cost = None if trial.confirmation is None else trial.confirmation.gflops
        row += [*(_interval(trial.measurement) or [None] * 2), cost, *(_interval(trial.confirmation) or [None] * 2)]
        row += [*_latency(trial.measurement), *_latency(trial.confirmation)]
        row += [trial.method, trial.digest, json.dumps(dict(trial.config), sort_keys=True)]
        writer.writerow([_cell(value) for value in row])
    return out.getvalue()


def _interval(measurement: Measurement | None) -> list[float | None] | None:
    """Give the ends of a measured cost's interval; ``None`` where the cost is the same for every image."""
    measured = None if measurement is None else measurement.measured_gflops
    return None if measured is None else [measured.low, measured.high]


def _latency(measurement: Measurement | None) -> list[float | None]:
    """Give a latency and the ends of its interval; nothing where nothing was timed."""
    found = None if measurement is None else measurement.latency_ms
    return [None] * 3 if found is None else [found.value, found.low, found.high]


def _cell(value: Any) -> Any:
    """Keep a text from being run as a formula; numbers stay what they are.

    >>> _cell("=HYPERLINK(A1)"), _cell("zero_tprune"), _cell(-1.5)
    ("'=HYPERLINK(A1)", 'zero_tprune', -1.5)
    """
    if not isinstance(value, str):
        return value
    quoted = f"'{value}" if value.startswith(("=", "+", "-", "@", "\t", "\r")) else value
    return quoted.replace("\r", " ")  # which readers of CSV take for the end of a row


def write_text(text: str, path: Path) -> None:
    """Write a file whole or not at all.

    Raises:
        PrunefrontError: the file cannot be written.
    """
    try:
        handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        try:
            with os.fdopen(handle, "w", encoding="utf-8") as file:
                file.write(text)
            os.chmod(temporary, 0o644)
            os.replace(temporary, path)
        except BaseException:
            os.unlink(temporary)
            raise
    except OSError as error:
        raise PrunefrontError(f"cannot write {path}: {error.strerror}") from None
