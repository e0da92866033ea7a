"""The Dash application: the frame around the pages, and which page an address means."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable
from typing import Any
from urllib.parse import unquote

import dash
from dash import Input, Output, dcc, html, set_props
from flask import Response, request

from dashboard.desk import Desk
from dashboard.pages import images, jobs, launch, studies, study, trial
from dashboard.pages.parts import aria, card, in_browser
from spaces.errors import PrunefrontError
from storage.database import DatabaseError, NotThere

__all__ = ["make_app", "page_of"]

_INDEX = """<!doctype html>
<html lang="en"><head>{%metas%}<title>{%title%}</title>{%favicon%}{%css%}</head>
<body>{%app_entry%}<footer>{%config%}{%scripts%}{%renderer%}</footer></body></html>"""
_PLOTLY = "/_dash-component-suites/plotly/package_data/plotly.min.js"  # as Dash names it
_PAGES: tuple[tuple[str, Callable[..., Any]], ...] = (
    (r"/", studies.layout),
    (r"/launch", launch.layout),
    (r"/jobs", jobs.layout),
    (r"/jobs/(\d{1,9})", lambda desk, job_id: jobs.one_layout(desk, int(job_id))),
    (r"/study/([^/]+)", study.layout),
    (r"/study/([^/]+)/trial/(\d{1,9})", lambda desk, name, number: trial.layout(desk, name, int(number))),
    (r"/study/([^/]+)/trial/(\d{1,9})/images", lambda desk, name, number: images.layout(desk, name, int(number))),
)


def make_app(desk: Desk) -> dash.Dash:
    """Make all pages."""
    app = dash.Dash(
        __name__,
        title="prunefront",
        update_title="",
        index_string=_INDEX,
        suppress_callback_exceptions=True,
        on_error=_tell,
        meta_tags=[{"name": "viewport", "content": "width=device-width, initial-scale=1"}],
    )
    app.layout = _frame(desk)
    app.server.after_request(_fetch_plotly_early)
    # What only the browser knows: whether it can draw with WebGL, and which colours a person wants.
    in_browser(app, "hasWebGL", Output("webgl", "data"), Input("url", "pathname"))
    in_browser(app, "theme", Output("theme", "data"), Input("theme-switch", "n_clicks"))

    @app.callback(Output("page", "children"), Output("alert", "children"), Input("url", "pathname"))
    def show(path: str | None) -> Any:
        return page_of(desk, path or "/"), None

    for page in (studies, study, trial, images, launch, jobs):
        page.register(app, desk)
    return app


def page_of(desk: Desk, path: str) -> Any:
    """Make the page that an address means; one that says so, where there is none."""
    for pattern, layout in _PAGES:
        found = re.fullmatch(pattern, path)
        if found is not None:
            try:
                return layout(desk, *(unquote(part) for part in found.groups()))
            except NotThere as error:
                return _nothing("It is not here.", str(error))
            except DatabaseError as error:
                return _nothing("The database is away.", str(error), "This page asks again when it is reloaded.")
    return _nothing("There is no such page.")


def _nothing(title: str, *hints: str) -> html.Div:
    """Make a page that says why it shows nothing."""
    ways = [*(html.P(hint) for hint in hints), html.P(dcc.Link("All studies", href="/"))]
    return html.Div([html.Div([html.H1(title)], className="title"), card(*ways)])


def _frame(desk: Desk) -> html.Div:
    links = [("Studies", "/"), ("Launch", "/launch"), ("Jobs", "/jobs")]
    return html.Div(
        [
            dcc.Location(id="url", refresh="callback-nav"),
            dcc.Store(id="theme"),
            dcc.Store(id="webgl"),
            html.A("Skip to the page", href="#page", className="skip"),
            html.Header(
                [
                    dcc.Link("prunefront", href="/", className="brand"),
                    html.Nav([dcc.Link(name, href=path) for name, path in links], **aria(label="Pages")),
                    html.Span(desk.store.url, className="muted database", title="the database"),
                    html.Button("Light or dark", id="theme-switch", className="button small"),
                ]
            ),
            html.Div(id="alert", role="alert"),
            html.Main(html.Div(className="skeleton"), id="page", tabIndex=-1),
        ]
    )


def _fetch_plotly_early(answer: Response) -> Response:
    """Let a browser fetch what draws while it makes the page, of pages that always draw; else it would begin after."""
    if request.path.startswith("/study/") and answer.mimetype == "text/html":
        answer.headers.add("Link", f"<{_PLOTLY}>; rel=preload; as=script")
    return answer


def _tell(error: Exception) -> None:
    """Show what went wrong on the page, whichever callback it was in; the rest stays as it is."""
    if isinstance(error, DatabaseError):
        message = ["The database is away: ", str(error), ". What is shown is as it was; asking again."]
    elif isinstance(error, PrunefrontError):
        message = [str(error)]
    else:
        logging.getLogger(__name__).error("a page failed", exc_info=error)
        message = ["Something went wrong on this page; the server's own output says what."]
    set_props("alert", {"children": html.Div(message, className="alarm")})
