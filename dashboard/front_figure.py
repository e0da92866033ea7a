"""The front of a study that may be growing: a figure, and what to add to it as points arrive."""

from __future__ import annotations

import html
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import plotly.graph_objects as go
from dash import Patch

from dashboard.figures import interval_bars, method_style
from dashboard.snapshot import Point, StudySnapshot
from dashboard.theme import Theme
from objectives.metrics import METRICS, Measurement
from storage.results import estimate_of

__all__ = ["MAX_SVG_POINTS", "Look", "chosen_patch", "colour_choices", "front_figure", "growth"]

MAX_SVG_POINTS = 5_000
_SVG_IS_ENOUGH = 1_500  # points up to which SVG is as quick, and sharper
_SIZES = ((5_000, 6.0), (30_000, 4.5), (math.inf, 3.0))  # of points, in pixels, by how many there are at most
_METHOD, _TIME = "method", "trial"
_STOPPED, _MEASURED, _NEW_STOPPED, _NEW_MEASURED, _LINE, _FRONT, _CONFIRMED, _DENSE, _CHOSEN = range(9)
_OUT = "stopped early, or over the budget"


@dataclass(frozen=True)
class Look:
    """How a front is to be drawn.

    Attributes:
        theme: its colours.
        colour: what points are coloured by: nothing, ``method``, ``trial`` (the sampler's time), or a parameter.
        has_webgl: whether the browser can draw many points quickly.
    """

    theme: Theme
    colour: str | None = None
    has_webgl: bool = True


def colour_choices(parameters: Iterable[str]) -> list[str]:
    """Name what points can be coloured by, where these are drawn for each."""
    return [_METHOD, _TIME, *(name for name in parameters if name not in (_METHOD, _TIME))]


def front_figure(snapshot: StudySnapshot, dense: Measurement | None, look: Look) -> tuple[go.Figure, int]:
    """Draw a study.

    Returns:
        The figure, and how many of its points are drawn: all, but without WebGL at most some thousands.
    """
    measured, stopped = list(snapshot.measured), list(snapshot.stopped)
    n_points = len(measured) + len(stopped)
    scatter: Any = go.Scattergl if look.has_webgl and n_points > _SVG_IS_ENOUGH else go.Scatter
    if not look.has_webgl:
        measured = _sample(measured, MAX_SVG_POINTS)
        stopped = _sample(stopped, MAX_SVG_POINTS - len(measured))
    theme, label = look.theme, METRICS[snapshot.study.metric].label
    figure = go.Figure(layout=theme.layout(uirevision=snapshot.study.name, showlegend=True))
    colours = _Colours(snapshot, look)
    size = _size(len(measured) + len(stopped))
    grey = {"color": theme.points, "size": size, "symbol": "x", "opacity": 0.45}
    figure.add_trace(_cloud(scatter, _OUT, stopped, grey))
    figure.add_trace(_cloud(scatter, "measured", measured, {"size": size, **colours.marker(measured), **colours.bar()}))
    figure.add_trace(_growing(_OUT, grey))
    figure.add_trace(_growing("measured", {"size": size, **colours.marker([])}))
    figure.add_trace(go.Scatter(mode="lines", hoverinfo="skip", showlegend=False))
    filled = {"size": 9, "color": theme.front, "line": {"width": 1, "color": theme.ground}}
    figure.add_trace(_marks("front", filled, with_intervals=True))
    open_diamond = {"size": 10, "color": theme.confirmed, "symbol": "diamond-open"}
    figure.add_trace(_marks("front on unseen images", open_diamond, with_intervals=True))
    figure.add_trace(_marks("dense model", {"size": 14, "color": theme.dense, "symbol": "star"}))
    ring = {"size": 18, "color": "rgba(0,0,0,0)", "line": {"width": 2.5, "color": theme.chosen}}
    figure.add_trace(_marks("chosen", ring))
    # Of categories each has an entry of its own, and the ring is explained by the card that says what is chosen.
    figure.data[_MEASURED].showlegend = colours.legend() == []
    figure.data[_CHOSEN].showlegend = False
    figure.add_traces(colours.legend())
    for index, values in _front_values(snapshot).items():
        figure.data[index].update(values)
    figure.data[_LINE].line = {"color": theme.front, "width": 2, "shape": "hv"}
    estimate = estimate_of(dense, snapshot.study.metric)
    if dense is not None and estimate is not None:
        figure.data[_DENSE].update(x=[snapshot.axis.of_dense(dense).value], y=[estimate.value])
    hover = f"trial %{{customdata}}<br><b>%{{y:.2f}}</b> at %{{x:.4g}} {snapshot.axis.unit}<extra></extra>"
    figure.update_traces(hovertemplate=hover, selector=lambda trace: trace.customdata is not None)
    _draw_budget(figure, snapshot, theme)
    figure.update_xaxes(title={"text": html.escape(snapshot.axis.label)})
    figure.update_yaxes(title={"text": f"{html.escape(label)}, with 95 % interval"})
    if snapshot.measured and snapshot.study.owner is None:  # while it grows, plotly makes room for what comes
        x_range, y_range = _ranges(snapshot, estimate.value if estimate else None)
        figure.update_xaxes(range=x_range)
        figure.update_yaxes(range=y_range)
    return figure, len(measured) + len(stopped)


