"""What pages are made of."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any
from urllib.parse import quote

from dash import ClientsideFunction, Dash, Input, Output, dcc, html

from storage import JobRecord, JobState

__all__ = [
    "GRAPH_CONFIG",
    "api_path",
    "aria",
    "badge",
    "card",
    "draw_long_table",
    "empty",
    "facts",
    "in_browser",
    "job_line",
    "long_table",
    "moment",
    "progress_bar",
    "study_path",
    "table",
    "trial_path",
]

GRAPH_CONFIG: Any = {
    "displaylogo": False,
    "modeBarButtonsToRemove": ["select2d", "lasso2d", "autoScale2d"],
    "scrollZoom": True,
    "responsive": True,
}


def aria(**attributes: str) -> Any:
    """Write attributes for people who do not see the page.

    >>> aria(label="Where", valuenow="3")
    {'aria-label': 'Where', 'aria-valuenow': '3'}
    """
    return {f"aria-{name}": value for name, value in attributes.items()}


def study_path(name: str) -> str:
    """Name the page of a study."""
    return f"/study/{quote(name, safe='')}"


def api_path(name: str) -> str:
    """Name where the API tells of a study."""
    return f"/api/studies/{quote(name, safe='')}"


def trial_path(name: str, number: int) -> str:
    """Name the page of a trial."""
    return f"{study_path(name)}/trial/{number}"


def card(*children: Any, title: str | None = None, **more: Any) -> html.Section:
    """Put things that belong together onto one sheet."""
    head = [] if title is None else [html.H2(title)]
    return html.Section([*head, *children], **{"className": "card", **more})


def badge(state: str) -> html.Span:
    """Show a state by a word and a colour."""
    return html.Span(state, className=f"badge {state}")


def empty(title: str, *hints: Any) -> html.Div:
    """Say that there is nothing here yet, and what to do about it."""
    return html.Div([html.P(title, className="lead"), *(html.P(hint) for hint in hints)], className="empty")


def facts(entries: Iterable[tuple[str, Any]]) -> html.Dl:
    """List names and values; those without a value are left out."""
    shown = [(name, value) for name, value in entries if value not in (None, "", [], {})]
    return html.Dl(
        [html.Div([html.Dt(name), html.Dd(value if _is_component(value) else str(value))]) for name, value in shown],
        className="facts",
    )


def table(headers: Sequence[Any], rows: Iterable[Sequence[Any]], *, caption: str, numbers: int = 0) -> html.Div:
    """Make a table that scrolls in itself; its last ``numbers`` columns are set flush right."""
    n = len(headers)

    def style(index: int) -> str:
        return "number" if index >= n - numbers else ""

    head = html.Tr([html.Th(each, scope="col", className=style(i)) for i, each in enumerate(headers)])
    body = [html.Tr([html.Td(each, className=style(i)) for i, each in enumerate(row)]) for row in rows]
    return html.Div(
        html.Table([html.Caption(caption), html.Thead(head), html.Tbody(body)]), className="scroll", tabIndex=0
    )


def long_table(
    place: str,
    headers: Sequence[str],
    rows: Iterable[Sequence[str | tuple[str, str]]],
    *,
    caption: str,
    numbers: int = 0,
) -> html.Div:
    """Make a table of many rows, which the browser draws: see ``draw_long_table``.

    Args:
        place: its id.
        headers: of columns.
        rows: of texts, or pairs of a text and the page that it leads to.
        caption: above it.
        numbers: so many of the last columns are set flush right.
    """
    content = {"headers": headers, "rows": list(rows), "caption": caption, "numbers": numbers}
    return html.Div(
        [dcc.Store(id=f"{place}-content", data=content), html.Div(id=place, className="scroll", tabIndex=0)]
    )


def draw_long_table(app: Dash, place: str) -> None:
    """Have the browser draw a ``long_table``: cells that are components of Dash's slow down all that is on a page."""
    in_browser(app, "table", Output(place, "data-rows"), Input(f"{place}-content", "data"))


def in_browser(app: Dash, function: str, *places: Any, **options: Any) -> None:
    """Have a function of ``assets/prunefront.js`` answer, instead of the server."""
    callback: Any = app.clientside_callback
    callback(ClientsideFunction("prunefront", function), *places, **options)


def progress_bar(done: int, total: int) -> html.Div:
    """Show how far something is, in words too."""
    share = 100 * done / max(total, 1)
    return html.Div(
        [
            html.Div(
                html.Div(style={"width": f"{share:.1f}%"}),
                className="bar",
                role="progressbar",
                **aria(valuenow=str(done), valuemin="0", valuemax=str(total)),
            ),
            html.Span(f"{done:,} of {total:,}"),
        ],
        className="progress",
    )


def job_line(job: JobRecord | None) -> Any:
    """Say in one line how a job is doing."""
    if job is None:
        return None
    said = {
        JobState.QUEUED: "waits for the runner",
        JobState.RUNNING: "is stopping" if job.is_cancelling else "is running",
        JobState.DONE: "is done",
        JobState.FAILED: f"failed: {job.error}",
        JobState.CANCELLED: "was cancelled",
    }[job.state]
    left = (job.progress or {}).get("seconds_left")
    eta = "" if left is None or job.state is not JobState.RUNNING else f", about {_duration(left)} left"
    return html.Span(
        [dcc.Link(f"Job {job.id}", href=f"/jobs/{job.id}"), f" ({job.kind.value}) {said}{eta}"],
        className="bad" if job.state is JobState.FAILED else "",
    )


def moment(when: datetime | None) -> str:
    """Write a moment in UTC, to the minute."""
    return "-" if when is None else f"{when:%Y-%m-%d %H:%M} UTC"


def _duration(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def _is_component(value: Any) -> bool:
    return hasattr(value, "to_plotly_json") or isinstance(value, list)
