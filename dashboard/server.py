"""Serve the dashboard: pages and API behind one guard, by a server that stops when it is told to."""

from __future__ import annotations

import signal
from collections.abc import Callable
from types import FrameType
from typing import Any

from waitress.server import create_server

from dashboard.api import make_api
from dashboard.app import make_app
from dashboard.desk import Desk
from dashboard.names import keep_slashes
from dashboard.security import MAX_BODY_BYTES, Access, Guard, content_policy
from spaces.errors import PrunefrontError

__all__ = ["make_wsgi", "serve"]

_THREADS = 8


def make_wsgi(desk: Desk, access: Access) -> Callable[..., Any]:
    """Make the whole dashboard as one WSGI application."""
    app = make_app(desk)
    app.server.register_blueprint(make_api(desk))
    return Guard(keep_slashes(app.server.wsgi_app, "/api/studies/"), access, content_policy(app.csp_hashes()))


def serve(wsgi: Callable[..., Any], host: str, port: int, on_ready: Callable[[int], None]) -> None:
    """Answer requests until SIGTERM or Ctrl-C.

    Args:
        wsgi: the application.
        host: where to listen.
        port: likewise; 0 takes any that is free.
        on_ready: is told the port, once requests are answered.

    Raises:
        PrunefrontError: somebody else listens there.
    """
    try:
        # No more of a body is read than the guard would let through.
        server = create_server(
            wsgi,
            host=host,
            port=port,
            threads=_THREADS,
            ident=None,
            max_request_body_size=MAX_BODY_BYTES + 1,
            clear_untrusted_proxy_headers=True,
        )
    except OSError as error:
        raise PrunefrontError(f"cannot listen on {host}:{port}: {error.strerror}; name another --port") from None

    def stop(number: int, frame: FrameType | None) -> None:
        raise SystemExit

    before = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        on_ready(_port_of(server))
        server.run()  # returns at SystemExit, when the answers begun are given
    except SystemExit:
        pass  # before the server ran
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        server.close()


def _port_of(server: Any) -> int:
    """Give the port that a server got; it has several sockets where its host has several addresses."""
    port: int = server.effective_listen[0][1] if hasattr(server, "effective_listen") else server.effective_port
    return port
