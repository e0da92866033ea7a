"""One trial: its tokens block by block, everything measured of it, and how it compares."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import dash
from dash import Input, Output, State, ctx, dcc, html

from dashboard.desk import Desk
from dashboard.pages.parts import (
    GRAPH_CONFIG,
    aria,
    badge,
    card,
    facts,
    job_line,
    moment,
    study_path,
    table,
    trial_path,
)
from dashboard.pages.trial_card import exports
from dashboard.theme import theme_of
from dashboard.trial_figures import staircase_figure, staircase_of
from dashboard.words import cramped_line, gflops_text, latency_line, n_images_text, with_interval
from objectives.confusion import MIoUComparison
from objectives.metrics import BATCH_LATENCY, GFLOPS, LATENCY, Measurement
from objectives.statistics import PairedComparison
from spaces.errors import PrunefrontError
from storage import JobKind, JobRecord, MeasurementKind, StudyRecord, TrialRecord, TrialState
from storage.axis import overrun_line, quantity
from storage.remembered import DENSE, RememberedStudy

__all__ = ["layout", "register"]

_METRIC_NAMES = {
    "gflops": "GFLOPs",
    "latency_ms": "ms, one image",
    "batch_latency_ms": "ms, a batch",
    "top1_pct": "top-1 (%)",
    "agreement_pct": "as dense (%)",
    "kl_nats": "KL (nats)",
}
_COSTS = (GFLOPS, LATENCY, BATCH_LATENCY)


def layout(desk: Desk, name: str, number: int) -> html.Div:
    """Make the page. Raises NotThere if there is no such study or trial."""
    found = desk.study(name)
    record, trial = found.record, found.trial(number)
    return html.Div(
        [
            dcc.Store(id="trial-place", data={"study": name, "number": number}),
            dcc.Interval(id="trial-tick", interval=3000),
            html.Nav([dcc.Link(name, href=study_path(name)), " / trial ", number], **aria(label="Where")),
            html.Div([html.H1(f"Trial {number}"), badge(trial.state.value)], className="title"),
            html.P(_about(record, trial), className="muted"),
            html.Div(_actions(desk, record, trial), className="actions"),
            html.P(id="trial-refused", role="alert", className="bad"),
            html.P(id="trial-said", role="status"),
            html.P(id="trial-bundled", role="status"),
            html.Div(
                [
                    card(
                        dcc.Graph(id="trial-tokens", config=GRAPH_CONFIG, className="figure"),
                        title="Tokens that enter each block",
                    ),
                    card(html.Div(_measured(found, trial), id="trial-measured"), title="Measured"),
                ],
                className="halves",
            ),
            card(*_comparison(number), title="Compared on the same images") if _is_complete(trial) else None,
            html.Div(
                [
                    card(facts((key, _plain(value)) for key, value in trial.config.items()), title="Layout"),
                    card(facts((key, _plain(value)) for key, value in trial.params.items()), title="As it was drawn"),
                    card(facts(_origin(record, trial)), title="Provenance"),
                ],
                className="thirds",
            ),
            card(html.Pre(trial.traceback, className="log"), title="Traceback") if trial.traceback else None,
        ]
    )


def register(app: dash.Dash, desk: Desk) -> None:
    """Draw, compare, confirm, export."""

    @app.callback(Output("trial-tokens", "figure"), Input("trial-place", "data"), Input("theme", "data"))
    def draw(place: dict[str, Any], theme: str) -> Any:
        found = desk.study(place["study"])
        trial = found.trial(place["number"])
        return staircase_figure(staircase_of(trial, found.architecture), theme_of(theme))

    @app.callback(
        Output("trial-compared", "children"),
        Input("trial-other", "value"),
        Input("trial-other-study", "value"),
        State("trial-place", "data"),
    )
    def compare(other: str | None, study: str | None, place: dict[str, Any]) -> Any:
        which = (other or DENSE).strip()
        if which != DENSE and not which.isdecimal():
            return html.P(f"Compare with {DENSE}, or the number of a trial.", className="bad")
        try:
            return _compared(desk, place["study"], place["number"], which, study or place["study"])
        except PrunefrontError as error:
            return html.P(str(error), className="bad")

    _register_asking(app, desk)


def _register_asking(app: dash.Dash, desk: Desk) -> None:
    @app.callback(
        Output("trial-refused", "children"),
        Input("trial-confirm", "n_clicks"),
        Input("trial-bundle", "n_clicks"),
        State("trial-place", "data"),
        prevent_initial_call=True,
    )
    def ask(confirm: int | None, bundle: int | None, place: dict[str, Any]) -> str | None:
        name, number = place["study"], place["number"]
        try:
            if ctx.triggered_id == "trial-confirm" and confirm:
                desk.confirm(name, {"trials": [number]})
            if ctx.triggered_id == "trial-bundle" and bundle:
                desk.ask_for_bundle(name, number, {})
        except PrunefrontError as error:
            return str(error)  # stays until the next time that something is asked for
        return None

    @app.callback(
        Output("trial-said", "children"),
        Output("trial-bundled", "children"),
        Output("trial-measured", "children"),
        Input("trial-refused", "children"),
        Input("trial-tick", "n_intervals"),
        State("trial-place", "data"),
    )
    def look_again(_: str | None, __: int | None, place: dict[str, Any]) -> Any:
        name, number = place["study"], place["number"]
        job = desk.job_of(name, JobKind.CONFIRM)
        said = job_line(job) if job is not None and number in (job.request["trials"] or [number]) else None
        found = desk.study(name)
        bundled = _bundled(desk.job_of_trial(name, number, JobKind.BUNDLE))
        return said, bundled, _measured(found, found.trial(number))


def _bundled(job: JobRecord | None) -> Any:
    if job is None or job.result is None:
        return job_line(job)
    return [job_line(job), f": {job.result['folder']}"]


def _about(study: StudyRecord, trial: TrialRecord) -> list[Any]:
    cost = gflops_text(trial.gflops, trial.measurement)
    words: list[Any] = [
        f"{trial.method}, {cost} GFLOPs ({trial.gflops / study.dense_gflops:.1%} of dense), of which "
        f"{trial.overhead_gflops / trial.gflops:.2%} to choose tokens; drawn at {trial.drawn_gflops:.4g}"
    ]
    if trial.duplicate_of is not None:
        link = dcc.Link(f"trial {trial.duplicate_of}", href=trial_path(study.name, trial.duplicate_of))
        words += ["; equal in effect to ", link, ", whose measurement it shares"]
    if trial.rival is not None:
        link = dcc.Link(f"trial {trial.rival}", href=trial_path(study.name, trial.rival))
        words += ["; stopped when it had made as many mistakes as ", link, " made in all; its numbers are what the "]
        words += ["images that it saw, a random sample and the hardest, say of all"]
    if cramped := cramped_line(study, trial.measurement):
        words += [f"; {cramped}"]
    if latency := latency_line(study, trial.measurement):
        words += [f"; {latency}"]
    if trial.state is TrialState.INFEASIBLE:
        words += [f"; it {overrun_line(study, trial)}"]
    return [*words, f"; failed: {trial.error}"] if trial.error else words


def _actions(desk: Desk, study: StudyRecord, trial: TrialRecord) -> list[Any]:
    can_confirm = _is_complete(trial) and study.provenance.confirm_list_hash is not None
    can_bundle = _is_complete(trial) and desk.roots.output is not None
    return [
        dcc.Link("Look at its tokens on images", href=f"{trial_path(study.name, trial.number)}/images",
                 className="button primary"),
        html.Button("Confirm on unseen images", id="trial-confirm", className="button", hidden=not can_confirm),
        *exports(study, trial),
        html.Button("Bundle", id="trial-bundle", className="button", hidden=not can_bundle,
                    title="Write the layout with its model into a folder of the server"),
    ]  # fmt: skip


def _is_complete(trial: TrialRecord) -> bool:
    return trial.state is TrialState.COMPLETE


def _measured(found: RememberedStudy, trial: TrialRecord) -> Any:
    entries: list[tuple[str, Measurement | None]] = [
        ("layout, search", trial.measurement),
        ("layout, unseen", trial.confirmation),
        ("dense, search", found.dense()),
        ("dense, unseen", found.dense(MeasurementKind.CONFIRM)),
    ]
    measured = [(name, measurement) for name, measurement in entries if measurement is not None]
    metrics = sorted({metric for _, measurement in measured for metric in measurement.values}, reverse=True)
    rows = [
        [
            name,
            f"{n_images_text(measurement)} in {measurement.precision}",
            *((quantity if metric in _COSTS else with_interval)(measurement.values.get(metric)) for metric in metrics),
        ]
        for name, measurement in measured
    ]
    caption = "95 % intervals; unseen images were kept from the search, so only they tell no luck"
    names = [_METRIC_NAMES.get(metric, metric) for metric in metrics]
    return table(["", "images", *names], rows, caption=caption, numbers=len(metrics))


def _comparison(number: int) -> list[Any]:
    return [
        html.Div(
            [
                html.Label("with trial", htmlFor="trial-other"),
                dcc.Input(id="trial-other", value=DENSE, debounce=True, placeholder="dense, or a number"),
                html.Label("of study", htmlFor="trial-other-study"),
                dcc.Input(id="trial-other-study", debounce=True, placeholder="this one"),
            ],
            className="controls",
        ),
        html.Div(id="trial-compared"),
    ]


def _compared(desk: Desk, name: str, number: int, which: str, other_name: str) -> Any:
    found, other = desk.study(name), desk.study(other_name)
    second = which if which == DENSE else int(which)
    comparison, kind = found.compare(number, second, other=other)
    images = "unseen" if kind is MeasurementKind.CONFIRM else "search"
    difference = f"{comparison.difference_pct:+.2f} points"
    where = f" on the same {comparison.n_images:,} {images} images"
    interval = f", 95 % interval {comparison.low_pct:+.2f} to {comparison.high_pct:+.2f}"
    counted = "95 % interval by bootstrap over the images, each drawn for both"
    if isinstance(comparison, PairedComparison):
        counted = (
            f"Only trial {number} right: {comparison.only_first}; only the other: {comparison.only_second}; "
            f"McNemar p = {comparison.p_value:.3g}"
        )
    shown = html.Div(
        [
            html.P([html.B(difference), where, interval], className="lead"),
            html.P(_verdict(comparison)),
            html.P(counted, className="muted"),
        ]
    )
    return shown if second == DENSE else [shown, _differences(found.trial(number), other.trial(int(second)))]


def _verdict(comparison: PairedComparison | MIoUComparison) -> str:
    if comparison.low_pct > 0:
        return "It is better, beyond what chance would give."
    if comparison.high_pct < 0:
        return "It is worse, beyond what chance would give."
    return "These images cannot tell the two apart."


def _differences(one: TrialRecord, two: TrialRecord) -> Any:
    """Show only what differs between two layouts."""
    names = dict.fromkeys([*one.config, *two.config])
    rows = [
        [name, _plain(one.config.get(name)), _plain(two.config.get(name))]
        for name in names
        if one.config.get(name) != two.config.get(name)
    ]
    return table(["", f"trial {one.number}", f"trial {two.number}"], rows, caption="What differs between the layouts")


def _origin(study: StudyRecord, trial: TrialRecord) -> list[tuple[str, Any]]:
    origin = study.provenance
    return [
        ("layout's digest", html.Code(trial.digest)),
        ("weights", html.Code(origin.weights_digest)),
        ("search images", html.Code(origin.search_list_hash)),
        ("worker", trial.worker),
        ("attempts", trial.attempts),
        ("proposed", moment(trial.created_at)),
        ("finished", moment(trial.finished_at)),
        ("seed", study.seed),
        *origin.versions.items(),
    ]


def _plain(value: Any) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{name} {_plain(each)}" for name, each in value.items())
    if isinstance(value, list | tuple):
        return ", ".join(_plain(each) for each in value)
    return f"{value:.4g}" if isinstance(value, float) else str(value)
