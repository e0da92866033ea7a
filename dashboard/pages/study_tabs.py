"""What stands below a study's front: its table, its history, its parameters, its log, its settings."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import plotly.graph_objects as go
from dash import dcc, html

from dashboard.desk import Desk
from dashboard.pages.parts import GRAPH_CONFIG, card, empty, facts, long_table, trial_path
from dashboard.snapshot import StudySnapshot
from dashboard.study_figures import history_figure, importance_figure, parallel_figure
from dashboard.theme import Theme
from dashboard.words import layout_line, with_interval
from objectives.metrics import METRICS
from storage.axis import quantity, timing_of
from storage.results import estimate_of

__all__ = ["FRONT_TABLE", "TABS", "flat", "log_text", "tab_content"]

TABS = {
    "front": "Front",
    "history": "History",
    "importance": "Importance",
    "parallel": "Parallel coordinates",
    "log": "Log",
    "about": "Settings",
}
FRONT_TABLE = "study-front-table"
_N_LINES = 400


def tab_content(desk: Desk, name: str, tab: str, theme: Theme, *, has_webgl: bool) -> Any:
    """Make what a tab shows."""
    if tab == "front":
        return _front(desk, name)
    if tab == "log":
        return _log(desk, name)
    if tab == "about":
        return _about(desk, name)
    figure, hint = _drawn(desk.snapshot(name), tab, theme, has_webgl=has_webgl)
    if figure is None:
        return empty(hint)
    return [_figure(figure, "tall" if tab == "parallel" else ""), html.P(hint, className="muted")]


def _drawn(snapshot: StudySnapshot, tab: str, theme: Theme, *, has_webgl: bool) -> tuple[go.Figure | None, str]:
    """Give a tab's figure and a line below it; or ``None``, and why there is none."""
    if tab == "history":
        cost, merit = snapshot.history.reference
        end = f"{cost:.4g} {snapshot.axis.unit} (dense) and {merit:g} %"
        hint = f"Hypervolume: the area that the front covers up to {end}."
        return history_figure(snapshot, theme), hint if snapshot.history.milestones else "No trial is measured yet."
    if tab == "importance":
        figure = importance_figure(snapshot, theme)
        hint = "Of parameters taken one at a time: one that matters only together with another shows little here."
        if figure is None:
            hint = "At least ten measured trials are needed, and some difference between them."
        return figure, hint
    figure, n_drawn = parallel_figure(snapshot, theme, has_webgl=has_webgl)
    drag = " Drag along an axis to keep only the trials that pass there." if has_webgl else ""
    hint = f"{n_drawn:,} of {len(snapshot.measured):,} measured trials, the front among them.{drag}"
    return figure, hint if figure is not None else "At least two measured trials are needed."


def _front(desk: Desk, name: str) -> Any:
    snapshot = desk.snapshot(name)
    record, front = snapshot.study, desk.front(snapshot)
    if not front:
        return empty("No trial is measured on all images yet.")
    label, is_timed = METRICS[record.metric].label, timing_of(record) is not None
    rows: list[list[str | tuple[str, str]]] = [
        [
            (f"trial {trial.number}", trial_path(name, trial.number)),
            trial.method,
            layout_line(trial.config),
            f"{trial.gflops:.4g}",
            f"{trial.gflops / record.dense_gflops:.1%}",
            *([quantity(trial.measurement.latency_ms if trial.measurement else None)] if is_timed else []),
            with_interval(estimate_of(trial.measurement, record.metric)),
            with_interval(estimate_of(trial.confirmation, record.metric)),
        ]
        for trial in front
    ]
    costs = ["GFLOPs", "of dense", *(["latency (ms)"] if is_timed else [])]
    headers = ["", "method", "layout", *costs, f"{label}, search images", "unseen images"]
    caption = f"{len(front)} layouts that no other beats at no greater cost; 95 % intervals"
    return long_table(FRONT_TABLE, headers, rows, caption=caption, numbers=len(costs) + 2)


def _log(desk: Desk, name: str) -> Any:
    job = desk.job_of(name)
    if job is None:
        return empty("This study was not asked for through the dashboard, so its words went to its terminal.")
    return [
        dcc.Interval(id="study-log-tick", interval=2000),
        html.P([dcc.Link(f"Job {job.id}", href=f"/jobs/{job.id}"), f", {job.state.value}"], className="muted"),
        html.Pre(log_text(desk, name), className="log", tabIndex=0, id="study-log"),
    ]


def log_text(desk: Desk, name: str) -> str:
    """Give what the newest job that drives a study has said."""
    job = desk.job_of(name)
    lines = [] if job is None else desk.store.jobs.last_lines(job.id, _N_LINES)
    return "\n".join(lines) or "It has said nothing yet."


def _about(desk: Desk, name: str) -> Any:
    record = desk.store.study(name)
    origin = record.provenance
    timing = timing_of(record)
    return html.Div(
        [
            card(facts(flat(record.spec["settings"])), title="Asked for"),
            card(
                facts(
                    [
                        *([] if timing is None else [("timed on", f"{timing.machine}, {timing.machine.runtime}")]),
                        ("command", html.Code(origin.command_line)),
                        ("host", origin.host),
                        ("weights", html.Code(origin.weights_digest)),
                        ("search images", html.Code(origin.search_list_hash)),
                        ("confirm images", html.Code(origin.confirm_list_hash or "none")),
                        *origin.versions.items(),
                    ]
                ),
                title="Provenance",
            ),
        ],
        className="halves plain",
    )


def flat(values: Mapping[str, Any], prefix: str = "") -> list[tuple[str, Any]]:
    """List nested settings by their full names.

    >>> flat({"model": {"name": "x"}, "seed": 0})
    [('model.name', 'x'), ('seed', 0)]
    """
    found: list[tuple[str, Any]] = []
    for name, value in values.items():
        if isinstance(value, Mapping) and value:
            found += flat(value, f"{prefix}{name}.")
        else:
            found.append((f"{prefix}{name}", value))
    return found


def _figure(figure: go.Figure, size: str = "") -> dcc.Graph:
    return dcc.Graph(figure=figure, config=GRAPH_CONFIG, className=f"figure {size}")
