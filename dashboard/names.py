"""Names of studies in addresses: one part of a path each, whatever stands in them."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any
from urllib.parse import quote, unquote, unquote_to_bytes

from werkzeug.routing import BaseConverter

__all__ = ["StudyName", "keep_slashes"]


class StudyName(BaseConverter):
    """A study's name in a route, behind ``keep_slashes``.

    >>> from werkzeug.routing import Map
    >>> StudyName(Map()).to_python("a%2Fb 50%25")
    'a/b 50%'
    """

    def to_python(self, value: str) -> str:
        """Read a name from a path."""
        return unquote(value)

    def to_url(self, value: str) -> str:
        """Write it into one."""
        return quote(value, safe="")


def keep_slashes(app: Callable[..., Any], under: str) -> Callable[..., Any]:
    """Tell slashes in names from those between parts of a path, which servers hand on as if they were the same.

    Args:
        app: a WSGI application.
        under: below this address an application sees paths in which ``/`` and ``%`` of names are still encoded, as
            ``%2F`` and ``%25``.
    """

    def kept(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        asked = environ.get("REQUEST_URI", "").partition("?")[0]
        if asked.startswith(under):
            still = asked.replace("%25", "%2525").replace("%2F", "%252F").replace("%2f", "%252F")
            environ["PATH_INFO"] = unquote_to_bytes(still.encode("latin-1")).decode("latin-1")
        answer: Iterable[bytes] = app(environ, start_response)
        return answer

    return kept
