"""Pictures of studies: for each, first its data, then the picture drawn from it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import plotly.graph_objects as go

from dashboard.words import layout_line, n_images_text
from objectives.metrics import METRICS, Measurement
from objectives.statistics import Estimate
from spaces import METHODS
from storage import MeasurementKind, StudyRecord, TrialRecord, TrialState
from storage.axis import CostAxis, axis_of, quantity
from storage.results import estimate_of, front_of, fronts_of, measured

__all__ = [
    "FrontData",
    "FrontPoint",
    "draw_front",
    "front_data",
    "front_page",
    "interval_bars",
    "method_style",
    "plot_front",
]

# Okabe and Ito's colours, which people with any colour vision tell apart.
_FRONT, _CONFIRMED, _DENSE, _BUDGET, _OTHERS = "#0072B2", "#D55E00", "#000000", "#CC79A7", "#9AA5B1"
# For several methods: of each a colour and a symbol, which also tell them apart without colours.
_STYLES = (
    ("#0072B2", "circle"),
    ("#E69F00", "square"),
    ("#009E73", "diamond"),
    ("#D55E00", "triangle-up"),
    ("#CC79A7", "cross"),
    ("#56B4E9", "triangle-down"),
    ("#882255", "pentagon"),
    ("#999933", "hexagram"),
)
_NEUTRAL = "#4B5563"
_STEP = "hv"  # between two points of a front, the cheaper one is what the money buys


class HasTrials(Protocol):
    """What a figure needs of a study; ``search.Study`` is one."""

    @property
    def record(self) -> StudyRecord:
        """The study."""

    def trials(self) -> list[TrialRecord]:
        """All of its trials."""

    def dense(self, kind: MeasurementKind = ...) -> Measurement | None:
        """The dense model's measurement."""


@dataclass(frozen=True)
class FrontPoint:
    """One point with its interval, and what is shown when it is pointed at."""

    number: int | None
    cost: Estimate
    estimate: Estimate
    text: str
    method: str = ""


@dataclass(frozen=True)
class FrontData:
    """What the picture of a front shows.

    Attributes:
        title: the study.
        subtitle: model, data and images.
        metric_label: of the vertical axis.
        cost_label: of the horizontal axis.
        methods: that were searched.
        by_method: whether ``front`` holds each method's own front, one behind the other, instead of all trials' one.
        front: by rising cost.
        others: measured, but not on the front.
        infeasible: measured to be over the budget, where only measuring told.
        stopped: measured on some of the images, until their race was lost.
        confirmed: front trials on the confirm images.
        dense: the model with nothing pruned.
        budget: lower and upper end, of the cost shown; ``None`` for an end that there is not.
    """

    title: str
    subtitle: str
    metric_label: str
    cost_label: str
    methods: tuple[str, ...]
    by_method: bool
    front: tuple[FrontPoint, ...]
    others: tuple[FrontPoint, ...]
    infeasible: tuple[FrontPoint, ...]
    stopped: tuple[FrontPoint, ...]
    confirmed: tuple[FrontPoint, ...]
    dense: FrontPoint | None
    budget: tuple[float | None, float | None]


def front_data(
    study: StudyRecord, trials: Sequence[TrialRecord], dense: Measurement | None, *, by_method: bool = False
) -> FrontData:
    """Collect what the picture of a study's front shows, or of each method's."""
    axis, on_front = axis_of(study), front_of(study, trials)
    if by_method:
        on_front = [trial for each in fronts_of(study, trials).values() for trial in each]
    numbers = {trial.number for trial in on_front}
    others = [trial for trial in measured(study, trials) if trial.number not in numbers]
    dense_estimate = estimate_of(dense, study.metric)
    n_images = "" if dense is None else f", {dense.n_images} search images"
    return FrontData(
        title=study.name,
        subtitle=f"{study.model} on {study.data}{n_images}, {study.sampler}, seed {study.seed}",
        metric_label=METRICS[study.metric].label,
        cost_label=axis.label,
        methods=study.methods,
        by_method=by_method,
        front=tuple(_point(study, trial, trial.measurement) for trial in on_front),
        others=tuple(_point(study, trial, trial.measurement) for trial in others),
        infeasible=_points_in(TrialState.INFEASIBLE, study, trials),
        stopped=_points_in(TrialState.STOPPED, study, trials),
        confirmed=tuple(
            _point(study, trial, trial.confirmation) for trial in on_front if trial.confirmation is not None
        ),
        dense=None if dense is None or dense_estimate is None else _dense_point(axis, dense, dense_estimate),
        budget=(axis.low, axis.high),
    )


