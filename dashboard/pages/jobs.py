"""Jobs: the queue, and what one of them says."""

from __future__ import annotations

from typing import Any

import dash
from dash import ALL, Input, Output, State, ctx, dcc, html

from dashboard.desk import Desk
from dashboard.pages.parts import aria, badge, card, empty, facts, moment, progress_bar, study_path, table
from dashboard.pages.study_tabs import flat
from storage import JobRecord, JobState

__all__ = ["layout", "one_layout", "register"]

_N_LISTED = 100
_N_LINES = 1_000


def layout(desk: Desk) -> html.Div:
    """Make the page of the queue."""
    return html.Div(
        [
            dcc.Interval(id="jobs-tick", interval=2000),
            html.Div([html.H1("Jobs")], className="title"),
            card(html.Div(_list(desk), id="jobs-list")),
        ]
    )


def one_layout(desk: Desk, job_id: int) -> html.Div:
    """Make the page of one job. Raises NotThere if there is none."""
    job = desk.store.jobs.get(job_id)
    return html.Div(
        [
            dcc.Store(id="job-id", data=job_id),
            dcc.Interval(id="job-tick", interval=1500),
            html.Nav([dcc.Link("Jobs", href="/jobs"), f" / job {job_id}"], **aria(label="Where")),
            html.Div([html.H1(f"Job {job_id}"), html.Span(job.kind.value, className="muted")], className="title"),
            html.Div(
                [
                    html.Button("Cancel", id="job-cancel", className="button", hidden=job.state.is_over),
                    dcc.Link("Open its study", href=study_path(job.study or ""), className="button", id="job-study"),
                ],
                className="actions",
            ),
            card(html.Div(_one(desk, job), id="job-about")),
            card(facts(flat(job.request)), title="Asked for"),
        ]
    )


def register(app: dash.Dash, desk: Desk) -> None:
    """Keep both up to date, and cancel."""

    @app.callback(
        Output("jobs-list", "children"),
        Input("jobs-tick", "n_intervals"),
        Input({"type": "job-cancel", "id": ALL}, "n_clicks"),
        prevent_initial_call=True,
    )
    def look_again(_: int, clicks: list[int | None]) -> Any:
        if isinstance(ctx.triggered_id, dict) and any(clicks):
            desk.cancel(ctx.triggered_id["id"])
        return _list(desk)

    @app.callback(
        Output("job-about", "children"),
        Output("job-cancel", "hidden"),
        Output("job-tick", "disabled"),
        Input("job-tick", "n_intervals"),
        Input("job-cancel", "n_clicks"),
        State("job-id", "data"),
        prevent_initial_call=True,
    )
    def look_at_one(_: int, clicks: int | None, job_id: int) -> Any:
        if ctx.triggered_id == "job-cancel" and clicks:
            desk.cancel(job_id)
        job = desk.store.jobs.get(job_id)
        return _one(desk, job), job.state.is_over, job.state.is_over


def _list(desk: Desk) -> Any:
    jobs, total = desk.store.jobs.page(limit=_N_LISTED)
    if not jobs:
        return empty("No job was asked for yet.", dcc.Link("Launch a search", href="/launch"))
    count = "1 job" if total == 1 else f"{total:,} jobs"
    caption = count + (f"; the newest {_N_LISTED} are listed" if total > _N_LISTED else "")
    headers = ["job", "kind", "study", "state", "progress", "asked", "finished", ""]
    return table(headers, [_row(job) for job in jobs], caption=caption)


def _row(job: JobRecord) -> list[Any]:
    cancel = html.Button("Cancel", id={"type": "job-cancel", "id": job.id}, className="button small")
    return [
        dcc.Link(f"{job.id}", href=f"/jobs/{job.id}"),
        job.kind.value,
        "-" if job.study is None else dcc.Link(job.study, href=study_path(job.study)),
        badge(job.state.value),
        _progress(job),
        moment(job.created_at),
        moment(job.finished_at),
        None if job.state.is_over else cancel,
    ]


def _one(desk: Desk, job: JobRecord) -> Any:
    lines = desk.store.jobs.last_lines(job.id, _N_LINES)
    waits = "It waits for the runner." if job.state is JobState.QUEUED else "It has said nothing yet."
    return [
        html.Div([badge("stopping" if job.is_cancelling and not job.state.is_over else job.state.value),
                  _progress(job)], className="title"),
        html.P(job.error, className="bad") if job.error else None,
        html.Pre("\n".join(lines) or waits, className="log", tabIndex=0),
    ]  # fmt: skip


def _progress(job: JobRecord) -> Any:
    progress = job.progress or {}
    if "n_trials" not in progress:
        return None
    return progress_bar(progress["n_finished"], progress["n_trials"])
