"""``prunefront db``: upgrade, check, merge, delete and vacuum databases. No torch here."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict

import click

from search.cli.options import db_option, json_option
from search.cli.output import print_json, say
from spaces import InvalidInput, PrunefrontError
from storage.database import shown, upgrade
from storage.upkeep import Merged, Upkeep

__all__ = ["db"]


@click.group(short_help="Look after a database: upgrade, check, merge, delete, vacuum.")
def db() -> None:
    """Look after the database that studies lie in.

    \b
    Examples:
      prunefront db check --db sqlite:///prunefront.db
      prunefront db merge sqlite:///from-the-other-machine.db
    """


@db.command("upgrade", short_help="Bring the tables to this program's version.")
@db_option
@json_option
def upgrade_tables(db: str, as_json: bool) -> None:
    """Bring the tables to this program's version; older programs cannot use them afterwards.

    A SQLite file is also brought up to date by whichever verb opens it first.

    \b
    Example:
      prunefront db upgrade --db postgresql+psycopg://me@host/studies
    """
    before, after = upgrade(db)
    if as_json:
        print_json({"before": before, "after": after})
    else:
        click.echo(f"{shown(db)}: version {after}" + ("" if before == after else f", before {before}"))


@db.command(short_help="Look for rows that cannot be.")
@db_option
@json_option
def check(db: str, as_json: bool) -> None:
    """Look for rows that belong to nothing, states that cannot be, and digests that do not fit; fail if there are any.

    \b
    Example:
      prunefront db check
    """
    with Upkeep(db) as opened:
        found = opened.problems()
    if as_json:
        print_json(found)
    else:
        for line in found or ["nothing is wrong"]:
            click.echo(line)
    if found:
        raise PrunefrontError(f"{len(found)} things in {shown(db)} cannot be")


@db.command(short_help="Take in the studies of another database.")
@click.argument("other")
@click.option("--rename", multiple=True, metavar="NAME=NEW", help="What to call a study here. May be repeated.")
@db_option
@json_option
def merge(other: str, rename: tuple[str, ...], db: str, as_json: bool) -> None:
    """Take in the studies of OTHER, a database URL, which stays as it is; those that are here already are left out.

    \b
    Examples:
      prunefront db merge sqlite:///from-the-other-machine.db
      prunefront db merge sqlite:///old.db --rename first=first-of-old --db postgresql+psycopg://me@host/studies
    """
    with Upkeep(db) as here, Upkeep(other) as there:
        merged = here.merge(there, _names(rename))
    if as_json:
        print_json([asdict(each) for each in merged])
        return
    for each in merged:
        click.echo(_merged_line(each))
    if not merged:
        say(f"{shown(other)} has no studies")


@db.command(short_help="Delete a study.")
@click.argument("study")
@click.option("--yes", is_flag=True, help="Do not ask.")
@db_option
@json_option
def delete(study: str, yes: bool, db: str, as_json: bool) -> None:
    """Delete a study with everything that was measured for it.

    \b
    Example:
      prunefront db delete first --yes
    """
    with Upkeep(db) as opened:
        if not yes:
            click.confirm(f"delete the study {study} and all its trials from {opened.url}?", abort=True, err=True)
        n_trials = opened.delete(study)
    if as_json:
        print_json({"study": study, "trials": n_trials})
    else:
        click.echo(f"{study} and its {n_trials} trials are deleted")


@db.command(short_help="Give back the room of what was deleted.")
@db_option
@json_option
def vacuum(db: str, as_json: bool) -> None:
    """Give back the room of what was deleted.

    \b
    Example:
      prunefront db vacuum
    """
    with Upkeep(db) as opened:
        before, after = opened.vacuum()
    if as_json:
        print_json({"bytes_before": before, "bytes_after": after})
    else:
        click.echo(f"{before / 1e6:.2f} MB before, {after / 1e6:.2f} MB now")


def _names(rename: Sequence[str]) -> dict[str, str]:
    names = {}
    for text in rename:
        name, equals, new = text.partition("=")
        if not (name and equals and new):
            raise InvalidInput(f"--rename takes NAME=NEW, got {text!r}")
        names[name] = new
    return names


def _merged_line(merged: Merged) -> str:
    if merged.name_here is None:
        return f"{merged.name} was here already"
    new_name = "" if merged.name_here == merged.name else f" as {merged.name_here}"
    return f"{merged.name} is here now{new_name}, with {merged.n_trials} trials"
