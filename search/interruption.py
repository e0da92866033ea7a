"""Stopping cleanly: the error that says so, and Ctrl-C turned into a question the loop asks between trials."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

from spaces.errors import PrunefrontError

__all__ = ["Interrupted", "stop_on_signal"]


class Interrupted(PrunefrontError):
    """A person stopped the search; what was finished is kept."""


@contextmanager
def stop_on_signal(say: Callable[[str], None]) -> Iterator[Callable[[], bool]]:
    """Give a function that says whether Ctrl-C (or SIGTERM) came; a second one interrupts at once."""
    asked = threading.Event()

    def ask(number: int, frame: FrameType | None) -> None:
        if asked.is_set():
            raise KeyboardInterrupt
        asked.set()
        say("stopping; again to stop at once")

    before = {number: signal.signal(number, ask) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield asked.is_set
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
