"""Searching a segmenter, from the command line and from Python."""

from __future__ import annotations

import json
import re

import numpy as np
import pytest
from PIL import Image

import pruning
from objectives.confusion import Confusions
from search import Execution, Study
from search.config import SearchSettings
from spaces import InvalidInput, read_layout
from storage import MeasurementKind, StudyState, TrialState
from tests.objectives.test_masks import write_data
from tests.search.test_cli import run

LOCAL = Execution(executor="local")


def searching(folder, *more, study="segments") -> list[str]:
    return [
        "search", "--task", "segmentation", "--model", "shapes_seg_small", "--data", "shapes", "--budget", "60%:100%",
        "--images", "24", "--confirm-images", "24", "--trials", "8", "--look-ahead", "4", "--executor", "local",
        "--device", "cpu", "--precision", "float32", "--batch-size", "24", "--study", study,
        "--db", f"sqlite:///{folder}/test.db", "--output", f"{folder}/{study}.json", *more,
    ]  # fmt: skip


@pytest.fixture(scope="module")
def searched(tmp_path_factory):
    folder = tmp_path_factory.mktemp("searched")
    code, out, err = run(*searching(folder))
    assert code == 0, err
    return folder, out, err


def test_one_command_searches_a_front_of_miou_confirms_and_exports(searched):
    folder, out, err = searched
    assert "masks of 11 classes" in err
    assert re.search(r"dense model: mIoU \(%\) \d+\.\d \[\d+\.\d, \d+\.\d\]", err)
    assert re.search(r"best: trial \d against dense, unseen images: [+-]\d+\.\d\d points \[.*bootstrap", out)
    assert read_layout(folder / "segments.json").method == "dtop"


def test_trials_keep_their_costs_counts_and_confusions(searched):
    folder, _, _ = searched
    with Study.open("segments", db=f"sqlite:///{folder}/test.db") as study:
        complete = [trial for trial in study.trials() if trial.state is TrialState.COMPLETE]
        assert complete
        for trial in complete:
            assert trial.measurement.gflops <= study.record.budget_high_gflops + 1e-9
            assert Confusions.from_bytes(trial.measurement.outcomes["miou_pct"]).n_images == 24
            if trial.config["after"]:
                assert study.n_kept(trial.number).shape == (24, len(trial.config["after"]))
        front = study.front()
        assert all(trial.confirmation is not None for trial in front)
        comparison, kind = study.compare(front[-1].number, "dense")
        assert kind is MeasurementKind.CONFIRM
        assert comparison.low_pct <= comparison.difference_pct <= comparison.high_pct


def test_the_sequence_of_trials_is_the_seeds(searched, tmp_path):
    folder, _, _ = searched
    settings = SearchSettings.parse(
        {
            "study": "again",
            "task": "segmentation",
            "model": "shapes_seg_small",
            "data": {"data": "shapes", "n_search": 24, "n_confirm": 0},
            "budget": "60%:100%",
            "look_ahead": 4,
            "batch_size": 24,
            "precision": "float32",
        }
    )
    with Study.create(settings, n_trials=8, db=f"sqlite:///{tmp_path}/again.db") as again:
        again.run(execution=LOCAL)
        with Study.open("segments", db=f"sqlite:///{folder}/test.db") as study:
            assert [trial.digest for trial in again.trials()] == [trial.digest for trial in study.trials()]


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (["--method", "random_drop"], "random_drop cannot prune shapes_seg_small: it takes tokens away for good"),
        (["--set", "after=[5]"], "grades after block 5, but shapes_seg_small has no head there"),
        (["--metric", "top1"], "segmentation is measured by miou, and nothing else is"),
        (["--crop-pct", "0.9"], "shapes_seg_small segments whole images, or windows of them: leave --crop-pct out"),
        (["--budget", "5%"], "is unsatisfiable: layouts of this space cost"),
        (["--task", "classification"], "shapes_seg_small segments, and classification is asked for"),
        (["--model", "shapes_vit_small"], "shapes_vit_small classifies, and segmentation is asked for"),
    ],
)
def test_what_does_not_fit_is_refused_in_one_line(tmp_path, arguments, problem):
    code, out, err = run(*searching(tmp_path, *arguments))
    assert code in (2, 3)
    assert out == ""
    assert problem in err
    assert "Traceback" not in err


