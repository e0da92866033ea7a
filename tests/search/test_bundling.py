from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import safetensors.torch
import torch
from click.testing import CliRunner

import pruning
from objectives.parity import ParityFailed
from pruning import prune
from pruning.models import load_model
from search import Study, bundling
from search.bundling import export_bundle, push_to_hub
from search.cli.main import cli
from search.execution import Execution
from spaces import InvalidInput, PrunefrontError
from storage.remembered import RememberedStudy


@pytest.fixture(scope="module")
def model(place, tmp_path_factory) -> Path:
    """Copy the model, so that a test may change its weights."""
    return Path(shutil.copytree(place.model.partition(":")[2], tmp_path_factory.mktemp("copy") / "model"))


@pytest.fixture(scope="module")
def url(place, model, tmp_path_factory) -> str:
    """Search once, and confirm; give the database."""
    url = f"sqlite:///{tmp_path_factory.mktemp('study')}/test.db"
    settings = place.settings(model=f"local-dir:{model}")
    with Study.create(**settings, n_trials=4, db=url) as study:
        study.run(execution=Execution(executor="local"))
        study.confirm(execution=Execution(executor="local"))
    return url


@pytest.fixture
def study(url):
    study = RememberedStudy.find("small", db=url)
    yield study
    study.close()


def run(*arguments) -> tuple[int, str, str]:
    result = CliRunner().invoke(cli, [str(argument) for argument in arguments], prog_name="prunefront")
    return result.exit_code, result.stdout, result.stderr


def test_a_study_is_exported_as_a_bundle_with_its_numbers(study, model, tmp_path):
    trial = export_bundle(study, tmp_path / "best")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["best"]
    document = json.loads((tmp_path / "best" / "pruning.json").read_text())
    assert document["measured"]["confirmed"]["top1_pct"] == trial.confirmation.values["top1_pct"].value
    assert document["dense"]["confirmed"]["n_images"] == 40
    assert document["study"]["seed"] == 3
    inputs = torch.randn(2, 3, 32, 32)
    expected = prune(load_model(f"local-dir:{model}").model, trial.config)(inputs)
    assert torch.equal(pruning.load(tmp_path / "best").model(inputs), expected)
    card = (tmp_path / "best" / "README.md").read_text()
    for said in (study.record.provenance.confirm_list_hash, "40 unseen by the search", "seed 3", "torch"):
        assert said in card


def test_the_verb_writes_a_bundle_for_a_folder_and_a_layout_for_a_file(url, tmp_path):
    for output in (f"{tmp_path}/v1.0/", f"{tmp_path}/best", f"{tmp_path}/best.json"):
        code, out, err = run("export", "small", "--best", "--budget", "64.9%", "--output", output, "--db", url)
        assert code == 0, err
        assert f"is written to {output}" in out
    assert (tmp_path / "v1.0" / "model.safetensors").is_file()
    assert (tmp_path / "best" / "pruning.json").read_text() == (tmp_path / "best.json").read_text()


