"""How a study is doing, at the head of its page, and what can be asked for there."""

from __future__ import annotations

from typing import Any

import dash
from dash import Input, Output, State, ctx, dcc, html

from dashboard.desk import Desk
from dashboard.pages.parts import api_path, badge, job_line, progress_bar
from dashboard.snapshot import StudySnapshot
from spaces.errors import PrunefrontError
from storage import JobKind, JobRecord, StudyState, TrialState
from storage.remembered import state_of

__all__ = ["actions", "register_head"]


def actions(name: str) -> list[Any]:
    """Make what can be asked for; what does not suit a study's state stays hidden."""
    number = dcc.Input(id="study-more", type="number", min=1, step=1, placeholder="trials in all", debounce=True)
    go_on = [html.Button("Resume", id="study-resume", className="button"), number]
    confirm = "Confirm the front on unseen images"
    return [
        html.Button("Cancel", id="study-cancel", className="button", hidden=True),
        html.Span(go_on, id="study-go-on", className="pair", hidden=True),
        html.Button(confirm, id="study-confirm", className="button", hidden=True),
        html.A("Front as CSV", href=f"{api_path(name)}/front.csv", className="button", download=""),
    ]


def register_head(app: dash.Dash, desk: Desk) -> None:
    """Look again and again, and ask."""

    @app.callback(
        Output("study-state", "children"),
        Output("study-cancel", "hidden"),
        Output("study-go-on", "hidden"),
        Output("study-confirm", "hidden"),
        Output("study-resume", "children"),
        Input("study-tick", "n_intervals"),
        Input("study-name", "data"),
    )
    def look_again(_: int, name: str) -> Any:
        snapshot, job = desk.snapshot(name), desk.job_of(name)
        study = snapshot.study
        is_asked = job is not None and not job.state.is_over
        is_driven = is_asked or study.owner is not None
        can_confirm = bool(snapshot.front) and study.provenance.confirm_list_hash is not None
        more = "Search on" if study.state is StudyState.FINISHED else "Resume"
        return _state(snapshot, job), not is_asked, is_driven, is_driven or not can_confirm, more

    @app.callback(
        Output("study-said", "children"),
        Input("study-resume", "n_clicks"),
        Input("study-cancel", "n_clicks"),
        Input("study-confirm", "n_clicks"),
        State("study-more", "value"),
        State("study-name", "data"),
        prevent_initial_call=True,
    )
    def act(resume: int, cancel: int, confirm: int, n_trials: int | None, name: str) -> Any:
        if not any((resume, cancel, confirm)):
            return dash.no_update
        try:
            if ctx.triggered_id == "study-cancel":
                job = desk.job_of(name, JobKind.SEARCH, JobKind.CONFIRM)
                return None if job is None else job_line(desk.cancel(job.id))
            if ctx.triggered_id == "study-confirm":
                return job_line(desk.confirm(name, {}))
            return job_line(desk.resume(name, {"n_trials": n_trials} if n_trials else {}))
        except PrunefrontError as error:
            return html.Span(str(error), className="bad")


def _counts(snapshot: StudySnapshot) -> str:
    return ", ".join(f"{snapshot.counts[state]:,} {state.value}" for state in TrialState if snapshot.counts[state])


def _state(snapshot: StudySnapshot, job: JobRecord | None) -> list[Any]:
    """Say how a study is doing, and why not."""
    study = snapshot.study
    return [
        badge(state_of(study)),
        progress_bar(snapshot.n_finished, study.n_trials),
        html.Span(_counts(snapshot), className="muted"),
        html.Span(job_line(job)),
        html.P(["It failed: ", study.error], className="bad") if study.error else None,
    ]