@pytest.mark.parametrize(
    ("shape", "value", "problem"),
    [
        ((36, 41), 0, r"the mask of [ab]\.jpg is 41 x 36 px, its image 40 x 36: a mask must be of its image's size"),
        ((36, 40), 11, r"the mask [ab]\.png has the value 11, which is no class of 11"),
    ],
)
def test_masks_that_do_not_fit_images_or_model_are_refused_before_anything_is_written(tmp_path, shape, value, problem):
    write_data(tmp_path, values=[0, 1, 2, 3])
    for name in ("a", "b"):
        Image.fromarray(np.full(shape, value, np.uint8)).save(tmp_path / "annotations" / "validation" / f"{name}.png")
    code, out, err = run(
        *searching(tmp_path, "--data", str(tmp_path), "--images", "1", "--confirm-images", "1", "--seed", "0")
    )
    assert (code, out) == (2, "")
    assert re.search(problem, err)
    assert "Traceback" not in err
    assert not (tmp_path / "test.db").exists()


def test_a_race_over_miou_is_refused():
    values = {"study": "a", "task": "segmentation", "model": "shapes_seg_small", "data": "shapes", "budget": "80%"}
    with pytest.raises(InvalidInput, match="races are decided image by image, which mIoU is not"):
        SearchSettings.parse(values | {"race": True})


def test_ray_tune_is_refused_since_it_would_stop_between_images(tmp_path):
    code, _, err = run(*searching(tmp_path, "--executor", "tune", study="tuned"))
    assert code == 2
    assert "search segmenters with --executor ray" in err
    assert not (tmp_path / "test.db").exists()


def test_a_study_that_exists_is_left_as_it_is_by_an_executor_that_cannot_run_it(searched):
    folder, _, _ = searched
    with Study.open("segments", db=f"sqlite:///{folder}/test.db") as study:
        with pytest.raises(InvalidInput, match="search segmenters with --executor ray"):
            study.run(n_trials=9, execution=Execution(executor="tune"))
        assert study.record.state is StudyState.FINISHED
        with pytest.raises(InvalidInput, match="search segmenters with --executor ray"):
            study.confirm(execution=Execution(executor="tune"))


def test_evaluate_compares_a_layout_with_the_dense_model(searched):
    folder, _, _ = searched
    code, out, err = run(
        "evaluate", "--model", "shapes_seg_small", "--data", "shapes", "--images", "24", "--config",
        folder / "segments.json", "--device", "cpu", "--json",
    )  # fmt: skip
    assert code == 0, err
    found = json.loads(out)
    assert found["difference"]["n_images"] == 24
    assert found["layout"]["miou_pct_interval"][0] <= found["layout"]["miou_pct"]


def test_a_trial_is_exported_as_a_bundle_with_its_miou(searched, tmp_path):
    folder, _, _ = searched
    code, _, err = run(
        "export", "segments", "--best", "--output", f"{tmp_path}/best/", "--db", f"sqlite:///{folder}/test.db"
    )
    assert code == 0, err
    model, transform = pruning.load(tmp_path / "best")
    image = Image.effect_noise((120, 100), 80).convert("RGB")
    assert model(transform(image).unsqueeze(0)).shape == (1, 11, 96, 96)
    assert "| pruned | mIoU (%) |" in (tmp_path / "best" / "README.md").read_text()


def test_what_was_measured_in_windows_is_exported_as_a_layout_alone(tmp_path):
    options = ["--stride", "48", "--images", "4", "--confirm-images", "0", "--trials", "2", "--budget", "105%"]
    code, _, err = run(*searching(tmp_path, *options))
    assert code == 0, err
    code, _, err = run("export", "segments", "--output", f"{tmp_path}/best/", "--db", f"sqlite:///{tmp_path}/test.db")
    assert (code, "the study cut its images into windows" in err) == (2, True), err
    assert not (tmp_path / "best").exists()