def growth(snapshot: StudySnapshot, look: Look, n_measured: int, n_stopped: int) -> Patch:
    """Give what a figure lacks that was drawn of the first so many points; its zoom stays as it is.

    All that came since the figure was drawn, not since the last time: so it does no harm to be told twice.
    """
    patch = Patch()
    measured, stopped = snapshot.measured[n_measured:], snapshot.stopped[n_stopped:]
    for index, points in ((_NEW_MEASURED, measured), (_NEW_STOPPED, stopped)):
        trace = patch["data"][index]
        trace["x"] = [point.cost for point in points]
        trace["y"] = [point.value for point in points]
        trace["customdata"] = [point.number for point in points]
    for name, value in _Colours(snapshot, look).marker(measured).items():
        patch["data"][_NEW_MEASURED]["marker"][name] = value
    for index, values in _front_values(snapshot).items():
        for name, value in values.items():
            patch["data"][index][name] = value
    return patch


def chosen_patch(point: Point | None) -> Patch:
    """Put the ring around a trial, or take it away."""
    patch = Patch()
    patch["data"][_CHOSEN]["x"] = [] if point is None else [point.cost]
    patch["data"][_CHOSEN]["y"] = [] if point is None else [point.value]
    return patch


class _Colours:
    """What colour each point has: one for all, or a number for each on a scale of their own.

    Categories are numbers, too, on a scale of steps: an array of them is little for a browser to read, and a hundred
    thousand names of colours are not.
    """

    def __init__(self, snapshot: StudySnapshot, look: Look) -> None:
        self._snapshot, self._theme, self._by = snapshot, look.theme, look.colour
        self._categories: dict[str, str] | None = None  # each one's colour; their numbers are their places here
        if look.colour == _METHOD:
            methods = snapshot.study.methods
            self._categories = {method: method_style(method, methods)[0] for method in methods}
        elif look.colour not in (None, "", _TIME):
            drawn = self._drawn(snapshot.measured)
            if not all(isinstance(value, int | float | None) for value in drawn[:200]):
                found = dict.fromkeys(map(str, drawn))
                self._categories = {name: _nth_colour(n) for n, name in enumerate(found)}

    def marker(self, points: Sequence[Point]) -> dict[str, Any]:
        """Give a trace's marker."""
        marker: dict[str, Any] = {"opacity": 0.85 if self._by else 0.7, "color": self.values(points)}
        if self._categories is not None:
            return marker | _steps(list(self._categories.values()))
        if self._by:
            known = [value for value in self.values(self._snapshot.measured) if value is not None] or [0.0]
            marker |= {"colorscale": self._theme.scale, "cmin": min(known), "cmax": max(known)}
        return marker

    def bar(self) -> dict[str, Any]:
        """Explain numbers, in a marker of the one trace that does."""
        if not self._by or self._categories is not None or not self._snapshot.measured:
            return {}
        title = {"text": html.escape(self._by), "side": "right"}
        return {"colorbar": {"title": title, "thickness": 10, "outlinewidth": 0, "len": 0.9}}

    def values(self, points: Sequence[Point]) -> Any:
        """Give the colour of all points, or the number that stands for each one's."""
        if not self._by:
            return self._theme.points
        if self._by == _TIME:
            return [point.number for point in points]
        drawn = [point.method for point in points] if self._by == _METHOD else self._drawn(points)
        if self._categories is None:
            return drawn
        numbers = {name: n for n, name in enumerate(self._categories)}
        return [numbers[str(value)] for value in drawn]

    def legend(self) -> list[go.Scatter]:
        """Explain categories in the legend."""
        return [
            go.Scatter(name=html.escape(name), mode="markers", x=[None], y=[None], marker={"color": colour, "size": 8})
            for name, colour in (self._categories or {}).items()
        ]

    def _drawn(self, points: Sequence[Point]) -> list[Any]:
        return [draw.get(str(self._by)) for draw in self._snapshot.draws([point.number for point in points])]


