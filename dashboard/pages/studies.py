"""Studies: which there are, how they are doing, and several side by side."""

from __future__ import annotations

from typing import Any

import dash
from dash import ALL, Input, Output, State, dcc, html

from dashboard.desk import Desk
from dashboard.pages.parts import GRAPH_CONFIG, badge, card, empty, moment, progress_bar, study_path, table, trial_path
from dashboard.snapshot import StudySnapshot
from dashboard.study_figures import comparison_figure, reference_of
from dashboard.theme import theme_of
from dashboard.words import budget_text, with_interval
from objectives.metrics import METRICS
from storage.remembered import state_of

__all__ = ["layout", "register"]

_N_LISTED = 200


def layout(desk: Desk) -> html.Div:
    """Make the page."""
    return html.Div(
        [
            html.Div([html.H1("Studies"), dcc.Link("Launch a search", href="/launch", className="button primary")],
                     className="title"),
            dcc.Interval(id="studies-tick", interval=3000),
            dcc.Store(id="studies-picked", data=[]),
            card(html.Div(_list(desk, []), id="studies-list")),
            html.Div(id="studies-comparison"),
        ]
    )  # fmt: skip


def register(app: dash.Dash, desk: Desk) -> None:
    """Keep the list up to date, and compare what is picked."""

    @app.callback(
        Output("studies-list", "children"),
        Input("studies-tick", "n_intervals"),
        State("studies-picked", "data"),
        prevent_initial_call=True,
    )
    def look_again(_: int, picked: list[str]) -> Any:
        return _list(desk, picked)

    @app.callback(
        Output("studies-picked", "data"),
        Input({"type": "study-pick", "name": ALL}, "value"),
        State("studies-picked", "data"),
        prevent_initial_call=True,
    )
    def pick(values: list[list[str]], picked: list[str]) -> Any:
        now = [name for value in values for name in value or []]
        return dash.no_update if now == picked else now

    @app.callback(Output("studies-comparison", "children"), Input("studies-picked", "data"), Input("theme", "data"))
    def compare(picked: list[str], theme: str) -> Any:
        if not picked:
            return None
        snapshots = [desk.snapshot(name) for name in picked]
        labels = {snapshot.axis.label for snapshot in snapshots}
        if len(labels) > 1:
            return card(empty("These fronts have no cost in common.", "; ".join(sorted(labels))))
        figure = comparison_figure(snapshots, theme_of(theme))
        return card(
            dcc.Graph(figure=figure, config=GRAPH_CONFIG, className="figure"),
            _volumes(snapshots),
            title="Fronts compared",
        )


def _list(desk: Desk, picked: list[str]) -> Any:
    studies = desk.store.studies()
    if not studies:
        return empty(
            "There is no study yet.",
            [dcc.Link("Launch a search", href="/launch"), " here, or run prunefront search with this database:"],
            html.Code(f"--db {desk.store.url}"),
        )
    rows = [_row(desk.snapshot(study), picked) for study in studies[:_N_LISTED]]
    headers = ["", "study", "state", "trials", "best", "at", "budget", "model", "data", "begun"]
    more = f"; the newest {_N_LISTED} are listed" if len(studies) > _N_LISTED else ""
    count = "1 study" if len(studies) == 1 else f"{len(studies)} studies"
    return table(headers, rows, caption=f"{count} in {desk.store.url}{more}; pick some to compare their fronts")


def _row(snapshot: StudySnapshot, picked: list[str]) -> list[Any]:
    study, best = snapshot.study, snapshot.best
    name = study.name
    pick = dcc.Checklist(
        options=[{"label": html.Span(f"compare {name}", className="unseen"), "value": name}],
        value=[name] if name in picked else [],
        id={"type": "study-pick", "name": name},
    )
    state = html.Span(badge(state_of(study)), title=study.error or "")
    return [
        pick,
        dcc.Link(name, href=study_path(name)),
        state,
        progress_bar(snapshot.n_finished, study.n_trials),
        "-" if best is None else dcc.Link(with_interval(best.estimate), href=trial_path(name, best.number)),
        "-" if best is None else f"{best.cost:.4g} {snapshot.axis.unit}",
        budget_text(study),
        study.model,
        study.data,
        moment(study.created_at),
    ]


def _volumes(snapshots: list[StudySnapshot]) -> Any:
    cost, merit = reference_of(snapshots)
    unit = snapshots[0].axis.unit
    rows = [
        [
            snapshot.study.name,
            METRICS[snapshot.study.metric].label,
            len(snapshot.front),
            f"{snapshot.hypervolume((cost, merit)):.4g}",
            f"{snapshot.hypervolume((cost, merit)) / (cost * 100):.3f}",
        ]
        for snapshot in snapshots
    ]
    caption = f"Hypervolume up to the reference point {cost:.4g} {unit}, {merit:g} %; as a share of all up to 100 %"
    return table(["study", "metric", "on the front", "hypervolume", "share"], rows, caption=caption, numbers=3)
