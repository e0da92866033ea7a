"""Pictures of studies beside their fronts: how they went, what mattered, and several together."""

from __future__ import annotations

import html
from collections.abc import Sequence
from typing import Any

import numpy as np
import plotly.graph_objects as go

from dashboard.importance import importances
from dashboard.snapshot import Point, StudySnapshot
from dashboard.theme import Theme
from objectives.metrics import GFLOPS, METRICS

__all__ = ["comparison_figure", "history_figure", "importance_figure", "parallel_figure", "reference_of"]

_N_PARALLEL = 2_000
_N_PARALLEL_SVG = 250
_N_IMPORTANT = 12
_COLOURS = ("#0b6bcb", "#d97706", "#0f9d76", "#c0397b", "#7c5cd6", "#4d8fa8", "#a33b2f", "#7d8b1a")


def history_figure(snapshot: StudySnapshot, theme: Theme) -> go.Figure | None:
    """Draw how the best and the hypervolume rose with the trials; ``None`` where nothing was measured yet."""
    milestones = list(snapshot.history.milestones)
    if not milestones:
        return None
    n_now = max(snapshot.n_finished, 1)
    counts = [milestone.n_finished for milestone in milestones] + [n_now]
    label = METRICS[snapshot.study.metric].label
    figure = go.Figure(layout=theme.layout(uirevision="history", margin={"r": 64}))
    for name, axis, colour, values in (
        (f"best {html.escape(label)}", "y", theme.front, [milestone.best for milestone in milestones]),
        ("hypervolume", "y2", theme.confirmed, [milestone.hypervolume for milestone in milestones]),
    ):
        line = {"color": colour, "shape": "hv", "width": 2}
        figure.add_trace(
            go.Scatter(name=name, yaxis=axis, x=counts, y=[*values, *values[-1:]], mode="lines", line=line)
        )
    side = {"overlaying": "y", "side": "right", "showgrid": False, "tickfont": {"color": theme.muted}}
    figure.update_layout(
        yaxis2=side | {"title": {"text": f"hypervolume ({snapshot.axis.unit} x points)"}, "automargin": True}
    )
    figure.update_xaxes(title={"text": "trials finished"})
    figure.update_yaxes(title={"text": html.escape(label)}, selector={"side": None})
    return figure


def importance_figure(snapshot: StudySnapshot, theme: Theme) -> go.Figure | None:
    """Draw how much of the metric goes with each parameter; ``None`` where too little is known."""
    points = list(snapshot.measured)
    draws = snapshot.draws([point.number for point in points])
    shares = dict(list(importances(draws, [point.value for point in points]).items())[:_N_IMPORTANT])
    if not shares:
        return None
    names = list(shares)[::-1]
    figure = go.Figure(layout=theme.layout(margin={"l": 140, "t": 8}, hovermode=False, bargap=0.35))
    figure.add_trace(
        go.Bar(
            x=[100 * shares[name] for name in names],
            y=[html.escape(name) for name in names],
            orientation="h",
            marker={"color": theme.front, "line": {"width": 0}},
            text=[f"{100 * shares[name]:.0f} %" for name in names],
            textposition="outside",
            cliponaxis=False,
        )
    )
    figure.update_xaxes(title={"text": "share of the metric's variance that goes with the parameter alone (%)"})
    figure.update_xaxes(range=[0, max(5.0, 115 * max(shares.values()))])
    return figure


def parallel_figure(snapshot: StudySnapshot, theme: Theme, *, has_webgl: bool) -> tuple[go.Figure | None, int]:
    """Draw parameters as parallel axes, a line for each trial: the front's, and a sample of the others.

    Returns:
        The figure, ``None`` where nothing was measured yet; and the number of trials drawn.
    """
    points = _sampled(snapshot, _N_PARALLEL if has_webgl else _N_PARALLEL_SVG)
    if len(points) < 2:
        return None, len(points)
    draws = snapshot.draws([point.number for point in points])
    label = METRICS[snapshot.study.metric].label
    columns: dict[str, list[Any]] = {name: [draw.get(name) for draw in draws] for name in draws[0]}
    columns[_cost_name(snapshot)] = [point.cost for point in points]
    columns[label] = [point.value for point in points]
    dimensions = [_dimension(name, values) for name, values in columns.items() if len(set(map(str, values))) > 1]
    draw = _parcoords if has_webgl else _polylines
    return draw(dimensions, columns[label], theme), len(points)


