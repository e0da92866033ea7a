"""What stands before every page and every answer: who may ask, from where, and what a request may look like.

Listening on 127.0.0.1 alone protects nobody: any web page that a person has open can send requests there, under a
name of its own (DNS rebinding) or as the person (forged requests). So everything passes ``Guard``, whatever its
method and route.
"""

from __future__ import annotations

import hashlib
import hmac
import html
import io
import json
import os
import secrets
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from werkzeug.wrappers import Request, Response

from spaces.errors import InvalidInput, PrunefrontError

__all__ = ["LOOPBACK", "MAX_BODY_BYTES", "Access", "Guard", "content_policy", "read_token_file"]

LOOPBACK = ("127.0.0.1", "localhost", "::1")
MAX_BODY_BYTES = 1_000_000
LOGIN = "/login"
_LEAST_TOKEN_LENGTH = 16
_CHANGES_NOTHING = ("GET", "HEAD")
_COOKIE_SECONDS = 30 * 24 * 3600

_HEADERS = {
    "Cache-Control": "no-store",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), microphone=(), geolocation=()",
}
_LOGIN_POLICY = "default-src 'none'; style-src 'unsafe-inline'; form-action 'self'; frame-ancestors 'none'"
_LOGIN_PAGE = """<!doctype html><html lang="en"><meta charset="utf-8"><title>prunefront</title>
<meta name="viewport" content="width=device-width"><style>
:root {{ color-scheme: light dark }} body {{ font: 16px/1.5 system-ui, sans-serif; max-width: 26rem; margin: 18vh auto;
padding: 0 1.5rem }} input, button {{ font: inherit; padding: .5rem .75rem; border-radius: .5rem;
border: 1px solid #8888; width: 100%; box-sizing: border-box; margin-top: .75rem }}
button {{ background: #0b6bcb; color: #fff; border: 0 }}
p {{ opacity: .8 }} [role=alert] {{ color: #c0362c; opacity: 1 }}</style>
<h1>prunefront</h1><p>This page asks for the token that <code>prunefront serve</code> printed when it started.</p>
{alert}
<form action="/login" method="get"><input name="token" type="password" aria-label="Token" placeholder="Token" required
autofocus autocomplete="off"><button>Open the dashboard</button></form></html>"""


@dataclass(frozen=True)
class Access:
    """Who may use a dashboard.

    Attributes:
        token: the secret that opens it; ``None`` lets everybody in who can reach it.
        hosts: names under which it may be asked for, in lower case.
    """

    token: str | None
    hosts: frozenset[str]

    @classmethod
    def of(cls, host: str, token: str | None, allowed_hosts: Iterable[str] = ()) -> Access:
        """Settle who may use a dashboard that listens on ``host``.

        Raises:
            InvalidInput: it can be reached from elsewhere and has no token, or the token is short enough to guess.
        """
        if token is None and host not in LOOPBACK:
            raise InvalidInput(
                f"a dashboard on {host} can be reached from elsewhere and needs a token: leave --no-token out, or "
                "listen on 127.0.0.1"
            )
        if token is not None and len(token) < _LEAST_TOKEN_LENGTH:
            raise InvalidInput(f"a token has at least {_LEAST_TOKEN_LENGTH} characters, got {len(token)}")
        return cls(token, frozenset(name.lower().strip("[]") for name in (*LOOPBACK, host, *allowed_hosts)))

    @property
    def cookie(self) -> tuple[str, str]:
        """The cookie that stands for the token: name and value, from neither of which the token can be found.

        Cookies are shared by all ports of a machine, so its name tells dashboards with different tokens apart.
        """
        value = hmac.new((self.token or "").encode(), b"prunefront cookie", hashlib.sha256).hexdigest()
        return f"prunefront_{hashlib.sha256(value.encode()).hexdigest()[:8]}", value

    def is_token(self, given: str | None) -> bool:
        """Say whether this is the token, in a time that tells nothing of it."""
        return self.token is None or hmac.compare_digest((given or "").encode(), self.token.encode())

    def lets_in(self, request: Request) -> bool:
        """Say whether a request brings the token or its cookie."""
        if self.token is None:
            return True
        kind, _, given = request.headers.get("Authorization", "").partition(" ")
        if kind:
            return kind.lower() == "bearer" and self.is_token(given.strip())
        name, value = self.cookie
        return hmac.compare_digest(request.cookies.get(name, "").encode(), value.encode())


def read_token_file(path: Path) -> str:
    """Read the token that a file keeps from one start to the next; make one where there is none.

    Raises:
        InvalidInput: others may read the file.
        PrunefrontError: it cannot be read or written.
    """
    try:
        if not path.exists():
            with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
                file.write(secrets.token_urlsafe(32) + "\n")
        if path.stat().st_mode & 0o077:
            raise InvalidInput(f"others may read the token in {path}: chmod 600 {path}")
        return path.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise PrunefrontError(f"cannot use the token file {path}: {error}") from None