def test_the_verb_leaves_the_weights_out(url, model, tmp_path):
    code, _, err = run("export", "small", "--output", tmp_path / "layout", "--weights", "none", "--db", url)
    assert code == 0, err
    assert not (tmp_path / "layout" / "model.safetensors").exists()
    loaded = pruning.load(tmp_path / "layout", checkpoint=model / "model.safetensors")
    assert loaded.model(torch.zeros(1, 3, 32, 32)).shape == (1, 5)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--output", "best.txt"], "end a folder's name with /"),
        (["--output", "best.json", "--weights", "none"], "are for a bundle, which is a folder"),
        (["--output", "best.json", "--push-to-hub", "a/b"], "are for a bundle, which is a folder"),
        (["--output", "best.json", "--format", "onnx"], "are for a bundle, which is a folder"),
        (["--output", "best/", "--format", "tflite"], "the formats are onnx, pt2, got 'tflite'"),
        (["--output", "nowhere/best/"], "its folder does not exist"),
    ],
)
def test_what_cannot_be_written_is_said_in_one_line(url, options, said, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    code, _, err = run("export", "small", *options, "--db", url)
    assert (code, said in err, len(err.splitlines())) == (2, True, 1), err
    assert list(tmp_path.iterdir()) == []


def test_a_bundle_is_replaced_and_nothing_else_is(study, tmp_path):
    export_bundle(study, tmp_path / "best", 0)
    export_bundle(study, tmp_path / "best", 1, with_weights=False)
    assert json.loads((tmp_path / "best" / "pruning.json").read_text())["study"]["trial"] == 1
    assert not (tmp_path / "best" / "model.safetensors").exists()
    (tmp_path / "best" / "thesis.tex").touch()
    with pytest.raises(InvalidInput, match=r"holds 'thesis\.tex', which is no part of a bundle"):
        export_bundle(study, tmp_path / "best")
    (tmp_path / "file").touch()
    with pytest.raises(InvalidInput, match="is a file, and a bundle is a folder"):
        export_bundle(study, tmp_path / "file")


def test_a_bundle_that_cannot_be_written_leaves_the_old_one(study, tmp_path, monkeypatch):
    export_bundle(study, tmp_path / "best", 0)
    before = (tmp_path / "best" / "pruning.json").read_text()

    def full(*_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(safetensors.torch, "save_file", full)
    with pytest.raises(PrunefrontError, match="No space left on device"):
        export_bundle(study, tmp_path / "best", 1)
    assert [path.name for path in tmp_path.iterdir()] == ["best"]
    assert (tmp_path / "best" / "pruning.json").read_text() == before


def test_changed_weights_are_not_exported_under_the_old_numbers(study, model, tmp_path):
    path = model / "model.safetensors"
    before = path.read_bytes()
    weights = safetensors.torch.load(before)
    weights["head.bias"][0] += 1
    safetensors.torch.save_file(weights, path)
    try:
        with pytest.raises(PrunefrontError, match="the weights of study 'small' have changed since it began"):
            export_bundle(study, tmp_path / "best")
    finally:
        path.write_bytes(before)
    assert list(tmp_path.iterdir()) == []


def test_only_bundles_are_uploaded_and_a_hub_out_of_reach_is_one_line(study, tmp_path, monkeypatch):
    with pytest.raises(InvalidInput, match="is no bundle, and nothing else is uploaded"):
        push_to_hub(tmp_path, "org/name")
    export_bundle(study, tmp_path / "best")
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(PrunefrontError, match=r"cannot upload .*best to org/name: \S.*"):
        push_to_hub(tmp_path / "best", "org/name")


def test_exported_programs_lie_in_the_bundle_with_how_well_they_agree(url, tmp_path):
    code, _, err = run("export", "small", "--output", tmp_path / "best", "--format", "onnx, pt2", "--db", url)
    assert code == 0, err
    exports = json.loads((tmp_path / "best" / "pruning.json").read_text())["exports"]
    assert {name: parity["file"] for name, parity in exports.items()} == {"onnx": "model.onnx", "pt2": "model.pt2"}
    for parity in exports.values():
        assert (parity["n_images"], parity["batch_sizes"], parity["agreement_pct"]) == (90, [1, 3], 100)
        assert parity["max_difference"] < 1e-4
        assert (tmp_path / "best" / parity["file"]).is_file()
    assert "| `model.onnx` | 90, 1 and 3 |" in (tmp_path / "best" / "README.md").read_text()


def test_a_program_that_says_something_else_is_an_error_and_leaves_nothing(study, tmp_path, monkeypatch):
    right = bundling.exported

    def upside_down(path):
        run = right(path)
        return lambda images: run(images.flip(2))

    monkeypatch.setattr(bundling, "exported", upside_down)
    with pytest.raises(ParityFailed, match="gives another class for"):
        export_bundle(study, tmp_path / "best", formats=["pt2"])
    assert list(tmp_path.iterdir()) == []
