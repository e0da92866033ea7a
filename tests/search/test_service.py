"""Jobs as they are asked for and done: by the real processes, on a small model and its images."""

from __future__ import annotations

import io
import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
import urllib.request
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import pruning
from dashboard.desk import Desk
from dashboard.job_pictures import draw_picture
from dashboard.roots import Roots
from dashboard.token_pictures import pictures_of
from pruning.apply import prune, pruned
from pruning.models import load_model
from search.service import Runner
from storage import JobState, Store, StudyState
from storage.remembered import RememberedStudy


@pytest.fixture
def store(db):
    with Store(db, create=True) as made:
        yield made


@pytest.fixture
def desk(store, place, tmp_path):
    root = Path(place.data).parent
    return Desk(store, Roots(data=(root,), model=(root,), output=tmp_path))


@pytest.fixture
def runner(db):
    stop = threading.Event()
    thread = threading.Thread(target=Runner(db, say=lambda _: None).run, args=(stop.is_set,))
    thread.start()
    yield
    stop.set()
    thread.join(60)
    assert not thread.is_alive()


def launch_values(**changes) -> dict:
    return {
        "study": "small", "model": "local-dir:model", "data": "images", "labels": "labels.csv", "n_images": 40,
        "n_confirm": 30, "budget": "40%:90%", "n_trials": 10, "n_workers": 1, "device": "cpu", **changes,
    }  # fmt: skip


def wait_for(store, job_id, *, until=lambda job: job.state.is_over, seconds=120):
    deadline = time.monotonic() + seconds
    while not until(job := store.jobs.get(job_id)):
        assert time.monotonic() < deadline, (job, store.jobs.last_lines(job_id, 5))
        time.sleep(0.05)
    return job


def test_a_search_is_launched_cancelled_gone_on_with_confirmed_and_exported(desk, store, runner, place, tmp_path):
    asked = desk.launch(launch_values(n_trials=400))
    wait_for(store, asked.id, until=lambda job: (job.progress or {}).get("n_finished", 0) >= 5)
    desk.cancel(asked.id)
    assert wait_for(store, asked.id).state is JobState.CANCELLED
    study = store.study("small")
    assert (study.state, study.owner) == (StudyState.INTERRUPTED, None)
    n_before = len(store.trials(study.id))
    assert n_before < 400
    finished = [trial for trial in store.trials(study.id) if trial.state.is_finished]

    again = wait_for(store, desk.resume("small", {"n_trials": n_before + 4, "n_workers": 1}).id)
    assert (again.state, again.result) == (JobState.DONE, {"n_finished": n_before + 4}), again.error
    trials = store.trials(study.id)
    assert [trials[trial.number] for trial in finished] == finished, "nothing was measured twice"

    best = RememberedStudy(store, study).best().number
    confirmed = wait_for(store, desk.confirm("small", {"trials": [best]}).id)
    assert (confirmed.state, confirmed.result) == (JobState.DONE, {"trials": [best]}), confirmed.error
    assert store.trial(study.id, best).confirmation.n_images == 30

    bundled = wait_for(store, desk.ask_for_bundle("small", best, {}).id)
    assert (bundled.state, bundled.result) == (JobState.DONE, {"folder": f"{tmp_path}/small-trial-{best}"})
    inputs = torch.randn(2, 3, 32, 32)
    expected = prune(load_model(place.model).model, store.trial(study.id, best).config)(inputs)
    assert torch.equal(pruning.load(bundled.result["folder"]).model(inputs), expected)


def test_a_job_that_cannot_be_done_says_why_and_the_runner_goes_on(desk, store, runner):
    impossible = wait_for(store, desk.launch(launch_values(budget="1%")).id)
    assert impossible.state is JobState.FAILED
    assert "is unsatisfiable: layouts of this space cost" in impossible.error
    assert store.studies() == []
    reading = desk.budget_range({"model": "vit_tiny_patch16_224"})
    assert reading["state"] == "reading"
    wait_for(store, reading["job"])
    known = desk.budget_range({"model": "vit_tiny_patch16_224", "budget": "1%"})
    assert (known["state"], known["is_satisfiable"]) == ("known", False)
    assert known["least_gflops"] < known["most_gflops"] <= known["dense_gflops"] == pytest.approx(1.258, abs=0.001)
    assert "unsatisfiable" in known["why"]