def _dense_point(axis: CostAxis, dense: Measurement, estimate: Estimate) -> FrontPoint:
    cost = axis.of_dense(dense)
    return FrontPoint(None, cost, estimate, f"dense model<br>{quantity(cost)} {axis.unit}")


def draw_front(data: FrontData) -> go.Figure:
    """Draw a front: points with 95 % intervals, the dense model, the budget; several methods in their own colours."""
    figure = go.Figure()
    if data.stopped:
        figure.add_trace(
            _scatter("stopped early", data.stopped, _OTHERS, size=5, symbol="x", opacity=0.4, intervals=False)
        )
    if data.infeasible:
        name = f"over the budget ({len(data.infeasible)})"
        figure.add_trace(
            _scatter(name, data.infeasible, _OTHERS, size=6, symbol="circle-x-open", opacity=0.5, intervals=False)
        )
    if len(data.methods) > 1:
        figure.add_traces(list(_methods_traces(data)))
    else:
        figure.add_traces(list(_front_traces(data)))
    if data.dense is not None:
        figure.add_trace(_scatter("dense model", (data.dense,), _DENSE, size=14, symbol="star"))
    _draw_budget(figure, data.budget, _NEUTRAL if len(data.methods) > 1 else _BUDGET)
    figure.update_layout(
        template="plotly_white",
        title={"text": f"{data.title}<br><sup>{data.subtitle}</sup>"},
        xaxis={"title": data.cost_label, "zeroline": False},
        yaxis={"title": f"{data.metric_label}, with 95 % interval", "zeroline": False},
        legend={"orientation": "h", "yref": "container", "yanchor": "bottom", "y": 0.01, "x": 0},
        hovermode="closest",
        margin={"t": 80, "r": 30},
    )
    return figure


def front_page(figure: go.Figure) -> str:
    """Make one HTML file of a figure that needs nothing from outside."""
    page: str = figure.to_html(
        include_plotlyjs=True, full_html=True, default_height="95vh", config={"displaylogo": False}
    )
    return page


def plot_front(study: HasTrials, *, by_method: bool = False) -> go.Figure:
    """Draw the front of a study, or each method's, as a notebook holds it."""
    return draw_front(front_data(study.record, study.trials(), study.dense(), by_method=by_method))


def _front_traces(data: FrontData) -> Iterator[go.Scatter]:
    yield _scatter("measured", data.others, _OTHERS, size=6, opacity=0.55, intervals=False)
    yield _front_line(data.front, _FRONT)
    yield _scatter("front, search images", data.front, _FRONT, size=9)
    if data.confirmed:
        yield _scatter("front, unseen images", data.confirmed, _CONFIRMED, size=10, symbol="diamond-open")


def _methods_traces(data: FrontData) -> Iterator[go.Scatter]:
    """Draw each method in its colour and symbol: faint beside the front, filled on it, open on unseen images."""
    if not data.by_method:
        yield _front_line(data.front, _NEUTRAL)
    for method in data.methods:
        color, symbol = method_style(method, data.methods)
        front, others, confirmed = (
            [point for point in points if point.method == method]
            for points in (data.front, data.others, data.confirmed)
        )
        parts = [_scatter(method, others, color, size=5, symbol=symbol, opacity=0.4, intervals=False)]
        if data.by_method:
            parts.append(_front_line(front, color))
        parts.append(_scatter(method, front, color, size=9, symbol=symbol))
        parts.append(_scatter(method, confirmed, color, size=11, symbol=f"{symbol}-open"))
        for part in parts:
            yield part.update(legendgroup=method, showlegend=False)
        # Of its own, since a method without a point on the front has a place in the legend too.
        yield _key(method, color, symbol, size=9).update(legendgroup=method)
    if data.confirmed:
        yield _key("open: on unseen images", _OTHERS, "circle-open", size=11)
    yield _key("faint: measured, not on the front", _OTHERS, "circle", size=5)


