"""Every command that README and docs show is run, in the order of its page, on a small model and its images."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest
from click import Command, Context
from click.testing import CliRunner

from search.cli.main import cli

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
_BLOCK = re.compile(r"^```\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_SPAN = re.compile(r"`(prunefront [^`]+)`")


def commands_of(page: Path) -> list[list[str]]:
    """Give the commands of a page's blocks, without the program's name."""
    text = "\n".join(_BLOCK.findall(page.read_text())).replace("\\\n", " ")
    return [shlex.split(line)[1:] for line in text.splitlines() if line.startswith("prunefront ")]


WITH_COMMANDS = [page for page in PAGES if commands_of(page)]


def test_the_pages_that_show_how_to_begin_are_among_them():
    assert {"README.md", "quickstart.md", "own.md", "selection.md", "bundles.md"} <= {
        page.name for page in WITH_COMMANDS
    }


def small(command: list[str], place) -> list[str]:
    """Put our model and images in the place of the reader's, and have few trials of few images in this process."""
    ours = {"--model": [place.model], "--data": [place.data, "--labels", place.labels], "--trials": ["4"]}
    ours |= {"--images": ["40"], "--confirm-images": ["40"], "--checkpoint": None, "--labels": None}
    verb, *rest = command
    given: list[str] = [verb]
    waiting = iter(rest)
    for word in waiting:
        if word in ours and verb in ("search", "evaluate"):
            next(waiting)
            given += [] if ours[word] is None else [word, *ours[word]]
        elif word == "3.0" and verb != "flops":
            given.append("65%")  # of our model, which has no 3 GFLOPs to spend
        else:
            given.append(word)
    added = {"search": ["--executor", "local", "--no-race", "--device", "cpu"], "confirm": ["--executor", "local"]}
    added["search"] += [] if "--trials" in rest else ["--trials", "4"]
    added["search"] += [] if "--images" in rest else ["--images", "40"]
    added["bench"] = ["--runtimes", "torch", "--seconds", "0", "--device", "cpu"]
    return [*given, *added.get(verb, [])]


@pytest.mark.parametrize("page", WITH_COMMANDS, ids=lambda page: page.stem)
def test_the_commands_of_a_page_run_one_after_the_other(page, place, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    commands = commands_of(page)
    if not any("first" in command for command in commands if command[0] == "search"):
        first = ["search", "--study", "first", "--model", "m", "--data", "d", "--budget", "50%:90%"]
        commands.insert(0, first)  # what a reader has from the quickstart
    for command in commands:
        result = CliRunner().invoke(cli, small(command, place), prog_name="prunefront")
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            raise result.exception
        assert result.exit_code == 0, f"{shlex.join(command)}: {result.stderr}"


def spans() -> list[str]:
    return sorted({span for page in PAGES for span in _SPAN.findall(" ".join(page.read_text().split()))})


@pytest.mark.parametrize("span", spans())
def test_a_verb_named_in_a_sentence_is_there_with_its_options(span):
    verb, *rest = shlex.split(span)[1:]
    command = cli.get_command(Context(cli), verb)
    assert isinstance(command, Command), verb
    known = {name for option in command.params for name in (*option.opts, *option.secondary_opts)}
    assert {word for word in rest if word.startswith("--")} <= known
