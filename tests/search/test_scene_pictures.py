"""What a segmenter makes of images, as a pictures job finds it and as it is drawn."""

from __future__ import annotations

import io

import numpy as np
import pytest
import torch
from PIL import Image

from dashboard.job_pictures import draw_picture
from dashboard.scene_pictures import scenes_of
from objectives.shapes import MASK_CLASS_NAMES
from pruning.apply import pruned
from pruning.models import load_model
from search.config import SearchSettings
from search.pictures import take_pictures
from spaces import DToP, parse_layout
from storage import JobKind, JobState, Store
from storage.database import NotThere

LAYOUT = DToP(after=(4, 8), p0=0.9, k=3).model_dump(mode="json")
SETTINGS = SearchSettings.parse(
    {
        "study": "segments",
        "task": "segmentation",
        "model": "shapes_seg_small",
        "data": "shapes",
        "budget": "60%:100%",
    }
)


@pytest.fixture(scope="module")
def taken():
    return take_pictures(SETTINGS, LAYOUT, 3)


def opened(content):
    return np.asarray(Image.open(io.BytesIO(content)))


def test_pictures_hold_what_the_model_finds_and_where_each_token_left(taken):
    result, files = taken
    images, after, names = scenes_of(result)
    assert (len(images), list(after), result["grid"]) == (3, [4, 8], [12, 12])
    assert list(names.values()) == list(MASK_CLASS_NAMES)
    loaded = load_model("shapes_seg_small")
    pixels = np.stack([opened(files[f"image-{index}.png"]) for index in range(3)])
    inputs = loaded.preprocessing.normalise(torch.tensor(pixels).permute(0, 3, 1, 2))
    with torch.inference_mode():
        dense = loaded.model(inputs).argmax(1).numpy()
        with pruned(loaded.model, parse_layout(LAYOUT)) as pruning:
            chosen = loaded.model(inputs).argmax(1).numpy()
    for index, image in enumerate(images):
        assert image.stage == pruning.early_exit.exits.stage[index].tolist()
        assert sum(image.n_left(stage) for stage in range(3)) == 144
        assert np.array_equal(opened(files[f"dense-{index}.png"]), dense[index] + 1)
        assert np.array_equal(opened(files[f"pruned-{index}.png"]), chosen[index] + 1)
        truth = opened(files[f"truth-{index}.png"])
        assert image.right_pct["pruned"] == pytest.approx(100 * (truth == chosen[index] + 1).mean())
        assert set(image.classes) == set(np.unique([truth - 1, chosen[index]]).tolist())


def test_each_picture_of_a_finished_job_is_another_and_one_too_many_is_refused(taken, tmp_path):
    with Store(f"sqlite:///{tmp_path}/jobs.db", create=True) as store:
        job = store.jobs.add(JobKind.PICTURES, None, {"trial": 0}, max_queued=1)
        store.jobs.claim([JobKind.PICTURES], "a runner", 60)
        result, files = taken
        store.jobs.finish(job.id, "a runner", JobState.DONE, result=result, files=files)
        drawn = [draw_picture(store.jobs, job.id, 1, layer) for layer in range(5)]
        assert all(opened(each).shape == (96, 96, 3) for each in drawn)
        assert not np.array_equal(opened(drawn[0]), opened(drawn[1]))
        with pytest.raises(NotThere, match="has 4 layers, got 5"):
            draw_picture(store.jobs, job.id, 1, 5)


def test_a_layout_that_grades_nowhere_finishes_nothing():
    result, _ = take_pictures(SETTINGS, DToP(after=()).model_dump(mode="json"), 1)
    (image,), after, _ = scenes_of(result)
    assert after == []
    assert set(image.stage) == {0}
    assert image.right_pct["dense"] == image.right_pct["pruned"]
