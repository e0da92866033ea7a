"""One study: its front as it grows, the best under a budget, and what is behind it."""

from __future__ import annotations

from typing import Any

import dash
from dash import ALL, Input, Output, State, ctx, dcc, html

from dashboard.desk import Desk
from dashboard.front_figure import MAX_SVG_POINTS, Look, chosen_patch, colour_choices, front_figure, growth
from dashboard.pages.parts import (
    GRAPH_CONFIG,
    aria,
    card,
    draw_long_table,
    empty,
    in_browser,
)
from dashboard.pages.study_head import actions, register_head
from dashboard.pages.study_tabs import FRONT_TABLE, TABS, log_text, tab_content
from dashboard.pages.trial_card import trial_card
from dashboard.snapshot import StudySnapshot
from dashboard.theme import theme_of
from storage.axis import axis_of

__all__ = ["layout", "register"]

_MOST_ADDED = 3_000  # points, before the figure is drawn anew
_GROWS_WITH_TRIALS = ("front", "history")


def layout(desk: Desk, name: str) -> html.Div:
    """Make the page. Raises NotThere if there is no such study."""
    study = desk.store.study(name)  # all its points would take longer: the page does not wait for them
    colour = "method" if len(study.methods) > 1 else None
    axis = axis_of(study)
    least, most = axis.low or 0.0, axis.high or axis.dense  # nobody looks for a layout that is slower than dense
    about = f"{study.model} on {study.data}, {study.sampler}, seed {study.seed}, {', '.join(study.methods)}"
    choices = colour_choices(desk.store.browse.parameters(study.id))
    controls = html.Div(
        [
            html.Label("Colour by", htmlFor="study-colour"),
            dcc.Dropdown(choices, colour, id="study-colour", placeholder="nothing", searchable=True),
            html.Span(id="study-drawn", className="muted"),
        ],
        className="controls",
    )
    slider = html.Div(
        [
            html.P(["Best under ", html.B(id="study-limit")], id="study-under-label", className="muted"),
            dcc.Slider(
                least, most, value=most, step=(most - least) / 200 or 0.001, marks=None, id="study-under",
                disabled=most <= least,
            ),
        ]
    )  # fmt: skip
    return html.Div(
        [
            dcc.Store(id="study-name", data=name),
            dcc.Store(id="study-cursor", data=None),
            dcc.Store(id="study-clicked", data=None),
            dcc.Store(id="study-chosen", data=None),
            dcc.Interval(id="study-tick", interval=2000),
            html.Div([html.H1(name), html.Div(id="study-state")], className="title"),
            html.P(about, className="muted"),
            html.Div(actions(name), className="actions"),
            html.P(id="study-said", role="status"),
            html.Div(
                [
                    card(
                        controls,
                        html.Div(
                            dcc.Graph(id="study-front", config=GRAPH_CONFIG, style={"height": "100%"}),
                            className="figure tall",
                        ),
                        **aria(label="Pareto front"),
                    ),
                    html.Aside([card(slider), html.Div(id="study-trial")]),
                ],
                className="split",
            ),
            card(
                dcc.RadioItems(  # not dcc.Tabs, which cannot be reached by keys
                    options=[{"label": label, "value": value} for value, label in TABS.items()],
                    value="front",
                    inline=True,
                    id="study-tab",
                    className="tabs",
                    inputClassName="tab-input",
                    labelClassName="tab",
                ),
                html.Div(id="study-tab-content"),
            ),
        ]
    )  # fmt: skip


def register(app: dash.Dash, desk: Desk) -> None:
    """Draw, follow, choose, and do."""
    _register_figure(app, desk)
    _register_choice(app, desk)
    register_head(app, desk)
    _register_tabs(app, desk)


def _register_figure(app: dash.Dash, desk: Desk) -> None:
    in_browser(
        app,
        "sharpness",
        Output("study-front", "config"),
        Input("webgl", "data"),
        State("study-front", "config"),
    )

    @app.callback(
        Output("study-front", "figure"),
        Output("study-cursor", "data"),
        Output("study-drawn", "children"),
        Output("study-under", "min"),
        Input("study-name", "data"),
        Input("study-colour", "value"),
        Input("theme", "data"),
        Input("webgl", "data"),
    )
    def draw(name: str, colour: str | None, theme: str | None, has_webgl: bool | None) -> Any:
        if theme is None or has_webgl is None:
            return dash.no_update  # the browser has not said yet what it can do
        snapshot = desk.snapshot(name)
        cursor = _cursor(snapshot)  # before it is drawn: what another page's visit brings meanwhile is then drawn again
        dense = desk.study(name).dense()
        figure, n_drawn = front_figure(snapshot, dense, Look(theme_of(theme), colour, has_webgl))
        least = snapshot.axis.low or min((point.cost for point in snapshot.front), default=0.0)
        return figure, cursor, _drawn(snapshot, n_drawn, has_webgl), least

    @app.callback(
        Output("study-front", "figure", allow_duplicate=True),
        Output("study-cursor", "data", allow_duplicate=True),
        Input("study-tick", "n_intervals"),
        State("study-name", "data"),
        State("study-cursor", "data"),
        State("study-colour", "value"),
        State("theme", "data"),
        State("webgl", "data"),
        prevent_initial_call=True,
        # Asked again only when it is answered: Dash would drop the answer that is under way.
        running=[(Output("study-tick", "disabled"), True, False)],
    )
    def follow(
        _: int, name: str, cursor: dict[str, Any] | None, colour: str | None, theme: str, has_webgl: bool | None
    ) -> Any:
        snapshot = desk.snapshot(name)
        if cursor is None or cursor["version"] == list(snapshot.version):
            return dash.no_update
        look, now = Look(theme_of(theme), colour, bool(has_webgl)), _cursor(snapshot)
        if now["n_measured"] - cursor["n_measured"] > _MOST_ADDED:
            return front_figure(snapshot, desk.study(name).dense(), look)[0], now
        patch = growth(snapshot, look, cursor["n_measured"], cursor["n_stopped"])
        return patch, cursor | {"version": now["version"], "has_grown": True}


