"""Pictures of studies: for each, first its data, then the picture drawn from it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import plotly.graph_objects as go

from objectives.metrics import METRICS, Measurement
from objectives.statistics import Estimate
from storage import MeasurementKind, StudyRecord, TrialRecord, TrialState
from storage.results import estimate_of, front_of, measured

__all__ = ["FrontData", "FrontPoint", "draw_front", "front_data", "front_page", "plot_front"]

# Okabe and Ito's colours, which people with any colour vision tell apart.
_FRONT, _CONFIRMED, _DENSE, _BUDGET, _OTHERS = "#0072B2", "#D55E00", "#000000", "#CC79A7", "#9AA5B1"
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
    gflops: float
    estimate: Estimate
    text: str


@dataclass(frozen=True)
class FrontData:
    """What the picture of a front shows.

    Attributes:
        title: the study.
        subtitle: model, data and images.
        metric_label: of the vertical axis.
        front: by rising cost.
        others: measured, but not on the front.
        stopped: measured on some of the images, until their race was lost.
        confirmed: front trials on the confirm images.
        dense: the model with nothing pruned.
        budget_gflops: lower and upper end; the lower is ``None`` for a single budget.
    """

    title: str
    subtitle: str
    metric_label: str
    front: tuple[FrontPoint, ...]
    others: tuple[FrontPoint, ...]
    stopped: tuple[FrontPoint, ...]
    confirmed: tuple[FrontPoint, ...]
    dense: FrontPoint | None
    budget_gflops: tuple[float | None, float]


def front_data(study: StudyRecord, trials: Sequence[TrialRecord], dense: Measurement | None) -> FrontData:
    """Collect what the picture of a study's front shows."""
    on_front = front_of(trials, study.metric)
    numbers = {trial.number for trial in on_front}
    others = [trial for trial in measured(trials, study.metric) if trial.number not in numbers]
    dense_estimate = estimate_of(dense, study.metric)
    n_images = "" if dense is None else f", {dense.n_images} search images"
    return FrontData(
        title=study.name,
        subtitle=f"{study.model} on {study.data}{n_images}, {study.sampler}, seed {study.seed}",
        metric_label=METRICS[study.metric].label,
        front=tuple(_point(trial, trial.measurement, study.metric) for trial in on_front),
        others=tuple(_point(trial, trial.measurement, study.metric) for trial in others),
        stopped=tuple(
            _point(trial, trial.measurement, study.metric)
            for trial in trials
            if trial.state is TrialState.STOPPED and trial.duplicate_of is None
        ),
        confirmed=tuple(
            _point(trial, trial.confirmation, study.metric) for trial in on_front if trial.confirmation is not None
        ),
        dense=None
        if dense is None or dense_estimate is None
        else FrontPoint(None, dense.gflops, dense_estimate, "dense model"),
        budget_gflops=(study.budget_low_gflops, study.budget_high_gflops),
    )


def draw_front(data: FrontData) -> go.Figure:
    """Draw a front: points with 95 % intervals, the dense model, the budget."""
    figure = go.Figure()
    if data.stopped:
        figure.add_trace(
            _scatter("stopped early", data.stopped, _OTHERS, size=5, symbol="x", opacity=0.4, intervals=False)
        )
    figure.add_trace(_scatter("measured", data.others, _OTHERS, size=6, opacity=0.55, intervals=False))
    figure.add_trace(_front_line(data.front))
    figure.add_trace(_scatter("front, search images", data.front, _FRONT, size=9))
    if data.confirmed:
        figure.add_trace(_scatter("front, unseen images", data.confirmed, _CONFIRMED, size=10, symbol="diamond-open"))
    if data.dense is not None:
        figure.add_trace(_scatter("dense model", (data.dense,), _DENSE, size=14, symbol="star"))
    for end in data.budget_gflops:
        if end is not None:
            figure.add_vline(x=end, line={"color": _BUDGET, "dash": "dash", "width": 1.5})
    figure.add_annotation(
        x=data.budget_gflops[1],
        y=1,
        yref="paper",
        text="budget",
        showarrow=False,
        xanchor="right",
        yanchor="top",
        xshift=-4,
        font={"color": _BUDGET},
    )
    figure.update_layout(
        template="plotly_white",
        title={"text": f"{data.title}<br><sup>{data.subtitle}</sup>"},
        xaxis={"title": "GFLOPs an image (one multiply-add counts one)", "zeroline": False},
        yaxis={"title": f"{data.metric_label}, with 95 % interval", "zeroline": False},
        legend={"orientation": "h", "yanchor": "top", "y": -0.16, "x": 0},
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


def plot_front(study: HasTrials) -> go.Figure:
    """Draw the front of a study as a notebook holds it."""
    return draw_front(front_data(study.record, study.trials(), study.dense()))


def _point(trial: TrialRecord, measurement: Measurement | None, metric: str) -> FrontPoint:
    estimate = estimate_of(measurement, metric)
    if measurement is None or estimate is None:
        raise ValueError(f"trial {trial.number} was not measured")
    where = "inside" if "inside" in trial.config else "after"
    layers = "<br>".join(
        f"{where} {place}: keep {rate:.3f}"
        for place, rate in zip(trial.config.get(where, ()), trial.config.get("keep_rate", ()), strict=False)
    )
    text = f"trial {trial.number}, {trial.method}<br>{layers}<br>{measurement.n_images} images"
    return FrontPoint(trial.number, trial.gflops, estimate, text)


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
    error = {
        "type": "data",
        "symmetric": False,
        "array": [_above(point.estimate) for point in points],
        "arrayminus": [_below(point.estimate) for point in points],
        "thickness": 1.2,
        "width": 3,
    }
    return go.Scatter(
        name=name,
        mode="markers",
        x=[point.gflops for point in points],
        y=[point.estimate.value for point in points],
        error_y=error if intervals else None,
        marker={"color": color, "size": size, "symbol": symbol, "opacity": opacity},
        # Lists, not arrays: with arrays plotly loses the identity of the point that is clicked.
        customdata=[[point.number] for point in points],
        text=[point.text for point in points],
        hovertemplate="%{text}<br><b>%{y:.2f}</b> at %{x:.4g} GFLOPs<extra></extra>",
    )


def _front_line(points: Sequence[FrontPoint]) -> go.Scatter:
    return go.Scatter(
        mode="lines",
        x=[point.gflops for point in points],
        y=[point.estimate.value for point in points],
        line={"color": _FRONT, "shape": _STEP, "width": 2},
        hoverinfo="skip",
        showlegend=False,
    )


def _above(estimate: Estimate) -> float:
    return 0.0 if estimate.high is None else estimate.high - estimate.value


def _below(estimate: Estimate) -> float:
    return 0.0 if estimate.low is None else estimate.value - estimate.low
