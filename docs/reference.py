"""Write docs/cli.md from the verbs' ``--help`` and docs/python.md from docstrings: ``make docs``."""

from __future__ import annotations

import importlib
import inspect
import re
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import click
from pydantic import BaseModel

from search.cli.main import cli

__all__ = ["PAGES", "cli_page", "python_page"]

_WIDTH = 110
_MODULES = ("pruning", "pruning.bundle", "search", "search.bundling", "storage.remembered", "dashboard", "spaces")
_TWICE = {"pruning.bundle": ("load",)}  # what another module's page has already
_NOTE = "<!-- written by `make docs`; a test compares it with the program -->"


def cli_page() -> str:
    """Give every verb's help as a page."""
    settings = {**cli.context_settings, "terminal_width": _WIDTH, "max_content_width": _WIDTH}
    root = click.Context(cli, info_name="prunefront", **settings)
    parts = [_NOTE, "# The command line", _fenced(cli.get_help(root))]
    for verb in cli.list_commands(root):
        command = cli.get_command(root, verb)
        if command is None:
            raise RuntimeError(f"{verb} is listed but not there")
        parts += [f"## {verb}", _fenced(command.get_help(click.Context(command, info_name=verb, parent=root)))]
    return "\n\n".join(parts) + "\n"


def python_page() -> str:
    """Give the docstrings of what is meant to be called from Python as a page."""
    parts = [_NOTE, "# From Python"]
    for name in _MODULES:
        module = importlib.import_module(name)
        parts += [f"## {name}", _fenced(inspect.getdoc(module) or "")]
        parts += list(_members(module))
    return "\n\n".join(parts) + "\n"


def _members(module: ModuleType) -> Iterator[str]:
    for name in module.__all__:
        member = getattr(module, name)
        if name in _TWICE.get(module.__name__, ()) or not (inspect.isclass(member) or inspect.isfunction(member)):
            continue
        yield f"### {module.__name__}.{name}"
        yield _fenced(_described(name, member))
        if inspect.isclass(member):
            yield from _methods(name, member)


def _methods(class_name: str, of: type) -> Iterator[str]:
    """Describe a class's own methods and properties, and those of its base where that is ours."""
    ours = [base for base in reversed(of.__mro__) if base.__module__.split(".")[0] == of.__module__.split(".")[0]]
    names = dict.fromkeys(name for base in ours for name in vars(base) if not name.startswith("_"))
    for name in names:
        raw = inspect.getattr_static(of, name)
        if isinstance(raw, property):
            yield f"#### {class_name}.{name}"
            yield _fenced(inspect.getdoc(raw) or "")
        elif inspect.isfunction(raw) or isinstance(raw, classmethod | staticmethod):
            yield f"#### {class_name}.{name}"
            yield _fenced(_described(name, getattr(of, name)))


def _described(name: str, member: Any) -> str:
    documented = inspect.getdoc(member) or ""
    if inspect.isclass(member) and (issubclass(member, BaseModel | BaseException) or not _has_own_init(member)):
        return documented
    signature = re.sub(r"<function .*? at 0x\w+>", "...", str(inspect.signature(member)))
    return f"{name}{signature}\n\n{documented}"


def _has_own_init(of: type) -> bool:
    return "__init__" in vars(of)


def _fenced(text: str) -> str:
    return f"````text\n{text.strip()}\n````"


PAGES = {Path(__file__).parent / "cli.md": cli_page, Path(__file__).parent / "python.md": python_page}

if __name__ == "__main__":
    for path, page in PAGES.items():
        path.write_text(page(), encoding="utf-8")