def test_pictures_show_what_the_pruned_model_does(desk, store, runner, place):
    done = wait_for(store, desk.launch(launch_values(n_trials=4, method="tome", budget="60%:90%")).id)
    assert done.state is JobState.DONE, done.error
    study = store.study("small")
    trial = store.trial(study.id, 1)
    job = wait_for(store, desk.ask_for_pictures("small", 1, {"n_images": 3}).id)
    assert job.state is JobState.DONE, job.error
    assert desk.ask_for_pictures("small", 1, {"n_images": 3}).id == job.id, "what was made is not made again"

    images, grid, _ = pictures_of(job.result)
    assert (len(images), grid) == (3, (4, 4))
    loaded = load_model(place.model)
    pixels = [np.asarray(_opened(store, job.id, index)) for index in range(3)]
    inputs = loaded.preprocessing.normalise(torch.tensor(np.stack(pixels)).permute(0, 3, 1, 2))
    with torch.inference_mode(), pruned(loaded.model, trial.config, trace=True) as at_work:
        chosen = loaded.model(inputs).argmax(1)
    for index, image in enumerate(images):
        assert image.chosen == int(chosen[index])
        assert [block for block, _ in image.layers] == sorted(at_work.owners)
        for block, owners in image.layers:
            assert owners == at_work.owners[block][index].tolist()
    drawn = draw_picture(store.jobs, job.id, 0, len(images[0].layers))
    assert drawn.startswith(b"\x89PNG")
    assert drawn != draw_picture(store.jobs, job.id, 0, 0)


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGKILL])
def test_the_server_leaves_no_child_behind_and_its_search_goes_on_with_the_next(db, store, place, how):
    root = str(Path(place.data).parent)
    server, url = _serve(db, root)
    answer = _post(f"{url}api/studies", launch_values(n_trials=400))
    job = wait_for(store, answer["id"], until=lambda job: (job.progress or {}).get("n_finished", 0) >= 2)
    assert len(_processes(db)) == 3, "server, runner, job"
    server.send_signal(how)
    assert server.wait(60) == (0 if how == signal.SIGTERM else -how)
    deadline = time.monotonic() + 60
    while _processes(db) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert _processes(db) == []
    waiting = store.jobs.get(job.id)
    assert (waiting.state, waiting.attempts) == (JobState.QUEUED, 0)
    study = store.study("small")
    assert (study.state, study.owner) == (StudyState.INTERRUPTED, None)
    n_before = sum(trial.state.is_finished for trial in store.trials(study.id))

    server, _ = _serve(db, root)
    try:
        wait_for(store, job.id, until=lambda job: (job.progress or {}).get("n_finished", 0) > n_before)
        store.jobs.cancel(job.id)
        assert wait_for(store, job.id).state is JobState.CANCELLED
    finally:
        server.terminate()
        assert server.wait(60) == 0


def test_a_dashboard_for_everybody_without_a_token_does_not_start(db):
    found = subprocess.run(
        [sys.executable, "-m", "search.cli.main", "serve", "--db", db, "--host", "0.0.0.0", "--no-token"],
        capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip
    assert found.returncode == 2
    assert "can be reached from elsewhere and needs a token" in found.stderr


def _serve(db: str, root: str) -> tuple[subprocess.Popen, str]:
    said = Path(root) / f"{time.monotonic_ns()}.log"
    with said.open("w") as log:
        server = subprocess.Popen(
            [sys.executable, "-m", "search.cli.main", "serve", "--db", db, "--port", "0", "--no-token",
             "--data-root", root, "--model-root", root],
            stderr=log,
        )  # fmt: skip
    while not (found := re.search(r"dashboard: (http://\S+)", said.read_text())):
        assert server.poll() is None, said.read_text()
        time.sleep(0.05)
    return server, found[1]


def _post(url: str, values: dict) -> dict:
    request = urllib.request.Request(url, json.dumps(values).encode(), {"Content-Type": "application/json"})
    with urllib.request.urlopen(request) as answer:
        return json.load(answer)


def _processes(db: str) -> list[int]:
    """Find every process that was told of this database, by its arguments or its environment; not this one."""
    found = []
    for folder in Path("/proc").iterdir():
        if folder.name.isdecimal() and int(folder.name) != os.getpid():
            try:
                told = (folder / "cmdline").read_bytes() + (folder / "environ").read_bytes()
            except OSError:
                continue
            if db.encode() in told:
                found.append(int(folder.name))
    return found


def _opened(store, job_id: int, index: int):
    return Image.open(io.BytesIO(store.jobs.file(job_id, f"image-{index}.png")))
