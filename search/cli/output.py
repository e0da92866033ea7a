"""Print results: tables for people, JSON for programs."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import click
from tabulate import tabulate

__all__ = ["print_json", "print_table", "say"]


def say(line: str) -> None:
    """Tell the person something that is not the result."""
    click.echo(line, err=True)


def print_json(value: Any) -> None:
    """Print a result for programs."""
    click.echo(json.dumps(value, indent=2, default=str, allow_nan=False))


def print_table(rows: Sequence[Sequence[Any]], headers: Sequence[str]) -> None:
    """Print a result for people."""
    click.echo(tabulate(rows, headers=headers, tablefmt="simple", disable_numparse=True))
