"""The JSON API. It is described in docs/api.md, which a test holds to the routes that there are."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import asdict
from typing import Any

from flask import Blueprint, Response, jsonify, request

from dashboard.desk import Desk
from dashboard.job_pictures import draw_picture
from dashboard.names import StudyName
from spaces import InvalidInput, PrunefrontError
from storage import JobKind, JobRecord, JobState, TrialState
from storage.database import DatabaseError, NotThere
from storage.export import layout_text, table_of, trial_as_json
from storage.jobs import QueueFull
from storage.remembered import DENSE

__all__ = ["EXPORT_FORMATS", "download_name", "make_api"]

EXPORT_FORMATS = {"json": "application/json", "yaml": "application/yaml"}
_MAX_PAGE = 500
_STATUS: tuple[tuple[type[PrunefrontError], int], ...] = (
    (NotThere, 404),
    (QueueFull, 429),
    (DatabaseError, 503),
    (InvalidInput, 400),
    (PrunefrontError, 500),
)


def make_api(desk: Desk) -> Blueprint:
    """Make the routes under ``/api``."""
    api = Blueprint("api", __name__, url_prefix="/api")
    api.record_once(lambda made: made.app.url_map.converters.update(study=StudyName))
    api.register_error_handler(PrunefrontError, _told_plainly)
    api.add_url_rule("/health", view_func=lambda: _health(desk), endpoint="health")
    for add in (_add_studies, _add_trials, _add_changes, _add_jobs):
        add(api, desk)
    # Else an address that is none of these would be taken for a page.
    api.add_url_rule("/<path:rest>", view_func=_nothing, methods=["GET", "POST"], endpoint="nothing")
    return api


def _nothing(rest: str) -> Response:
    raise NotThere(f"there is no /api/{rest}: docs/api.md describes what there is")


def _add_studies(api: Blueprint, desk: Desk) -> None:
    @api.get("/studies")
    def studies() -> Response:
        offset, limit = _page()
        found = desk.store.studies()
        items = [desk.describe(study) for study in found[offset : offset + limit]]
        return _listing(items, len(found), offset)

    @api.get("/studies/<study:name>")
    def study(name: str) -> Response:
        record = desk.store.study(name)
        about = {"provenance": asdict(record.provenance), "settings": record.spec["settings"]}
        job = desk.job_of(name)
        return jsonify(desk.describe(record) | about | {"job": None if job is None else job_as_json(job)})

    @api.get("/studies/<study:name>/front")
    def front(name: str) -> Response:
        snapshot = desk.snapshot(name)
        trials = [trial_as_json(trial) for trial in desk.front(snapshot)]
        return jsonify(study=name, metric=snapshot.study.metric, cost=snapshot.axis.cost, front=trials)

    @api.get("/studies/<study:name>/front.csv")
    def front_table(name: str) -> Response:
        snapshot = desk.snapshot(name)
        return _download(table_of(desk.front(snapshot), snapshot.study.metric), "text/csv", f"{name}-front", "csv")

    @api.get("/studies/<study:name>/history")
    def history(name: str) -> Response:
        snapshot = desk.snapshot(name)
        milestones = [milestone._asdict() for milestone in snapshot.history.milestones]
        return jsonify(study=name, reference=snapshot.history.reference, milestones=milestones)


def _add_trials(api: Blueprint, desk: Desk) -> None:
    @api.get("/studies/<study:name>/trials")
    def trials(name: str) -> Response:
        offset, limit = _page()
        states = [_choice("state", text, TrialState) for text in request.args.getlist("state")]
        newest_first = request.args.get("order", "oldest") == "newest"
        found, total = desk.store.browse.page(
            desk.store.study(name).id, offset=offset, limit=limit, states=states or None, newest_first=newest_first
        )
        return _listing([trial_as_json(trial) for trial in found], total, offset)

    @api.get("/studies/<study:name>/trials/<int:number>")
    def trial(name: str, number: int) -> Response:
        found = desk.study(name).trial(number)
        return jsonify(trial_as_json(found) | {"params": dict(found.params), "traceback": found.traceback})

    @api.get("/studies/<study:name>/trials/<int:number>/layout.<suffix>")
    def layout(name: str, number: int, suffix: str) -> Response:
        if suffix not in EXPORT_FORMATS:
            raise NotThere(f"a layout is exported as {' or '.join(EXPORT_FORMATS)}, got {suffix!r}")
        found = desk.study(name)
        text = layout_text(found.layout(found.trial(number)), f".{suffix}")
        return _download(text, EXPORT_FORMATS[suffix], f"{name}-trial-{number}", suffix)

    @api.get("/studies/<study:name>/trials/<int:number>/compare")
    def compare(name: str, number: int) -> Response:
        other = desk.study(request.args.get("study", name))
        which = request.args.get("with", DENSE)
        if which != DENSE and not which.isdecimal():
            raise InvalidInput(f"compare with={DENSE} or the number of a trial, got {which!r}")
        comparison, kind = desk.study(name).compare(number, which if which == DENSE else int(which), other=other)
        return jsonify(asdict(comparison) | {"images": kind.value})

    def newest_job(kind: JobKind, what: str) -> None:
        def view(name: str, number: int) -> Response:
            desk.study(name).trial(number)
            job = desk.job_of_trial(name, number, kind)
            if job is None:
                raise NotThere(f"nobody asked for {what} of trial {number} yet: POST here to do so")
            return jsonify(job_as_json(job))

        route = f"/studies/<study:name>/trials/<int:number>/{kind.value}"
        api.add_url_rule(route, view_func=view, endpoint=kind.value)

    newest_job(JobKind.PICTURES, "pictures")
    newest_job(JobKind.BUNDLE, "a bundle")


def _add_changes(api: Blueprint, desk: Desk) -> None:
    def change(route: str, ask: Callable[..., JobRecord]) -> None:
        def view(**place: Any) -> tuple[Response, int]:
            values = request.get_json()
            if not isinstance(values, dict):
                raise InvalidInput("a request is a JSON object of names and values")
            return jsonify(job_as_json(ask(**place, values=values))), 201

        api.add_url_rule(route, view_func=view, methods=["POST"], endpoint=f"ask {route}")

    change("/studies", desk.launch)
    change("/studies/<study:name>/resume", desk.resume)
    change("/studies/<study:name>/confirm", desk.confirm)
    change("/studies/<study:name>/trials/<int:number>/pictures", desk.ask_for_pictures)
    change("/studies/<study:name>/trials/<int:number>/bundle", desk.ask_for_bundle)
    change("/jobs/<int:job_id>/cancel", lambda job_id, values: desk.cancel(job_id))

    @api.post("/budget")
    def budget() -> Response:
        values = request.get_json()
        if not isinstance(values, dict):
            raise InvalidInput("a request is a JSON object of names and values")
        return jsonify(desk.budget_range(values))


def _add_jobs(api: Blueprint, desk: Desk) -> None:
    @api.get("/jobs")
    def jobs() -> Response:
        offset, limit = _page()
        kinds = [_choice("kind", text, JobKind) for text in request.args.getlist("kind")] or list(JobKind)
        states = [_choice("state", text, JobState) for text in request.args.getlist("state")] or list(JobState)
        found, total = desk.store.jobs.page(
            offset=offset, limit=limit, kinds=kinds, states=states, study=request.args.get("study")
        )
        return _listing([job_as_json(job) for job in found], total, offset)

    @api.get("/jobs/<int:job_id>")
    def job(job_id: int) -> Response:
        return jsonify(job_as_json(desk.store.jobs.get(job_id)))

    @api.get("/jobs/<int:job_id>/log")
    def log(job_id: int) -> Response:
        desk.store.jobs.get(job_id)
        after = _integer("after", -1, least=-1)
        found = desk.store.jobs.lines(job_id, after=after, limit=_MAX_PAGE)
        return jsonify(lines=[text for _, text in found], last=found[-1][0] if found else after)

    @api.get("/jobs/<int:job_id>/pictures/<int:image>/<int:layer>.png")
    def picture(job_id: int, image: int, layer: int) -> Response:
        drawn = draw_picture(desk.store.jobs, job_id, image, layer)
        answer = Response(drawn, mimetype="image/png")
        answer.headers["Cache-Control"] = "private, max-age=86400, immutable"
        return answer


def job_as_json(job: JobRecord) -> dict[str, Any]:
    """Give a job for programs."""
    moments = {name: getattr(job, name) for name in ("created_at", "started_at", "finished_at")}
    return asdict(job) | {name: None if moment is None else moment.isoformat() for name, moment in moments.items()}


def download_name(name: str, suffix: str) -> str:
    """Name a file that a browser saves.

    >>> download_name("../a b<c>", "json")
    'a-b-c.json'
    """
    return f"{re.sub(r'[^A-Za-z0-9._-]+', '-', name).strip('.-') or 'export'}.{suffix}"


def _health(desk: Desk) -> Response:
    return jsonify(status="ok", studies=len(desk.store.studies()))


def _told_plainly(error: PrunefrontError) -> tuple[Response, int]:
    return jsonify(error=str(error)), next(status for kind, status in _STATUS if isinstance(error, kind))


def _download(text: str, mimetype: str, name: str, suffix: str) -> Response:
    answer = Response(text, mimetype=mimetype)
    answer.headers["Content-Disposition"] = f'attachment; filename="{download_name(name, suffix)}"'
    return answer


def _listing(items: list[dict[str, Any]], total: int, offset: int) -> Response:
    return jsonify(items=items, total=total, offset=offset)


def _page() -> tuple[int, int]:
    return _integer("offset", 0), _integer("limit", 50, least=1, most=_MAX_PAGE)


def _integer(name: str, default: int, *, least: int = 0, most: int = 2**31 - 1) -> int:
    text = request.args.get(name, str(default))
    try:
        value = int(text)
    except ValueError:
        value = least - 1
    if not least <= value <= most:
        raise InvalidInput(f"{name} is a whole number from {least} to {most}, got {text!r}")
    return value


def _choice(name: str, text: str, choices: Any) -> Any:
    if text not in list(choices):
        raise InvalidInput(f"{name} is one of {', '.join(choices)}, got {text!r}")
    return choices(text)
