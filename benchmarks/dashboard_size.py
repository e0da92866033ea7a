"""How the dashboard bears many trials: first plot, click to detail, and the API's paged answers.

    python -m benchmarks.dashboard_size --trials 100000 --output build/bench/dashboard_size.json

A made-up study of that many trials lies in SQLite; the server and a headless Chromium are real. The first plot is
timed from the address typed to all points painted (two frames after plotly drew them), with the server started anew
before each and asked as soon as it listens (its memory is empty, the browser's too), a click from the mouse's button to
the trial's tokens drawn. Chromium paints WebGL without a graphics card here, which takes a good part of both.
"""

from __future__ import annotations

import argparse
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from playwright.sync_api import Page, sync_playwright
from tabulate import tabulate

from benchmarks.many_trials import fill
from benchmarks.results import write_results
from pruning.models import load_model

FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--enable-unsafe-swiftshader"]
DRAWN = """n => { const plot = document.querySelector('#study-front .js-plotly-plot');
  if (!plot || !plot._fullData || !plot.calcdata || plot._promises?.length) return false;
  const clouds = plot._fullData.filter(t => /^(measured|stopped early)/.test(t.name));
  return clouds.reduce((sum, t) => sum + (t.customdata || []).length, 0) >= n; }"""
PAINTED = "() => new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)))"
FRONT_POINT = """k => { const plot = document.querySelector('#study-front .js-plotly-plot'), l = plot._fullLayout;
  const trace = plot._fullData.find(t => t.name === 'front'), box = plot.getBoundingClientRect();
  const at = (axis, v) => axis._offset + axis.d2p(v), i = Math.round(k * (trace.x.length - 1));
  return [box.left + at(l.xaxis, trace.x[i]), box.top + at(l.yaxis, trace.y[i])]; }"""
_PAUSE_MS = 1500  # between clicks
TOKENS = "document.querySelector('#trial-card-tokens .js-plotly-plot')?._fullData"
REMEMBER = f"() => {{ window.oldTokens = {TOKENS}; return document.querySelector('#trial-card-title')?.innerText; }}"
SHOWN = f"""before => document.querySelector('#trial-card-title')?.innerText !== before &&
  {TOKENS} !== window.oldTokens && {TOKENS}?.length === 2"""
PATHS = (
    "studies?limit=50",
    "studies/many/trials?offset={offset}&limit=50",
    "studies/many/trials?offset={offset}&limit=50&order=newest",
    "studies/many/trials?offset={offset}&limit=50&state=complete",
    "studies/many/trials/{offset}",
    "jobs?limit=50",
)


def main() -> None:
    """Fill, serve, look, and print the times."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, default=100_000)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--requests", type=int, default=60, help="of each kind")
    parser.add_argument("--output", type=Path)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        db = f"sqlite:///{folder}/many.db"
        fill(db, "many", options.trials, load_model("shapes_vit_small").architecture)
        plots, clicks = [], []
        for _ in range(options.repeats):
            with _served(db) as url, _browser() as page:
                plots.append(_first_plot(page, url, options.trials))
                clicks += [_click(page, share) for share in (0.2, 0.5, 0.8)]
        with _served(db) as url:
            answers = {path: _ask(url, path, options) for path in PATHS}
    results = {"trials": options.trials, "first_plot_s": plots, "click_s": clicks, "api_ms": answers}
    rows = [["first plot (s)", statistics.median(plots), max(plots)], ["click to detail (s)", statistics.median(clicks),
            max(clicks)]]  # fmt: skip
    print(tabulate(rows, ["", "median", "worst"], floatfmt=".2f"))
    api = [[path, each["median"], each["p95"], each["worst"]] for path, each in answers.items()]
    print(tabulate(api, ["GET /api/", "median (ms)", "p95", "worst"], floatfmt=".1f"))
    write_results(results, options.output)


@contextmanager
def _served(db: str) -> Iterator[str]:
    server = subprocess.Popen(
        [sys.executable, "-m", "search.cli.main", "serve", "--db", db, "--port", "0", "--no-token", "--no-runner"],
        stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    try:
        for line in server.stderr or ():
            if found := re.search(r"dashboard: (http://\S+)/", line):
                yield found[1]
                return
        raise RuntimeError("the server ended before it was ready")
    finally:
        server.terminate()
        server.wait()


@contextmanager
def _browser() -> Iterator[Page]:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=FLAGS)
        yield browser.new_page(viewport={"width": 1280, "height": 860})
        browser.close()


def _first_plot(page: Page, url: str, n_trials: int) -> float:
    started = time.perf_counter()
    page.goto(f"{url}/study/many", wait_until="commit")
    page.wait_for_function(DRAWN, arg=n_trials, timeout=120_000)
    page.evaluate(PAINTED)
    return time.perf_counter() - started


def _click(page: Page, share: float) -> float:
    """Click a point of the front; where others lie on it, one of them may be the one that is shown."""
    page.wait_for_timeout(_PAUSE_MS)  # what the last click changed is drawn, too
    x, y = page.evaluate(FRONT_POINT, share)
    before = page.evaluate(REMEMBER)
    started = time.perf_counter()
    page.mouse.click(x, y)
    page.wait_for_function(SHOWN, arg=before)
    return time.perf_counter() - started


def _ask(url: str, path: str, options: Any) -> dict[str, float]:
    """Time requests spread over the whole study; the first, which fills the server's memory, is not counted."""
    times = []
    for n in range(options.requests + 1):
        offset = (n * 7919 * 13) % options.trials
        started = time.perf_counter()
        with urllib.request.urlopen(f"{url}/api/{path.format(offset=offset)}") as answer:
            answer.read()
        times.append(1000 * (time.perf_counter() - started))
    times = sorted(times[1:])
    return {"median": statistics.median(times), "p95": times[int(0.95 * len(times))], "worst": times[-1]}


if __name__ == "__main__":
    main()
