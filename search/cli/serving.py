"""``prunefront serve`` and ``runner``: the dashboard, and who does what is asked for through it. No torch here."""

from __future__ import annotations

import os
import secrets
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import click

from search.cli.options import db_option
from search.cli.output import say
from spaces import InvalidInput

__all__ = ["runner", "serve"]

_RUNNER_GRACE_S = 90.0
_folder = click.Path(path_type=Path, exists=True, file_okay=False)


@click.command(short_help="Serve the dashboard and its API, and do what is asked for there.")
@db_option
@click.option("--host", default="127.0.0.1", show_default=True, help="Where to listen.")
@click.option("--port", type=click.IntRange(0, 65535), default=8050, show_default=True, help="0: any that is free.")
@click.option(
    "--token-file",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Keep the token in this file from one start to the next; it is made if it is not there.  [default: a new "
    "token each time, or PRUNEFRONT_TOKEN]",
)
@click.option("--no-token", is_flag=True, help="Let everybody on this machine in; refused with any other --host.")
@click.option("--allowed-host", "allowed_hosts", multiple=True, help="Another name of this machine. May be repeated.")
@click.option("--data-root", "data", type=_folder, multiple=True, help="Where images may lie. May be repeated.")
@click.option("--model-root", "model", type=_folder, multiple=True, help="Where models may lie. May be repeated.")
@click.option("--output-root", "output", type=_folder, help="Where bundles are written.")
@click.option("--allow-downloads", is_flag=True, help="Let searches download weights from the hub.")
@click.option("--max-queued", type=click.IntRange(1), default=32, show_default=True, help="Jobs that may wait.")
@click.option("--runner/--no-runner", "with_runner", default=True, show_default=True, help="Start a runner, too.")
def serve(**options: Any) -> None:
    """Serve the dashboard and its JSON API to this machine, and do the searches that are asked for there.

    The address that is printed holds a token, without which nothing is shown. Searches are done by a runner, a
    process of its own: prunefront runner starts one that goes on when the dashboard ends.

    \b
    Examples:
      prunefront serve
      prunefront serve --data-root /data --model-root /models --token-file ~/.prunefront-token
      prunefront serve --host 0.0.0.0 --allowed-host lab.example.org
    """
    from dashboard.desk import Desk  # Dash takes a second to import
    from dashboard.roots import Roots
    from dashboard.security import Access
    from dashboard.server import make_wsgi
    from dashboard.server import serve as answer
    from storage import Store

    db, host = options["db"], options["host"]
    token = _token(options["token_file"], without=options["no_token"])
    access = Access.of(host, token, options["allowed_hosts"])
    roots = Roots(options["data"], options["model"], options["output"], options["allow_downloads"])
    with ExitStack() as stack:
        store = stack.enter_context(Store(db, create=True))
        wsgi = make_wsgi(Desk(store, roots, max_queued=options["max_queued"]), access)

        def ready(port: int) -> None:
            if options["with_runner"]:
                _start_runner(stack, db)
            shown = "127.0.0.1" if host in ("0.0.0.0", "::") else host
            where = f"http://{f'[{shown}]' if ':' in shown else shown}:{port}/"
            say(f"studies: {store.url}")
            say(f"dashboard: {where if token is None else f'{where}login?token={token}'}")

        answer(wsgi, host, options["port"], ready)
    say("stopped")


@click.command(short_help="Do what is asked for through the dashboard.")
@db_option
@click.option("--with-parent", is_flag=True, hidden=True, help="End with the process that started this one.")
def runner(db: str, with_parent: bool) -> None:
    """Take the jobs that are asked for through the dashboard, until Ctrl-C; what is not done then waits for the next.

    prunefront serve starts one of its own unless told not to. A runner of its own goes on when the dashboard ends,
    and may run on another machine that reaches the database, the data and the models by the same names.

    \b
    Example:
      prunefront runner --db postgresql+psycopg://me@host/prunefront
    """
    from search.interruption import stop_on_signal
    from search.parenthood import end_with_parent
    from search.service import Runner

    if with_parent:
        end_with_parent()
    with stop_on_signal(say) as stop_requested:
        Runner(db, say=say).run(stop_requested)


def _start_runner(stack: ExitStack, db: str) -> None:
    from search.parenthood import start_child, stop_child

    # The URL may hold a password, which the list of processes must not show.
    child = start_child(["search.cli.main", "runner", "--with-parent"], env={"PRUNEFRONT_DB": db})
    stack.callback(stop_child, child, _RUNNER_GRACE_S)


def _token(file: Path | None, *, without: bool) -> str | None:
    from dashboard.security import read_token_file

    given = os.environ.get("PRUNEFRONT_TOKEN")
    if without:
        if file or given:
            raise InvalidInput("--no-token, and yet a token is given: leave out one of them")
        return None
    if file is not None:
        return read_token_file(file)
    return given or secrets.token_urlsafe(32)