def _size(n_points: int) -> float:
    """Choose how large points are: so that many do not become one blot, which takes longer to draw as well."""
    return next(size for most, size in _SIZES if n_points <= most)


def _nth_colour(n: int) -> str:
    return f"hsl({(n * 137.508 + 205) % 360:.0f}, 60%, 55%)"  # hues as far apart as can be


def _steps(colours: list[str]) -> dict[str, Any]:
    """Make a scale on which the number n has the n-th colour."""
    n = max(len(colours), 1)
    edges = [[(index + end) / n, colour] for index, colour in enumerate(colours) for end in (0, 1)]
    return {"colorscale": edges, "cmin": -0.5, "cmax": n - 0.5, "showscale": False}


def _cloud(scatter: Any, name: str, points: Sequence[Point], marker: dict[str, Any]) -> Any:
    """Make a trace of arrays: lists of so many numbers take the browser seconds."""
    if isinstance(marker["color"], list):
        marker = marker | {"color": np.array(marker["color"], dtype=np.float32)}
    return scatter(
        name=name,
        mode="markers",
        x=np.array([point.cost for point in points], dtype=np.float32),
        y=np.array([point.value for point in points], dtype=np.float32),
        # Which of them is clicked Dash does not say of an array: assets/prunefront.js does.
        customdata=np.array([point.number for point in points], dtype=np.int32),
        marker=marker,
    )


def _growing(name: str, marker: dict[str, Any]) -> go.Scatter:
    """Make a trace of lists, which alone can be added to in the browser."""
    return go.Scatter(name=name, mode="markers", x=[], y=[], customdata=[], marker=marker, showlegend=False)


def _marks(name: str, marker: dict[str, Any], *, with_intervals: bool = False) -> go.Scatter:
    trace = go.Scatter(name=name, mode="markers", x=[], y=[], customdata=[], marker=marker)
    if with_intervals:
        bars = {"type": "data", "symmetric": False, "thickness": 1.2, "width": 3, "color": marker["color"]}
        trace.update(error_x=bars, error_y=bars)
    return trace


def _front_values(snapshot: StudySnapshot) -> dict[int, dict[str, Any]]:
    """Give what changes with the front: by trace, its properties."""
    front = list(snapshot.front)
    confirmed = [snapshot.confirmed[point.number] for point in front if point.number in snapshot.confirmed]
    values: dict[int, dict[str, Any]] = {
        _LINE: {"x": [point.cost for point in front], "y": [point.value for point in front]}
    }
    for index, points in ((_FRONT, front), (_CONFIRMED, confirmed)):
        values[index] = {
            "x": [point.cost for point in points],
            "y": [point.value for point in points],
            "customdata": [point.number for point in points],
            "error_x": interval_bars([point.cost_estimate for point in points]),
            "error_y": interval_bars([point.estimate for point in points]),
        }
    return values


def _draw_budget(figure: go.Figure, snapshot: StudySnapshot, theme: Theme) -> None:
    if snapshot.axis.high is None:
        return
    for end in (snapshot.axis.low, snapshot.axis.high):
        if end is not None:
            figure.add_vline(x=end, line={"color": theme.budget, "dash": "dash", "width": 1.5})
    figure.add_annotation(
        x=snapshot.axis.high, y=0, yref="paper", text="budget", showarrow=False,
        xanchor="right", yanchor="bottom", xshift=-4, font={"color": theme.budget},
    )  # fmt: skip


def _ranges(snapshot: StudySnapshot, dense: float | None) -> tuple[list[float], list[float]]:
    """Choose what is seen at first: all costs, and all but the worst of what was measured; more by zooming out."""
    axis = snapshot.axis
    low_cost = min(point.cost for point in snapshot.measured)
    high_cost = max(axis.dense, axis.high or 0.0)
    low = float(np.quantile([point.value for point in snapshot.measured], 0.03))
    high = max([dense or low, *(point.high or point.value for point in snapshot.front)])
    pad_x, pad = 0.05 * (high_cost - low_cost), 0.08 * max(high - low, 1.0)
    return [low_cost - pad_x, high_cost + pad_x], [low - pad, high + pad]


def _sample(points: list[Point], n: int) -> list[Point]:
    """Take at most so many, evenly."""
    if len(points) <= n:
        return points
    return [points[index] for index in np.linspace(0, len(points) - 1, max(n, 0)).astype(int)]