def _register_choice(app: dash.Dash, desk: Desk) -> None:
    in_browser(
        app,
        "clicked",
        Output("study-clicked", "data"),
        Input("study-front", "clickData"),
        State("study-front", "figure"),
        prevent_initial_call=True,
    )

    @app.callback(
        Output("study-chosen", "data"),
        Output("study-limit", "children"),
        Input("study-clicked", "data"),
        Input("study-under", "value"),
        Input("study-cursor", "data"),
        State("study-name", "data"),
        State("study-chosen", "data"),
    )
    def choose(clicked: int | None, under: float, _: Any, name: str, chosen: dict[str, Any] | None) -> Any:
        snapshot = desk.snapshot(name)
        limit = f"{under:.4g} {snapshot.axis.unit}"
        if ctx.triggered_id == "study-clicked":
            return {"number": clicked, "how": "clicked"}, limit
        if ctx.triggered_id != "study-under" and chosen is not None and chosen["how"] == "clicked":
            return dash.no_update, limit
        best = snapshot.best_under(under)
        found = None if best is None else {"number": best.number, "how": f"best under {limit}"}
        return (dash.no_update if found == chosen else found), limit

    @app.callback(
        Output("study-front", "figure", allow_duplicate=True),
        Output("study-trial", "children"),
        Input("study-chosen", "data"),
        Input("theme", "data"),
        Input("study-drawn", "children"),
        State("study-name", "data"),
        prevent_initial_call=True,
    )
    def show(chosen: dict[str, Any] | None, theme: str, _: Any, name: str) -> Any:
        if chosen is None:
            return chosen_patch(None), card(empty("No layout is measured at this cost yet."))
        snapshot = desk.snapshot(name)
        found = desk.study(name)
        trial = found.trial(chosen["number"])
        return chosen_patch(snapshot.point(trial.number)), trial_card(
            found.record, trial, theme_of(theme), how=chosen["how"]
        )


def _register_tabs(app: dash.Dash, desk: Desk) -> None:
    # Two callbacks, for Dash drops an answer under way when the same one is called again; and each with a place of its
    # own, so that neither undoes what the other has shown.
    @app.callback(
        Output("study-tab-content", "children"),
        Input("study-tab", "value"),
        Input("theme", "data"),
        Input("webgl", "data"),
        State("study-name", "data"),
    )
    def open_tab(tab: str, theme: str, has_webgl: bool | None, name: str) -> Any:
        content = tab_content(desk, name, tab, theme_of(theme), has_webgl=bool(has_webgl))
        return html.Div(content, id={"type": "study-growing", "tab": tab}) if tab in _GROWS_WITH_TRIALS else content

    @app.callback(
        Output({"type": "study-growing", "tab": ALL}, "children"),
        Input("study-cursor", "data"),
        State("theme", "data"),
        State("study-name", "data"),
        prevent_initial_call=True,
    )
    def follow_in_tab(cursor: dict[str, Any], theme: str, name: str) -> Any:
        tabs = [output["id"]["tab"] for output in ctx.outputs_list]
        if not cursor["has_grown"]:
            return [dash.no_update] * len(tabs)
        return [tab_content(desk, name, tab, theme_of(theme), has_webgl=True) for tab in tabs]

    draw_long_table(app, FRONT_TABLE)

    @app.callback(Output("study-log", "children"), Input("study-log-tick", "n_intervals"), State("study-name", "data"))
    def read_log(_: int, name: str) -> str:
        return log_text(desk, name)


def _cursor(snapshot: StudySnapshot) -> dict[str, Any]:
    """Say what of a study a figure shows that was drawn now; what comes later is added to that."""
    return {
        "version": list(snapshot.version),
        "n_measured": len(snapshot.measured),
        "n_stopped": len(snapshot.stopped),
        "has_grown": False,
    }


def _drawn(snapshot: StudySnapshot, n_drawn: int, has_webgl: bool) -> str:
    n_points = len(snapshot.measured) + len(snapshot.stopped)
    if has_webgl or n_points <= MAX_SVG_POINTS:
        return f"{n_drawn:,} trials"
    return f"a sample of {n_drawn:,} of {n_points:,} trials, since this browser has no WebGL; the front is whole"
