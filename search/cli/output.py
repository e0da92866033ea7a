"""Print results: tables for people, JSON for programs."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, redirect_stdout
from typing import Any

import click
from tabulate import tabulate

__all__ = ["print_json", "print_table", "results_alone_on_stdout", "say"]


def say(line: str) -> None:
    """Tell the person something that is not the result."""
    click.echo(line, err=True)


@contextmanager
def results_alone_on_stdout() -> Iterator[None]:
    """Send to stderr what libraries print meanwhile: Ray tells of lost workers on stdout."""
    with redirect_stdout(sys.stderr):
        yield


def print_json(value: Any) -> None:
    """Print a result for programs."""
    click.echo(json.dumps(value, indent=2, default=str, allow_nan=False))


def print_table(rows: Sequence[Sequence[Any]], headers: Sequence[str]) -> None:
    """Print a result for people."""
    click.echo(tabulate(rows, headers=headers, tablefmt="simple", disable_numparse=True))
