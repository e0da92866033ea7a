"""A real browser before a real server. Without Chromium these tests are skipped; in CI they fail instead."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from storage import Store

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--enable-unsafe-swiftshader",
]


@dataclass
class Served:
    """A dashboard that runs.

    Attributes:
        address: with the token, as it was printed.
        url: without.
        db: its database.
    """

    address: str
    url: str
    db: str
    process: subprocess.Popen = field(repr=False)

    def store(self) -> Store:
        return Store(self.db)


def serve(folder: Path, *options: str) -> Served:
    """Serve a database in a folder."""
    db, said = f"sqlite:///{folder}/test.db", folder / "said.log"
    with said.open("w") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "search.cli.main", "serve", "--db", db, "--port", "0", *options], stderr=log
        )
    while not (found := re.search(r"dashboard: ((http://[^/]+)/\S+)", said.read_text())):
        assert process.poll() is None, said.read_text()
        time.sleep(0.05)
    return Served(found[1], found[2], db, process)


@pytest.fixture(scope="module")
def served(tmp_path_factory):
    """Serve an empty database, with a runner."""
    served = serve(tmp_path_factory.mktemp("served"), "--output-root", str(tmp_path_factory.mktemp("bundles")))
    yield served
    served.process.terminate()
    assert served.process.wait(90) == 0


@pytest.fixture(scope="session")
def playwright():
    if CHROMIUM is None and not os.environ.get("PRUNEFRONT_BROWSER_TESTS"):
        pytest.skip("no Chromium here: apt-get install chromium")
    assert CHROMIUM, "PRUNEFRONT_BROWSER_TESTS is set, and there is no Chromium"
    from playwright.sync_api import sync_playwright

    with sync_playwright() as started:
        yield started


@pytest.fixture
def open_page(playwright) -> Callable:
    """Open a page that is watched: every error on it, and every request that leaves this machine, fails the test."""
    browsers, problems = [], []

    def watch(page) -> None:
        page.on("pageerror", lambda error: problems.append(f"error: {error}"))
        page.on("console", lambda said: said.type == "error" and problems.append(f"console: {said.text}"))
        page.on("dialog", lambda dialog: (problems.append(f"dialog: {dialog.message}"), dialog.dismiss()))
        page.on(
            "request",
            lambda request: (
                re.match(r"(http://127\.0\.0\.1[:/]|data:|blob:)", request.url)
                or problems.append(f"left the machine: {request.url}")
            ),
        )

    def opened(*flags: str, **context):
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=[*FLAGS, *flags])
        browsers.append(browser)
        page = browser.new_context(viewport={"width": 1280, "height": 860}, **context).new_page()
        page.set_default_timeout(60_000)
        watch(page)
        page.problems = problems
        return page

    yield opened
    for browser in browsers:
        browser.close()
    assert problems == []
