"""One trial in short, beside its study's front."""

from __future__ import annotations

from typing import Any

from dash import dcc, html

from dashboard.pages.parts import api_path, badge, card, facts, trial_path
from dashboard.theme import Theme
from dashboard.trial_figures import staircase_figure, staircase_of
from dashboard.words import gflops_text, layout_line, with_interval
from objectives.metrics import METRICS
from spaces import Architecture
from storage import StudyRecord, TrialRecord, TrialState
from storage.axis import quantity
from storage.results import estimate_of

__all__ = ["exports", "trial_card"]


def trial_card(study: StudyRecord, trial: TrialRecord, theme: Theme, *, how: str) -> html.Section:
    """Show what a trial costs and reaches, and its tokens block by block."""
    architecture = Architecture.model_validate(study.spec["architecture"])
    figure = staircase_figure(staircase_of(trial, architecture), theme, is_small=True)
    label = METRICS[study.metric].label
    cost = gflops_text(trial.gflops, trial.measurement)
    n_images, latency = None, None
    if trial.measurement is not None:
        n_images, latency = trial.measurement.n_images, trial.measurement.latency_ms
    return card(
        html.Div(
            [html.H2(["Trial ", trial.number], id="trial-card-title"), badge(trial.state.value)], className="title"
        ),
        html.P(how, className="muted"),
        facts(
            [
                (label, with_interval(estimate_of(trial.measurement, study.metric))),
                ("on unseen images", _or_none(with_interval(estimate_of(trial.confirmation, study.metric)))),
                ("cost", f"{cost} GFLOPs, {trial.gflops / study.dense_gflops:.1%} of dense"),
                ("latency", None if latency is None else f"{quantity(latency)} ms for one image"),
                ("images", n_images),
                ("layout", f"{trial.method}: {layout_line(trial.config)}"),
                ("failed", trial.error),
            ]
        ),
        dcc.Graph(figure=figure, config={"displayModeBar": False}, className="figure small", id="trial-card-tokens"),
        html.Div(
            [
                dcc.Link("Open", href=trial_path(study.name, trial.number), className="button primary"),
                *exports(study, trial),
            ],
            className="actions",
        ),
    )


def exports(study: StudyRecord, trial: TrialRecord) -> list[Any]:
    """Offer a layout as a file; of a stopped or failed trial there is none."""
    if trial.state is not TrialState.COMPLETE:
        return []
    place = f"{api_path(study.name)}/trials/{trial.number}/layout"
    return [
        html.A(kind.upper(), href=f"{place}.{kind}", download="", className="button", id=f"export-{kind}")
        for kind in ("json", "yaml")
    ]


def _or_none(text: str) -> str | None:
    return None if text == "-" else text
