"""Every command that README and docs show is run, in the order of its page, on a small model and its images."""

from __future__ import annotations

import re
import shlex
import textwrap
import tomllib
from importlib.util import find_spec
from pathlib import Path
from urllib.request import HTTPCookieProcessor, build_opener

import pytest
from click import Command, Context
from click.testing import CliRunner
from werkzeug.test import Client

from dashboard.desk import Desk
from dashboard.security import Access
from dashboard.server import make_wsgi
from search.cli.main import cli
from storage import Store
from tests.browser.conftest import serve

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
_BLOCK = re.compile(r"^```\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_INDENTED = re.compile(r"(?:^    .*\n)+", re.MULTILINE)
_SPAN = re.compile(r"`(prunefront [^`]+)`")
_OTHER_SPAN = re.compile(r"`((?:make|python -m|pip install) [^`]+)`")
_PROGRAMS = ("prunefront", "make", "ray", "curl")
_STAY = ("serve", "runner")  # until they are stopped


def blocks_of(page: Path) -> list[list[str]]:
    """Give the lines of a page's blocks, in fences without a language or indented, those that go on joined."""
    text = page.read_text()
    found = _BLOCK.findall(text) + [textwrap.dedent(block) for block in _INDENTED.findall(_without_fences(text))]
    return [block.replace("\\\n", " ").splitlines() for block in found]


def _without_fences(text: str) -> str:
    return re.sub(r"^(`{3,}).*?^\1$", "", text, flags=re.MULTILINE | re.DOTALL)


def commands_of(page: Path, program: str = "prunefront") -> list[list[str]]:
    """Give a program's commands on a page, without its name."""
    lines = (line for block in blocks_of(page) for line in block if line.startswith(f"{program} "))
    return [shlex.split(line, comments=True)[1:] for line in lines]


def pages_with(program: str) -> list[Path]:
    return [page for page in PAGES if commands_of(page, program)]


def test_the_pages_that_show_how_to_begin_are_among_them():
    named = {page.name for page in pages_with("prunefront")}
    assert {"README.md", "quickstart.md", "own.md", "selection.md", "bundles.md", "dashboard.md", "scaling.md"} <= named


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_a_block_that_begins_with_a_command_holds_nothing_else(page):
    """Else a command could be shown in a way in which none of these tests finds it."""
    for block in blocks_of(page):
        first_words = [line.split()[0] for line in block if line.strip()]
        if first_words and first_words[0] in _PROGRAMS:
            assert set(first_words) <= set(_PROGRAMS)
        assert not any(line.startswith("$ ") for line in block)


def small(command: list[str], place) -> list[str]:
    """Put our model and images in the place of the reader's, and have few trials of few images in this process."""
    ours = {"--model": [place.model], "--data": [place.data, "--labels", place.labels], "--trials": ["4"]}
    ours |= {"--images": ["40"], "--confirm-images": ["40"], "--checkpoint": None, "--labels": None, "--workers": None}
    ours |= {"--budget-ms": ["900%"]}  # so small a model takes longer with pruning than without
    verb, *rest = command
    if "segmentation" in rest:  # a segmenter is bundled, and ours is none
        ours |= {"--model": ["shapes_seg_small"], "--data": ["shapes"], "--images": ["16"], "--confirm-images": ["8"]}
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


def is_whole(command: list[str]) -> bool:
    """Say whether a command ends by itself and lacks nothing: three dots stand for what a reader knows."""
    return command[0] not in _STAY and command[-1] != "..."


@pytest.mark.parametrize(
    "page", [page for page in PAGES if any(map(is_whole, commands_of(page)))], ids=lambda page: page.stem
)
def test_the_commands_of_a_page_run_one_after_the_other(page, place, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    commands = [command for command in commands_of(page) if is_whole(command)]
    if not any("first" in command for command in commands if command[0] == "search"):
        first = ["search", "--study", "first", "--model", "m", "--data", "d", "--budget", "50%:90%"]
        commands.insert(0, first)  # what a reader has from the quickstart
    for command in commands:
        result = CliRunner().invoke(cli, small(command, place), prog_name="prunefront")
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            raise result.exception
        assert result.exit_code == 0, f"{shlex.join(command)}: {result.stderr}"


@pytest.mark.parametrize("page", pages_with("prunefront"), ids=lambda page: page.stem)
def test_a_command_that_serves_answers_until_it_is_stopped(page, tmp_path):
    for command in (command for command in commands_of(page) if command[0] in _STAY):
        verb, *options = (str(tmp_path) if word in ("/data", "/models") else word for word in command)
        assert verb == "serve", f"nothing here runs {verb}"
        served = serve(tmp_path, "--no-runner", *options)
        try:
            visitor = build_opener(HTTPCookieProcessor())
            with visitor.open(served.address, timeout=60) as answer:
                assert answer.status == 200
        finally:
            served.process.terminate()
            code = served.process.wait(90)
        assert code == 0


@pytest.mark.parametrize("page", pages_with("prunefront"), ids=lambda page: page.stem)
def test_a_command_that_lacks_what_only_a_reader_knows_has_options_that_there_are(page):
    for command in (command for command in commands_of(page) if command[-1] == "..."):
        verb = cli.get_command(Context(cli), command[0])
        assert verb.make_context(verb.name, command[1:-1], resilient_parsing=True)


@pytest.mark.parametrize("page", pages_with("ray"), ids=lambda page: page.stem)
def test_rays_commands_are_rays(page):
    from ray.scripts.scripts import cli as ray

    for verb, *options in commands_of(page, "ray"):
        assert ray.commands[verb].make_context(verb, options, resilient_parsing=True)


@pytest.mark.parametrize("page", pages_with("make"), ids=lambda page: page.stem)
def test_targets_of_make_are_there(page):
    for (target,) in commands_of(page, "make"):
        assert target in targets()


def targets() -> list[str]:
    return re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)


@pytest.mark.parametrize("page", pages_with("curl"), ids=lambda page: page.stem)
def test_requests_are_answered(page, tmp_path):
    with Store(f"sqlite:///{tmp_path}/test.db", create=True) as store:
        client = Client(make_wsgi(Desk(store), Access.of("127.0.0.1", "secret" * 8)))
        for words in commands_of(page, "curl"):
            headers, body, address = {}, None, ""
            waiting = iter(words)
            for word in waiting:
                if word == "-H":
                    name, _, value = next(waiting).partition(": ")
                    headers[name] = value.replace("$TOKEN", "secret" * 8)
                elif word == "-d":
                    body = next(waiting)
                else:
                    address = word
            answer = client.open(address, method="POST" if body else "GET", headers=headers, data=body)
            assert answer.status_code == (201 if body else 200), answer.data


def spans(pattern: re.Pattern[str]) -> list[str]:
    return sorted({span for page in PAGES for span in pattern.findall(" ".join(page.read_text().split()))})


@pytest.mark.parametrize("span", spans(_SPAN))
def test_a_verb_named_in_a_sentence_is_there_with_its_options(span):
    verb, *rest = shlex.split(span)[1:]
    command = cli.get_command(Context(cli), verb)
    assert isinstance(command, Command), verb
    known = {name for option in command.params for name in (*option.opts, *option.secondary_opts)}
    assert {word for word in rest if word.startswith("--")} <= known


@pytest.mark.parametrize("span", spans(_OTHER_SPAN))
def test_what_else_is_named_in_a_sentence_is_there(span):
    program, *words = shlex.split(span)
    if program == "make":
        assert words[0] in targets()
    elif program == "python":
        assert find_spec(words[1])
    else:
        extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
        assert words[-1] in (".", "prunefront", *(f"prunefront[{extra}]" for extra in extras))