def comparison_figure(snapshots: Sequence[StudySnapshot], theme: Theme) -> go.Figure:
    """Draw the fronts of several studies over each other."""
    figure = go.Figure(layout=theme.layout(uirevision="compare", showlegend=True))
    for index, snapshot in enumerate(snapshots):
        front, colour = list(snapshot.front), _COLOURS[index % len(_COLOURS)]
        errors = {
            "array": [(point.high or point.value) - point.value for point in front],
            "arrayminus": [point.value - (point.value if point.low is None else point.low) for point in front],
        }
        figure.add_trace(
            go.Scatter(
                name=html.escape(snapshot.study.name),
                mode="lines+markers",
                x=[point.cost for point in front],
                y=[point.value for point in front],
                error_y={"type": "data", "symmetric": False, "thickness": 1, "width": 2, **errors},
                line={"shape": "hv", "color": colour, "width": 2},
                marker={"size": 7, "color": colour},
                customdata=[point.number for point in front],
                hovertemplate=f"trial %{{customdata}}<br><b>%{{y:.2f}}</b> at %{{x:.4g}} {snapshot.axis.unit}",
            )
        )
    labels = dict.fromkeys(METRICS[snapshot.study.metric].label for snapshot in snapshots)
    costs = dict.fromkeys(snapshot.axis.label for snapshot in snapshots)
    figure.update_xaxes(title={"text": html.escape(", ".join(costs))})
    figure.update_yaxes(title={"text": html.escape(", ".join(labels))})
    return figure


def reference_of(snapshots: Sequence[StudySnapshot]) -> tuple[float, float]:
    """Give the point up to which several studies' hypervolumes are measured: the dearest dense model, at 0 %."""
    return max(snapshot.axis.dense for snapshot in snapshots), 0.0


def _cost_name(snapshot: StudySnapshot) -> str:
    return "GFLOPs" if snapshot.axis.cost == GFLOPS else "latency (ms)"


def _sampled(snapshot: StudySnapshot, n: int) -> list[Point]:
    """Take the front, and others evenly."""
    points = list(snapshot.measured)
    if len(points) > n:
        points = [points[index] for index in np.linspace(0, len(points) - 1, n).astype(int)]
    return list({point.number: point for point in [*snapshot.front, *points]}.values())


def _dimension(name: str, values: list[Any]) -> dict[str, Any]:
    """Make an axis: of numbers, or of choices that are numbered."""
    label = html.escape(name)
    if all(isinstance(value, int | float) and not isinstance(value, bool) for value in values):
        return {"label": label, "values": values}
    choices = sorted({str(value) for value in values})
    numbered = [choices.index(str(value)) for value in values]
    texts = [html.escape(choice) for choice in choices]
    return {"label": label, "values": numbered, "tickvals": list(range(len(choices))), "ticktext": texts}


def _parcoords(dimensions: list[dict[str, Any]], metric: list[float], theme: Theme) -> go.Figure:
    low, high = np.quantile(metric, [0.1, 1.0])
    line = {"color": metric, "colorscale": theme.scale, "cmin": low, "cmax": high}
    figure = go.Figure(layout=theme.layout(margin={"l": 60, "r": 60, "t": 56, "b": 24}))
    figure.add_trace(
        go.Parcoords(
            dimensions=dimensions,
            line=line,
            labelangle=-20 if len(dimensions) > 8 else 0,
            labelfont={"color": theme.ink, "size": 11},
            tickfont={"color": theme.muted, "size": 10},
            rangefont={"color": theme.muted, "size": 10},
            unselected={"line": {"color": theme.grid, "opacity": 0.25}},
        )
    )
    return figure


def _polylines(dimensions: list[dict[str, Any]], metric: list[float], theme: Theme) -> go.Figure:
    """Draw the same without WebGL: each axis from 0 to 1, the better half of the trials in colour."""
    scaled = []
    for dimension in dimensions:
        values = np.asarray(dimension["values"], dtype=np.float64)
        spread = float(np.ptp(values)) or 1.0
        scaled.append((values - values.min()) / spread)
    better = np.asarray(metric) >= np.median(metric)
    figure = go.Figure(layout=theme.layout(showlegend=True, hovermode=False))
    for name, chosen, colour in (
        ("the other half", ~better, theme.grid),
        ("the better half of the trials", better, theme.front),
    ):
        y = np.array(scaled)[:, chosen]
        gaps = np.vstack([y, np.full((1, y.shape[1]), np.nan)]).T.ravel()
        x = np.tile([*range(len(scaled)), np.nan], y.shape[1])
        line = {"color": colour, "width": 0.8}
        figure.add_trace(go.Scatter(name=name, mode="lines", x=x, y=gaps, line=line, opacity=0.6))
    labels = [dimension["label"] for dimension in dimensions]
    figure.update_xaxes(tickvals=list(range(len(labels))), ticktext=labels)
    figure.update_yaxes(title={"text": "from each axis's least to its most"}, showticklabels=False)
    return figure
