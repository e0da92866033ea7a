"""``prunefront methods``: what can be searched. No torch here."""

from __future__ import annotations

import textwrap
from dataclasses import asdict

import click

from search.cli.options import json_option
from search.cli.output import print_json, print_table
from spaces import METHODS
from spaces.catalogue import MethodEntry, describe_method

__all__ = ["methods"]

_WIDTH = 76  # of what a method does and searches
_CELL = 36  # of the table of settings


@click.command(short_help="Say which methods there are, and what their presets search.")
@click.argument("name", required=False)
@json_option
def methods(name: str | None, as_json: bool) -> None:
    """Say which methods there are and what their presets search, or everything about one of them.

    \b
    Examples:
      prunefront methods
      prunefront methods zero_tprune
    """
    entries = [describe_method(each) for each in (METHODS if name is None else [name])]
    if as_json:
        described = [asdict(entry) | {"class_token": entry.class_token} for entry in entries]
        print_json(described if name is None else described[0])
    elif name is None:
        print_table([_row(entry) for entry in entries], ["method", "paper", "class token", "what it does and searches"])
        click.echo("\nSearch with --method NAME, NAME,NAME or all; the settings of one: prunefront methods NAME")
    else:
        _print_details(entries[0])


def _row(entry: MethodEntry) -> list[str]:
    lines = [entry.summary]
    for preset in entry.presets:
        searched = [f"{setting} {_airy(domain)}" for setting, domain in entry.searched(preset).items()]
        lines.append(f"{preset}: {'; '.join(searched)}")
    wrapped = [
        textwrap.fill(line, _WIDTH, subsequent_indent="  " if number else "", break_on_hyphens=False)
        for number, line in enumerate(lines)
    ]
    return [entry.name, f"arXiv:{entry.paper}", entry.class_token, "\n".join(wrapped) + "\n"]


def _print_details(entry: MethodEntry) -> None:
    click.echo(f"{entry.name}: {entry.summary}")
    click.echo(f"paper: https://arxiv.org/abs/{entry.paper}")
    click.echo(f"class token: {entry.class_token}\n")
    rows = []
    for setting in entry.settings:
        row = [setting.name, setting.values, setting.default]
        for preset in entry.presets:
            mark = "* " if preset in setting.searched_by else "  "
            row.append(mark + _airy(setting.presets[preset]) if preset in setting.presets else "")
        rows.append([textwrap.fill(cell, _CELL, subsequent_indent="  ", break_on_hyphens=False) for cell in row])
    print_table(rows, ["setting", "values in a layout", "default", *(f"  {preset}" for preset in entry.presets)])
    click.echo("\n* searched by the preset; whatever a preset fixes or searches, --set NAME=VALUE changes")


def _airy(choices: str) -> str:
    """Let a list of choices break at the end of a line."""
    return choices.replace(",", ", ")