def content_policy(script_hashes: Sequence[str]) -> str:
    """Write the policy for pages: scripts, pictures and requests of this server alone, in no other page's frame.

    ``unsafe-eval`` is for plotly, whose WebGL traces compile their drawing routines with ``Function``: without it they
    stay blank, silently. No script gets in by it, since inline scripts need one of the hashes and files come from here.
    """
    scripts = " ".join(script_hashes)
    return (
        f"default-src 'self'; script-src 'self' 'unsafe-eval' {scripts}; style-src 'self' 'unsafe-inline'; "
        "img-src 'self' data: blob:; object-src 'none'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
    )


class Guard:
    """A WSGI application around another: refuses, lets in, and adds the headers that browsers obey."""

    def __init__(self, app: Callable[..., Any], access: Access, policy: str) -> None:
        self._app, self._access = app, access
        self._headers = {**_HEADERS, "Content-Security-Policy": policy}

    def __call__(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        """Answer one request."""
        request = Request(environ)
        answer = self._before_login(request)
        if answer is None and request.path == LOGIN:
            answer = self._login(request)
        if answer is None and not self._access.lets_in(request):
            answer = self._ask_for_token(request)
        if answer is None:
            answer = _body_refusal(request, environ)
        if answer is not None:
            answer.headers.extend({name: value for name, value in self._headers.items() if name not in answer.headers})
            return answer(environ, start_response)

        def start(status: str, headers: list[tuple[str, str]], *rest: Any) -> Any:
            given = {name.lower() for name, _ in headers}
            added = [(name, value) for name, value in self._headers.items() if name.lower() not in given]
            return start_response(status, [*headers, *added], *rest)

        found: Iterable[bytes] = self._app(environ, start)
        return found

    def _before_login(self, request: Request) -> Response | None:
        """Refuse what comes under another name or from another page, whoever sends it."""
        host = request.headers.get("Host", "")
        if _host_name(host) not in self._access.hosts:
            return _refusal(403, "this dashboard is not called that: start it with --allowed-host NAME to allow a name")
        origin = request.headers.get("Origin")
        if origin is not None and urlsplit(origin).netloc.lower() != host.lower():
            return _refusal(403, "requests from other pages are refused")
        changes = request.method not in _CHANGES_NOTHING
        if changes and request.headers.get("Sec-Fetch-Site", "same-origin") not in ("same-origin", "none"):
            return _refusal(403, "requests from other pages are refused")
        if changes and request.method != "POST":
            return _refusal(405, "only GET and POST are understood", Allow="GET, HEAD, POST")
        return None

    def _login(self, request: Request) -> Response:
        """Exchange the token for a cookie that scripts cannot read and other sites cannot send."""
        given = request.args.get("token")
        if not self._access.is_token(given):
            return _login_page("" if given is None else "That is not the token.")
        answer = Response(status=303, headers={"Location": "/"})
        if self._access.token is not None:
            name, value = self._access.cookie
            answer.set_cookie(name, value, max_age=_COOKIE_SECONDS, httponly=True, samesite="Strict", path="/")
        return answer

    def _ask_for_token(self, request: Request) -> Response:
        if request.method == "GET" and request.accept_mimetypes.best == "text/html":
            return _login_page("")
        return _refusal(
            401, "the token is missing or wrong: send Authorization: Bearer TOKEN", WWW_Authenticate="Bearer"
        )


def _body_refusal(request: Request, environ: dict[str, Any]) -> Response | None:
    """Refuse a change that is no JSON of a reasonable size; hand its body on otherwise."""
    if request.method in _CHANGES_NOTHING:
        return None
    if request.mimetype != "application/json":
        return _refusal(415, "changes are asked for as application/json")
    if (request.content_length or 0) > MAX_BODY_BYTES:
        return _refusal(413, f"a request has at most {MAX_BODY_BYTES} bytes")
    body = request.get_data(cache=False)
    try:
        json.loads(body)
    except (ValueError, RecursionError):
        return _refusal(400, "the request is no JSON")
    environ["wsgi.input"] = io.BytesIO(body)
    return None


def _host_name(host: str) -> str:
    """Take the name from a Host header.

    >>> _host_name("LocalHost:8050"), _host_name("[::1]:8050"), _host_name("me@127.0.0.1"), _host_name("")
    ('localhost', '::1', '', '')
    """
    try:
        parts = urlsplit(f"//{host}")
        _ = parts.port
    except ValueError:
        return ""
    return "" if "@" in host or parts.path or parts.query else (parts.hostname or "")


def _refusal(status: int, why: str, **headers: str) -> Response:
    answer = Response(json.dumps({"error": why}) + "\n", status=status, mimetype="application/json")
    answer.headers.extend({name.replace("_", "-"): value for name, value in headers.items()})
    return answer


def _login_page(alert: str) -> Response:
    shown = f'<p role="alert">{html.escape(alert)}</p>' if alert else ""
    page = Response(_LOGIN_PAGE.format(alert=shown), status=401, mimetype="text/html")
    page.headers["Content-Security-Policy"] = _LOGIN_POLICY
    return page