def _points_in(state: TrialState, study: StudyRecord, trials: Sequence[TrialRecord]) -> tuple[FrontPoint, ...]:
    """Collect the trials in a state whose cost is known, each candidate once."""
    axis = axis_of(study)
    found = (trial for trial in trials if trial.state is state and trial.duplicate_of is None and axis.is_known(trial))
    return tuple(_point(study, trial, trial.measurement) for trial in found)


def _point(study: StudyRecord, trial: TrialRecord, measurement: Measurement | None) -> FrontPoint:
    axis, estimate = axis_of(study), estimate_of(measurement, study.metric)
    if measurement is None or estimate is None:
        raise ValueError(f"trial {trial.number} was not measured")
    layers, cost = layout_line(trial.config).replace(" | ", "<br>"), axis.of(trial, measurement)
    text = f"trial {trial.number}, {trial.method}<br>{layers}<br>{n_images_text(measurement)} images"
    return FrontPoint(trial.number, cost, estimate, f"{text}<br>{quantity(cost)} {axis.unit}", trial.method)


def _scatter(
    name: str,
    points: Sequence[FrontPoint],
    color: str,
    *,
    size: int,
    symbol: str = "circle",
    opacity: float = 1.0,
    intervals: bool = True,
) -> go.Scatter:
    return go.Scatter(
        name=name,
        mode="markers",
        x=[point.cost.value for point in points],
        y=[point.estimate.value for point in points],
        error_x=interval_bars([point.cost for point in points]) if intervals else None,
        error_y=interval_bars([point.estimate for point in points]) if intervals else None,
        marker={"color": color, "size": size, "symbol": symbol, "opacity": opacity},
        # Lists, not arrays: with arrays plotly loses the identity of the point that is clicked.
        customdata=[[point.number] for point in points],
        text=[point.text for point in points],
        hovertemplate="%{text}<br><b>%{y:.2f}</b><extra></extra>",
    )


def method_style(method: str, methods: Sequence[str]) -> tuple[str, str]:
    """Give a method its colour and symbol, the same in every picture."""
    names = list(dict.fromkeys([*METHODS, *methods]))
    return _STYLES[names.index(method) % len(_STYLES)]


def _key(name: str, color: str, symbol: str, *, size: int) -> go.Scatter:
    """Explain a kind of points in the legend."""
    marker = {"color": color, "size": size, "symbol": symbol}
    return go.Scatter(name=name, mode="markers", x=[None], y=[None], marker=marker, hoverinfo="skip")


def _draw_budget(figure: go.Figure, ends: tuple[float | None, float | None], color: str) -> None:
    if ends[1] is None:
        return
    for end in ends:
        if end is not None:
            figure.add_vline(x=end, line={"color": color, "dash": "dash", "width": 1.5})
    figure.add_annotation(
        x=ends[1],
        y=1,
        yref="paper",
        text="budget",
        showarrow=False,
        xanchor="right",
        yanchor="top",
        xshift=-4,
        font={"color": color},
    )


def _front_line(points: Sequence[FrontPoint], color: str) -> go.Scatter:
    return go.Scatter(
        mode="lines",
        x=[point.cost.value for point in points],
        y=[point.estimate.value for point in points],
        line={"color": color, "shape": _STEP, "width": 2},
        hoverinfo="skip",
        showlegend=False,
    )


def interval_bars(estimates: Sequence[Estimate]) -> dict[str, Any]:
    """Say in plotly's terms how far intervals reach to both sides; nowhere, where there is none."""
    return {
        "type": "data",
        "symmetric": False,
        "array": [0.0 if each.high is None else each.high - each.value for each in estimates],
        "arrayminus": [0.0 if each.low is None else each.value - each.low for each in estimates],
        "thickness": 1.2,
        "width": 3,
        "visible": any(each.low is not None for each in estimates),
    }
