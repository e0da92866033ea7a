"""Processes that end with the one that started them, however that one ends."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Sequence
from typing import Any

__all__ = ["end_with_parent", "start_child", "stop_child"]


def start_child(arguments: Sequence[str], *, env: dict[str, str] | None = None, output: int | None = None) -> Any:
    """Start a prunefront process that calls ``end_with_parent``.

    Args:
        arguments: of the program ``python -m``.
        env: over this process's environment.
        output: where its output goes, as for ``subprocess.Popen``; its errors go there too.
    """
    return subprocess.Popen(
        [sys.executable, "-m", *arguments],
        stdin=subprocess.PIPE,
        stdout=output,
        stderr=None if output is None else subprocess.STDOUT,
        env={**os.environ, **(env or {})},
        start_new_session=True,  # Ctrl-C is for the parent, which tells its children
    )


def end_with_parent() -> None:
    """Ask this process to stop (SIGTERM) when its parent is gone: the pipe from it, standard input, is then closed."""

    def wait() -> None:
        # Not sys.stdin, whose lock a thread would still hold when the interpreter ends.
        while os.read(0, 1):
            pass
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=wait, name="end with parent", daemon=True).start()


def stop_child(child: Any, seconds: float) -> int:
    """Ask a child to stop, end it and whatever it started after so many seconds, and give its exit code."""
    if child.poll() is None:
        child.terminate()
        try:
            child.wait(seconds)
        except subprocess.TimeoutExpired:
            os.killpg(child.pid, signal.SIGKILL)
    code: int = child.wait()
    child.stdin.close()
    return code
