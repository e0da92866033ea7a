"""Take the pictures of docs/dashboard.md from a real search, which is asked for through the page.

    python -m benchmarks.screenshots --output docs/images

Needs Chromium. The search is small (96 trials of three methods on the bundled model and images); minutes on two cores.
"""

from __future__ import annotations

import argparse
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from playwright.sync_api import Page, sync_playwright

FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--enable-unsafe-swiftshader"]
SEARCHES = (
    {"study": "zero-tprune", "method": "zero_tprune", "n_trials": 96},
    {"study": "three-methods", "method": ["zero_tprune", "cls_topk", "random_drop"], "n_trials": 96},
)
COMMON = {"model": "shapes_vit_small", "data": "shapes", "budget": "25%:70%", "n_images": 384, "n_confirm": 384,
          "n_workers": 1}  # fmt: skip
_SEARCH_MS = 1_800_000


def main() -> None:
    """Search, look, and save what is seen."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, default=Path("docs/images"))
    parser.add_argument("--db", help="keep the studies here; those that are there are not searched again")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        server = subprocess.Popen(
            [sys.executable, "-m", "search.cli.main", "serve", "--port", "0", "--no-token",
             "--db", options.db or "sqlite:///prunefront.db"],  # as it stands in the pictures
            stderr=subprocess.PIPE, text=True, cwd=folder,
        )  # fmt: skip
        try:
            found = (re.search(r"dashboard: (http://\S+)/", line) for line in server.stderr or ())
            url = next(match[1] for match in found if match)
            with sync_playwright() as playwright:
                browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=FLAGS)
                page = browser.new_page(viewport={"width": 1280, "height": 860})
                page.set_default_timeout(120_000)
                _search(page, url)
                _look(page, url, options.output)
                dark = browser.new_page(viewport={"width": 1280, "height": 860}, color_scheme="dark")
                _save(dark, f"{url}/study/three-methods", options.output / "dashboard-study-dark.png")
                browser.close()
        finally:
            server.terminate()
            server.wait()


def _search(page: Page, url: str) -> None:
    for search in SEARCHES:
        page.request.post(f"{url}/api/studies", data={**COMMON, **search})
    while page.request.get(f"{url}/api/jobs?state=queued&state=running").json()["total"]:
        page.wait_for_timeout(2000)
    if page.request.get(f"{url}/api/jobs?kind=confirm").json()["total"] == 0:
        page.request.post(f"{url}/api/studies/three-methods/confirm", data={})
    page.goto(f"{url}/study/three-methods")
    page.get_by_text("(confirm) is done").wait_for(timeout=_SEARCH_MS)


def _look(page: Page, url: str, output: Path) -> None:
    front = page.request.get(f"{url}/api/studies/three-methods/front").json()["front"]
    number = front[len(front) // 2]["trial"]
    trial = f"{url}/study/three-methods/trial/{number}"
    page.goto(f"{trial}/images")
    page.get_by_role("button", name="Make pictures").click()
    page.locator("img.tokens").nth(8).wait_for()
    _save(page, f"{trial}/images", output / "dashboard-images.png")
    _save(page, trial, output / "dashboard-trial.png")
    _save(page, f"{url}/study/three-methods", output / "dashboard-study.png", whole=True)
    _save(page, f"{url}/launch", output / "dashboard-launch.png")
    _save(page, f"{url}/jobs", output / "dashboard-jobs.png")
    page.goto(url)
    for name in ("three-methods", "zero-tprune"):
        page.get_by_label(f"compare {name}").check()
    page.get_by_text("Fronts compared").wait_for()
    page.wait_for_timeout(2500)
    page.screenshot(path=output / "dashboard-studies.png", full_page=True)


def _save(page: Page, url: str, path: Path, *, whole: bool = False) -> None:
    page.goto(url)
    page.locator("h1").wait_for()
    page.wait_for_timeout(5000)  # until figures are drawn
    page.screenshot(path=path, full_page=whole)


if __name__ == "__main__":
    main()
