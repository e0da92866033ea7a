"""The command line as people meet it: what it prints, its exit codes, and its refusals."""

from __future__ import annotations

import csv
import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import safetensors.torch
import timm
import torch
import yaml
from click.testing import CliRunner

from search.cli.main import cli
from spaces import METHODS, RandomDrop, layout_document, read_layout
from storage.export import write_layout
from tests.privileges import run_restricted
from tests.tiny import write_jpeg

PRUNEFRONT = Path(sys.executable).parent / "prunefront"


def run(*arguments, env=None) -> tuple[int, str, str]:
    """Run a verb in this process."""
    result = CliRunner().invoke(cli, [str(argument) for argument in arguments], env=env, prog_name="prunefront")
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result.exit_code, result.stdout, result.stderr


def searching(place, folder, *more, study="small") -> list[str]:
    """Give the arguments of a small search in this process."""
    return [
        "search", "--model", place.model, "--data", place.data, "--labels", place.labels, "--budget", "65%",
        "--images", "40", "--trials", "8", "--look-ahead", "4", "--executor", "local", "--device", "cpu",
        "--study", study, "--db", f"sqlite:///{folder}/test.db", "--output", f"{folder}/{study}.json", *more,
    ]  # fmt: skip


@pytest.fixture(scope="module")
def searched(place, tmp_path_factory):
    """Search once; give the folder, and what was printed."""
    folder = tmp_path_factory.mktemp("searched")
    code, out, err = run(*searching(place, folder))
    assert code == 0, err
    return folder, out, err


def db(folder) -> list[str]:
    return ["--db", f"sqlite:///{folder}/test.db"]


# What a search says and leaves behind


def test_one_command_searches_confirms_and_exports(searched, place):
    folder, out, err = searched
    assert "8 to search on" not in err
    assert "40 to search on, 40 others to confirm on" in err
    assert re.search(r"budget: \S+ GFLOPs, satisfiable: layouts of this space cost \S+ to \S+", err)
    assert re.search(r"dense model: top-1 \(%\) \d+\.\d \[\d+\.\d, \d+\.\d\]", err)
    assert re.search(
        r"\d measured on all images, \d stopped when they had lost their race \(\d+% of the images spared\), 0 failed; "
        r"\d were known from an equal candidate; "
        r"draws that missed the budget: (none|\d+, all repaired); the driver's own share",
        err,
    )
    assert re.search(r"best: trial \d against dense, unseen images: [+-]\d+\.\d\d points \[", out)
    layout = read_layout(folder / "small.json")
    assert json.loads((folder / "small.json").read_text())["measured"].keys() == {"confirmed", "searched"}
    assert layout.method == "zero_tprune"


def test_a_cost_that_only_measuring_tells_is_shown_with_its_interval(place, tmp_path):
    code, out, err = run(*searching(place, tmp_path, "--method", "ats", "--set", "spread=0.05:2:log", "--no-race"))
    assert code == 0, err
    n_over = int(re.search(r"measured on all images, (\d+) measured to be over the budget", err).group(1))
    assert 0 < n_over < 8
    assert f"feasible {1 - n_over / 8:.0%}" in err
    assert re.search(r"GFLOPs, search +GFLOPs, unseen", out)
    assert re.search(r"0\.000\d+ \[0\.000\d+, 0\.000\d+\]", out)
    assert f"{n_over} more were measured to be over the budget" in out

    trials = json.loads(run("show", "small", "--json", *db(tmp_path))[1])["trials"]
    assert trials["infeasible"] == n_over
    assert f"{n_over} infeasible" in run("status", "small", *db(tmp_path))[1]
    numbers = [json.loads(run("show", "small", number, "--json", *db(tmp_path))[1]) for number in range(8)]
    over = next(each for each in numbers if each["state"] == "infeasible")
    assert over["is_over_budget"]
    assert over["measured"]["gflops_interval"][1] > over["measured"]["gflops"] == over["gflops"]
    shown = run("show", "small", over["trial"], *db(tmp_path))[1]
    assert "GFLOPs, measured, over the budget of" in shown
    assert "the image decides how many tokens stay, at" in shown
    assert "tokens that enter each block, on average:" in shown

    files = ["--csv", tmp_path / "front.csv", "--html", tmp_path / "front.html"]
    assert run("front", "small", *files, *db(tmp_path))[0] == 0
    with (tmp_path / "front.csv").open() as file:
        row = next(csv.DictReader(file))
    assert 0 < float(row["gflops_low"]) < float(row["gflops"]) < float(row["gflops_high"])
    assert float(row["confirmed_gflops_low"]) < float(row["confirmed_gflops"])
    assert f"over the budget ({n_over})" in (tmp_path / "front.html").read_text()
    counted = run("flops", place.model, "--config", tmp_path / "small.json")[1]
    assert "that is the most: the image decides how many tokens stay" in counted


def test_results_go_to_stdout_and_progress_to_stderr(searched):
    _, out, err = searched
    assert "trials 8/8 · feasible 100%" in err
    assert "GFLOPs" in out
    assert "trials 8/8" not in out


def test_status_lists_studies_and_describes_one(searched):
    folder, *_ = searched
    code, out, _ = run("status", *db(folder))
    assert code == 0
    assert re.search(r"small\s+finished\s+8/8", out)
    _, out, _ = run("status", "small", *db(folder))
    assert "small: finished" in out
    assert "trials: 8 complete, of 8 asked for" in out
    _, out, _ = run("status", "small", "--json", *db(folder))
    assert json.loads(out)["trials"] == {"complete": 8}


def test_front_prints_draws_and_writes_tables(searched, tmp_path):
    folder, *_ = searched
    code, out, _ = run("front", "small", "--html", tmp_path / "f.html", "--csv", tmp_path / "f.csv", *db(folder))
    assert code == 0
    assert "top-1 (%), unseen" in out
    assert "plotly" in (tmp_path / "f.html").read_text().lower()
    assert (tmp_path / "f.csv").read_text().startswith("trial,gflops,top1,top1_low,top1_high,n_images,confirmed_top1")
    _, out, _ = run("front", "small", "--json", *db(folder))
    front = json.loads(out)["front"]
    assert front == sorted(front, key=lambda trial: trial["gflops"])
    assert front[0]["measured"]["n_images"] == 40
    assert len(front[0]["measured"]["top1_pct_interval"]) == 2


def test_show_tells_a_studys_origin_and_a_trials_tokens(searched):
    folder, *_ = searched
    _, out, _ = run("show", "small", *db(folder))
    assert "provenance.versions.torch" in out
    assert "provenance.search_list_hash" in out
    _, out, _ = run("show", "small", "3", *db(folder))
    assert "trial 3 of small: complete" in out
    assert re.search(r"^\s+1\s+17 █+$", out, re.MULTILINE)
    _, out, _ = run("show", "small", "3", "--json", *db(folder))
    assert json.loads(out)["layout"]["method"] == "zero_tprune"


def test_compare_gives_the_paired_difference(searched):
    folder, *_ = searched
    code, out, _ = run("compare", "small:best", "small:dense", *db(folder))
    assert code == 0
    assert re.search(r"points \[.*\] on the same 40 images .*McNemar p = ", out)
    _, out, _ = run("compare", "small:0", "small:1", "--json", *db(folder))
    assert json.loads(out).keys() >= {"difference_pct", "low_pct", "high_pct", "p_value", "n_images", "images"}


def test_confirm_takes_trials_by_number(searched):
    folder, *_ = searched
    code, out, err = run("confirm", "small", "0", "1", "--executor", "local", "--json", *db(folder))
    assert code == 0
    assert "2 trials are confirmed" in err
    assert [trial["trial"] for trial in json.loads(out)] == [0, 1]
    assert all(trial["confirmed"]["n_images"] == 40 for trial in json.loads(out))


@pytest.mark.parametrize("ending", ["json", "yaml"])
def test_an_exported_layout_can_be_evaluated(searched, place, tmp_path, ending):
    folder, *_ = searched
    path = tmp_path / f"layout.{ending}"
    code, out, _ = run("export", "small", "--trial", "2", "--output", path, *db(folder))
    assert code == 0
    assert "trial 2" in out
    if ending == "yaml":
        assert yaml.safe_load(path.read_text())["study"]["trial"] == 2
    model = ["--model", place.model, "--data", place.data, "--labels", place.labels]
    code, out, _ = run("evaluate", *model, "--images", "40", "--config", path, "--json")
    assert code == 0
    _, shown, _ = run("show", "small", "2", "--json", *db(folder))
    # The same images (the seed of their choice is 0 in both), so the same numbers to the last image.
    assert json.loads(out)["layout"]["top1_pct"] == json.loads(shown)["measured"]["top1_pct"]
    _, out, _ = run("evaluate", *model, "--images", "40", "--config", path)
    assert re.search(r"layout - dense: [+-]\d", out)


def test_export_takes_the_best_within_a_budget(searched, tmp_path):
    folder, *_ = searched
    code, out, _ = run(
        "export", "small", "--best", "--budget", "64.9%", "--output", tmp_path / "x.json", "--json", *db(folder)
    )
    dense = json.loads((tmp_path / "x.json").read_text())["dense_gflops"]
    assert code == 0
    assert json.loads(out)["gflops"] <= 0.649 * dense


def test_resume_asks_for_more_trials(place, tmp_path):
    code, *_ = run(*searching(place, tmp_path, "--confirm-images", "0"))
    assert code == 0
    more = ["--trials", "10", "--executor", "local", "--output", tmp_path / "more.json", "--json"]
    code, out, err = run("resume", "small", *more, *db(tmp_path))
    assert code == 0
    assert "trials 10/10" in err
    assert json.loads(out)["output"].endswith("more.json")
    assert "unseen" not in err


def test_the_database_can_be_named_by_the_environment(searched):
    folder, *_ = searched
    code, out, _ = run("status", env={"PRUNEFRONT_DB": f"sqlite:///{folder}/test.db"})
    assert code == 0
    assert "small" in out


# Several methods


@pytest.fixture(scope="module")
def searched_both(place, tmp_path_factory):
    """Search two methods once; give the folder, and what was printed."""
    folder = tmp_path_factory.mktemp("both")
    more = [
        "--method",
        "zero_tprune,random_drop",
        "--set",
        "zero_tprune.s=0:3",
        "--set",
        "keep_rate=0.4:1",
        "--no-race",
    ]
    code, out, err = run(*searching(place, folder, "--budget", "50%:90%", "--trials", "12", *more, study="both"))
    assert code == 0, err
    return folder, out, err


def test_a_search_over_several_methods_names_the_method_of_each_layout(searched_both):
    folder, out, err = searched_both
    assert re.search(r"methods: zero_tprune, random_drop; \d+ parameters", err)
    assert re.search(r"top-1 \(%\), unseen\s+method\s+layout", out)
    _, out, _ = run("status", "both", *db(folder))
    assert re.search(r"methods: zero_tprune in \d+ trials, random_drop in \d+ trials", out)
    _, out, _ = run("show", "both", "--json", *db(folder))
    settings = json.loads(out)["settings"]
    assert settings["method"] == ["zero_tprune", "random_drop"]
    assert settings["space"].keys() == {"zero_tprune.s", "keep_rate"}


def test_a_front_by_method_follows_into_every_file(searched_both, tmp_path):
    folder, *_ = searched_both
    files = ["--html", tmp_path / "f.html", "--csv", tmp_path / "f.csv"]
    code, out, _ = run("front", "both", "--by", "method", *files, *db(folder))
    assert code == 0
    assert re.search(r"^zero_tprune:\ntrial.*^random_drop:\ntrial", out, re.MULTILINE | re.DOTALL)
    assert re.search(r"\d+\.\d \[\d+\.\d, \d+\.\d\]", out)
    _, out, _ = run("front", "both", "--by", "method", "--json", *db(folder))
    fronts = json.loads(out)["fronts"]
    numbers = [trial["trial"] for front in fronts.values() for trial in front]
    table = (tmp_path / "f.csv").read_text().splitlines()[1:]
    assert [int(line.partition(",")[0]) for line in table] == numbers
    for method, front in fronts.items():
        assert front
        assert {trial["layout"]["method"] for trial in front} == {method}
        tops = [trial["measured"]["top1_pct"] for trial in front]
        assert tops == sorted(tops)
    page = (tmp_path / "f.html").read_text()
    assert '"legendgroup":"random_drop"' in page.replace(" ", "")


def test_trials_stopped_against_another_method_are_told_with_its_own_front(place, tmp_path):
    """A race that random drop loses against Zero-TPrune leaves its own front with a hole."""
    more = ["--method", "zero_tprune,random_drop", "--trials", "30", "--batch-size", "4"]
    code, _, err = run(*searching(place, tmp_path, *more, "--confirm-images", "0"))
    assert code == 0, err
    _, out, _ = run("front", "small", "--by", "method", "--json", *db(tmp_path))
    stopped = json.loads(out)["stopped_by_others"]
    assert sum(stopped.values()) > 0
    _, out, _ = run("front", "small", "--by", "method", *db(tmp_path))
    for count in stopped.values():
        assert f"{count} more were stopped when they had lost against another method's" in out


def test_a_space_file_has_a_section_for_each_method_and_options_come_before_it(tmp_path):
    space = tmp_path / "space.yaml"
    space.write_text(
        "method: [zero_tprune, random_drop]\nkeep_rate: 0.9:1\nn_layers: 1\nzero_tprune:\n  s: '0:9'\nrandom_drop:\n"
        "  keep_rate: 0.5\n"
    )

    def least(*more):
        _, out, _ = run("flops", "deit_small_patch16_224", "--space", space, "--json", *more)
        return json.loads(out)["space_gflops"][0]

    assert least() == pytest.approx(2.44, abs=0.05)
    assert least("--set", "random_drop.keep_rate=0.8") > least() + 0.5
    line = refused(2, run("flops", "deit_small_patch16_224", "--space", space, "--method", "random_drop"))
    assert "zero_tprune.s is set, but 'zero_tprune' is not among the methods: random_drop" in line


def test_flops_says_which_methods_a_model_or_a_budget_leaves_out():
    code, out, err = run("flops", "vit_base_patch16_gap_224", "--method", "zero_tprune,random_drop")
    assert code == 0, err
    assert "zero_tprune is left out: vit_base_patch16_gap_224 has no class token" in err
    assert "layouts of this space cost" in out
    line = refused(3, run("flops", "deit_small_patch16_224", "--method", "all", "--budget", "1%"))
    assert "none of the methods is left: zero_tprune: the budget of" in line


# What there is to search


def test_methods_lists_what_each_preset_searches():
    code, out, _ = run("methods")
    assert code == 0
    assert re.search(r"^zero_tprune\s+arXiv:2305\.17328\s+needed by paper\s+drops", out, re.MULTILINE)
    assert "n_layers 3:6; keep_rate 0.3:1.0; after any block" in out
    assert "r as many as the model allows; inflection -1.0:1.0" in " ".join(out.split())
    _, out, _ = run("methods", "--json")
    assert [method["name"] for method in json.loads(out)] == list(METHODS)


def test_methods_tells_every_setting_of_one():
    _, out, _ = run("methods", "zero_tprune")
    assert "https://arxiv.org/abs/2305.17328" in out
    assert re.search(
        r"^feature\s+key, query, value, x_pre, x\s+key\s+key\s+\* key, query, value, x_pre, x", out, re.MULTILINE
    )
    _, out, _ = run("methods", "random_drop", "--json")
    assert json.loads(out)["class_token"] == "not needed"
    assert "the methods are zero_tprune" in refused(2, run("methods", "magic"))


def test_models_lists_what_can_be_pruned_and_by_what():
    code, out, _ = run("models", "vit_small_patch32_*")
    assert code == 0
    assert re.search(r"^vit_small_patch32_224\s+ViT\s+12\s+50\s+1\.1\d+\s+all$", out, re.MULTILINE)
    assert "2 of 2 models can be pruned" in out


def test_models_counts_those_that_cannot_be_pruned_and_says_why_when_asked():
    _, out, _ = run("models", "vit_base_patch16_[gx]*224")
    assert "vit_base_patch16_gap_224" in out
    assert "zero_tprune (full)" in out  # the preset paper favours the class token
    assert "1 of 2 models can be pruned; --all says why" in out
    _, out, _ = run("models", "vit_base_patch16_[gx]*224", "--all")
    assert "vit_base_patch16_xp_224 cannot be pruned: its blocks are" in out
    _, out, _ = run("models", "resnet18", "--all", "--json")
    assert json.loads(out) == {
        "models": [],
        "n_unsupported": 1,
        "unsupported": {"resnet18": "resnet18 (ResNet) cannot be pruned"},
    }


def test_models_named_like_nothing_are_refused_with_the_nearest():
    assert "no model is named like 'diet*'; the nearest names are deit" in refused(2, run("models", "diet*"))


# Counting


def test_flops_counts_block_by_block(tmp_path):
    code, out, _ = run("flops", "deit_small_patch16_224")
    assert code == 0
    assert "4.60834 GFLOPs (4608338304 multiply-adds)" in out
    assert "layouts of this space cost 0.5291 to 4.608 GFLOPs" in out
    write_layout(layout_document(RandomDrop(after=(3, 6, 9), keep_rate=(0.9, 0.8, 0.7))), tmp_path / "z1.json")
    _, out, _ = run("flops", "deit_small_patch16_224", "--config", tmp_path / "z1.json", "--json")
    counted = json.loads(out)
    assert counted["macs"] == 3_554_802_816
    assert [block["tokens"] for block in counted["blocks"]] == [197] * 3 + [177] * 3 + [141] * 3 + [99] * 3


def test_flops_says_whether_a_budget_can_be_met():
    code, out, _ = run("flops", "deit_small_patch16_224", "--budget", "50%", "--set", "n_layers=1:3")
    assert code == 0
    assert "the budget of 50% can be met" in out
    code, _, err = run("flops", "deit_small_patch16_224", "--budget", "5%")
    assert code == 3
    assert "unsatisfiable: layouts of this space cost" in err


def test_a_space_can_be_a_file(tmp_path):
    space = tmp_path / "space.yaml"
    space.write_text("method: zero_tprune\npreset: full\nn_layers: '1:2'\nfeature: key,query\ns: 0\n")
    _, out, _ = run("flops", "deit_small_patch16_224", "--space", space, "--set", "keep_rate=0.9:1", "--json")
    least, most = json.loads(out)["space_gflops"]
    assert 3.7 < least < most == pytest.approx(4.608, abs=0.001)


def test_doctor_finds_what_is_here(tmp_path):
    code, out, _ = run("doctor", "--db", f"sqlite:///{tmp_path}/none.db")
    assert code == 0
    assert "none yet" in out
    assert "PROBLEM" not in out
    _, out, _ = run("doctor", "--json", "--db", f"sqlite:///{tmp_path}/none.db")
    assert {"python", "torch", "timm", "optuna", "ray", "shapes_vit_small"} <= {
        check["check"] for check in json.loads(out)
    }


@pytest.mark.parametrize("verb", list(cli.list_commands(None)))
def test_every_verb_explains_itself_with_an_example(verb):
    code, out, _ = run(verb, "--help")
    assert code == 0
    assert f"  prunefront {verb}" in out
    assert "Example" in out


# Refusals: one line, the exit code, and nothing half-written


def refused(code: int, result: tuple[int, str, str]) -> str:
    """Check that a run ended with this code and one line of error; give the line."""
    found, out, err = result
    lines = [line for line in err.splitlines() if line.startswith(("prunefront:", "Error:"))]
    assert found == code, err
    assert "Traceback" not in err
    assert len(lines) == 1, err
    assert out == ""
    return lines[0]


def saved(path, weights):
    safetensors.torch.save_file(weights, path)
    return path


@pytest.fixture(scope="module")
def deit(tmp_path_factory):
    """Save a DeiT-S with random weights, as a user's checkpoint file."""
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("deit") / "deit_small.safetensors"
    return saved(path, timm.create_model("deit_small_patch16_224").state_dict())


@pytest.fixture
def photos(tmp_path):
    """Write an ImageNet-style folder of three synsets."""
    for number in range(30):
        synset = ("n01440764", "n01443537", "n03888257")[number % 3]
        write_jpeg(tmp_path / "imagenet" / "val" / synset / f"ILSVRC2012_val_{number:08d}.JPEG", number, (260, 240))
    return tmp_path / "imagenet"


@pytest.mark.parametrize("weights", [[], ["--pretrained"]], ids=["none", "pretrained"])
def test_an_unknown_model_gives_the_nearest_names(tmp_path, weights):
    line = refused(
        2, run("search", "--model", "diet_small", "--data", "shapes", "--budget", "3", *weights, *db(tmp_path))
    )
    assert "there is no model 'diet_small'; the nearest names are deit_small" in line
    assert list(tmp_path.iterdir()) == []


def test_an_unsupported_architecture_is_named(tmp_path):
    line = refused(2, run("flops", "resnet50"))
    assert "resnet50 (ResNet) cannot be pruned; supported is a timm VisionTransformer" in line
    searching = ["search", "--model", "resnet50", "--pretrained", "--data", "shapes", "--budget", "65%", *db(tmp_path)]
    assert "resnet50 (ResNet) cannot be pruned" in refused(2, run(*searching))  # nothing is downloaded for it


def test_a_checkpoint_that_does_not_fit_lists_its_keys(tmp_path, deit):
    weights = safetensors.torch.load_file(deit)
    del weights["norm.weight"]
    weights["head.bias"] = torch.zeros(7)
    arguments = ["--data", "shapes", "--budget", "3", *db(tmp_path)]
    path = saved(tmp_path / "bad.safetensors", weights)
    line = refused(2, run("search", "--model", "deit_small_patch16_224", "--checkpoint", path, *arguments))
    assert "1 missing: norm.weight; 1 misshapen: head.bias ((7,), not (1000,)); set --num-classes" in line


def test_a_checkpoint_with_other_objects_is_refused(tmp_path):
    path = tmp_path / "evil.pth"
    torch.save({"model": {}, "hook": subprocess.Popen}, path)
    line = refused(
        2, run("search", "--model", "deit_small_patch16_224", "--checkpoint", path, "--data", "shapes", "--budget", "3")
    )
    assert "holds pickled objects other than tensors" in line


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--data", "/nowhere"], "there is no data folder /nowhere"),
        (["--data", "{empty}"], "there are no images in"),
        (
            ["--data", "{photos}", "--images", "50"],
            "50 search images are asked for, but the data has 30: ask for fewer",
        ),
        (["--data", "{other}"], "3 class folders (cat, cow, dog), the model 1000 classes: name the model's classes"),
        (["--data", "{flat}"], "the images have no labels, which top-1 needs: give --labels FILE.csv"),
    ],
)
def test_data_that_cannot_be_used_is_refused(tmp_path, deit, photos, arguments, message):
    (tmp_path / "empty").mkdir()
    for name in ("cat", "cow", "dog"):
        write_jpeg(tmp_path / "other" / name / "1.jpg", 1)
        write_jpeg(tmp_path / "flat" / f"{name}.jpg", 1)
    places = {name: tmp_path / name for name in ("empty", "other", "flat")} | {"photos": photos}
    arguments = [argument.format(**places) for argument in arguments]
    model = ["--model", "deit_small_patch16_224", "--checkpoint", deit, "--budget", "3", "--executor", "local"]
    output = ["--output", tmp_path / "x.json", "--db", f"sqlite:///{tmp_path}/x.db"]
    assert message in refused(2, run("search", *model, *arguments, *output))
    assert not (tmp_path / "x.db").exists()
    assert not (tmp_path / "x.json").exists()


def test_a_corrupt_jpeg_is_named_and_can_be_left_out(place, tmp_path):
    folder = tmp_path / "images"
    folder.mkdir()
    for path in sorted(Path(place.data).iterdir()):
        (folder / path.name).write_bytes(path.read_bytes())
    (folder / "003.jpg").write_bytes((folder / "003.jpg").read_bytes()[:200])
    arguments = ["search", "--model", place.model, "--data", str(folder), "--labels", place.labels, "--budget", "65%"]
    arguments += ["--images", "45", "--confirm-images", "44", "--trials", "3", "--executor", "local", *db(tmp_path)]
    arguments += ["--study", "small", "--output", str(tmp_path / "x.json")]
    line = refused(1, run(*arguments))
    assert "cannot decode 003.jpg" in line
    assert "--skip-bad-images" in line
    assert not (tmp_path / "test.db").exists()
    code, _, err = run(*arguments, "--skip-bad-images")
    assert code == 0, err
    assert (tmp_path / "x.json").exists()


def test_outputs_that_are_not_numbers_stop_the_search_and_fail_a_trial(place, tmp_path):
    weights = safetensors.torch.load_file(Path(place.model.removeprefix("local-dir:")) / "model.safetensors")
    weights["head.bias"][0] = torch.nan
    path = saved(tmp_path / "nan.safetensors", weights)
    model = ["--model", place.model, "--checkpoint", path, "--data", place.data, "--labels", place.labels]
    line = refused(1, run("search", *model, "--budget", "65%", "--executor", "local", "--images", "20", *db(tmp_path)))
    assert "the model's outputs are NaN or infinite for 16 of a batch of 16 images" in line
    assert not (tmp_path / "test.db").exists()


def test_a_layout_for_a_deeper_model_is_refused(place, tmp_path):
    write_layout(layout_document(RandomDrop(after=(3, 9), keep_rate=(0.9, 0.8))), tmp_path / "deep.json")
    line = refused(2, run("evaluate", "--model", place.model, "--data", place.data, "--config", tmp_path / "deep.json"))
    assert "the layout prunes after block 9, but" in line
    assert "has only 6 blocks: use layers from 1 to 5" in line


def test_an_unknown_study_lists_those_there_are(searched):
    folder, *_ = searched
    for arguments in (["front", "other"], ["resume", "other"], ["compare", "other:best", "small:1"]):
        assert "no study 'other'" in refused(2, run(*arguments, *db(folder)))
        assert "there are: small" in refused(2, run(*arguments, *db(folder)))


def test_an_existing_study_name_is_refused(searched, place):
    folder, *_ = searched
    line = refused(2, run(*searching(place, folder), "--output", folder / "again.json"))
    assert "there is a study 'small'" in line
    assert "prunefront resume small" in line


def test_an_existing_output_is_not_overwritten(searched, place):
    folder, *_ = searched
    before = (folder / "small.json").read_text()
    line = refused(2, run(*searching(place, folder, study="new"), "--output", folder / "small.json"))
    assert "small.json exists already" in line
    assert (folder / "small.json").read_text() == before


@pytest.mark.parametrize(
    ("url", "code", "message"),
    [
        ("nonsense://x", 2, "a database URL is sqlite:///file.db"),
        ("sqlite:////nowhere/x.db", 2, "there is no folder /nowhere"),
        ("postgresql+psycopg://nobody@127.0.0.1:1/x", None, ""),
    ],
)
def test_a_database_that_cannot_be_used_is_refused(place, tmp_path, url, code, message):
    found = run(*searching(place, tmp_path), "--db", url)
    if code is None:  # refused for want of the driver, or because nobody listens there
        code, message = (
            found[0],
            "psycopg" if found[0] == 2 else "cannot open postgresql+psycopg://nobody@127.0.0.1:1/x",
        )
        assert code in (1, 2)
    assert message in refused(code, found)
    assert list(tmp_path.iterdir()) == []


def test_a_read_only_folder_is_refused_before_anything_is_measured(tmp_path):
    folder = tmp_path / "locked"
    folder.mkdir(mode=0o555)
    arguments = [PRUNEFRONT, "search", "--model", "shapes_vit_small", "--data", "shapes", "--budget", "65%"]
    line = refused(2, run_restricted(*arguments, cwd=folder))
    assert "its folder does not exist or is read-only" in line
    line = refused(1, run_restricted(*arguments, "--output", tmp_path / "x.json", cwd=folder))
    assert "cannot write to the folder" in line
    assert os.listdir(folder) == []
    assert not (tmp_path / "x.json").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--budget", "1%"], "unsatisfiable"),
        (["--budget", "cheap"], "a budget is 3.0 (GFLOPs), 65% (of dense) or a range"),
        (["--method", "magic"], "the methods are zero_tprune"),
        (["--method", "zero_tprune,random_drop", "--set", "s=3"], "say whose, such as zero_tprune.s"),
        (["--set", "random_drop.seed=3"], "'random_drop' is not among the methods: zero_tprune"),
        (["--set", "keep_rate"], "--set takes NAME=VALUE"),
        (["--set", "keep_rate=2:3"], "keep_rate"),
        (["--set", "keeprate=0.5"], "did you mean keep_rate?"),
        (["--space", "huge"], "presets of zero_tprune are paper, full"),
        (["--mean", "0.5"], "--mean takes three numbers"),
        (["--trials", "0"], "at least one trial"),
        (["--workers", "0"], "n_workers"),
        (["--output", "best.toml"], "--output takes a .json or .yaml file"),
        (["--expect-top1", "99"], "not the 99 % expected"),
    ],
)
def test_settings_that_cannot_be_used_are_refused(place, tmp_path, arguments, message):
    code = {"unsatisfiable": 3, "not the 99 % expected": 1}.get(message, 2)
    assert message in refused(code, run(*searching(place, tmp_path), *arguments))
    assert list(tmp_path.iterdir()) == []


def test_a_range_out_of_what_a_setting_may_be_is_refused(place, tmp_path):
    line = refused(2, run(*searching(place, tmp_path), "--set", "n_layers=7:9"))
    assert "the space asks for 7 or more pruning layers" in line


# Through the installed command, with real workers


def test_a_full_run_on_an_imagenet_style_folder(photos, deit, tmp_path):
    arguments = [
        PRUNEFRONT, "search", "--model", "deit_small_patch16_224", "--checkpoint", deit, "--data", photos,
        "--images", "12", "--confirm-images", "12", "--budget", "3.0", "--trials", "6", "--expect-top1", "0",
        "--study", "deit", "--workers", "2", "--batch-size", "12",
    ]  # fmt: skip
    found = subprocess.run(arguments, cwd=tmp_path, capture_output=True, text=True, timeout=280, check=False)
    assert found.returncode == 0, found.stderr
    assert "30 images in 3 synset folders; 12 to search on, 12 others to confirm on" in found.stderr
    assert "preprocessing: 224x224 px, bicubic, crop 0.9 (center)" in found.stderr
    assert "4.608 GFLOPs dense" in found.stderr
    document = json.loads((tmp_path / "deit.json").read_text())
    assert document["gflops"] <= 3.0
    assert document["measured"]["confirmed"]["n_images"] == 12
    assert {path.name for path in tmp_path.iterdir()} == {"deit.json", "prunefront.db", "imagenet"}
    shown = subprocess.run([PRUNEFRONT, "front", "deit"], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert "dense, unseen images: top-1" in shown.stdout


def test_evaluating_on_the_images_of_the_search_says_so(searched, place):
    folder, _, _ = searched
    arguments = ["evaluate", "--model", place.model, "--data", place.data, "--labels", place.labels, "--images", "40"]
    code, _, err = run(*arguments, "--config", folder / "small.json")
    assert code == 0, err
    assert "the layout was chosen on these very images" in err
    _, _, err = run(*arguments, "--config", folder / "small.json", "--image-seed", "7")
    assert "very images" not in err


@pytest.mark.parametrize("option", ["--batch-size", "--threads"])
def test_measuring_with_nothing_is_refused(searched, place, option):
    folder, _, _ = searched
    arguments = ["evaluate", "--model", place.model, "--data", place.data, "--labels", place.labels]
    assert "greater than or equal to 1" in refused(2, run(*arguments, "--config", folder / "small.json", option, "0"))


@pytest.mark.parametrize("output", ["best.txt", "nowhere/best.json"])
def test_resume_refuses_a_place_it_cannot_write_to_before_it_runs(searched, tmp_path, output):
    folder, _, _ = searched
    refused(
        2, run("resume", "small", "--trials", "9", "--output", tmp_path / output, "--executor", "local", *db(folder))
    )
    assert json.loads(run("status", "small", "--json", *db(folder))[1])["n_trials"] == 8


def test_a_cache_too_small_for_all_depths_says_so_and_changes_no_result(place, tmp_path, searched):
    folder, _, plenty = searched
    code, _, err = run(*searching(place, tmp_path, "--cache-gb", "0.0001"))
    assert code == 0, err
    assert re.search(r"cache: a worker keeps the dense model's tokens after 1 of 4 blocks.*--cache-gb", err)
    assert "cache:" not in plenty
    fronts = [json.loads(run("front", "small", "--json", *db(where))[1])["front"] for where in (folder, tmp_path)]
    assert fronts[0] == fronts[1]


def test_a_study_is_not_named_like_an_option(place, tmp_path):
    assert "study" in refused(2, run(*searching(place, tmp_path, study="-first")))


def test_ctrl_c_stops_cleanly_and_resume_goes_on(tmp_path):
    arguments = [
        PRUNEFRONT, "search", "--model", "shapes_vit_small", "--data", "shapes", "--budget", "65%", "--images", "128",
        "--confirm-images", "0", "--trials", "400", "--study", "cut", "--look-ahead", "4", "--workers", "2",
    ]  # fmt: skip
    with subprocess.Popen(
        arguments, cwd=tmp_path, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True, start_new_session=True
    ) as search:
        said = []
        for line in search.stderr:
            said.append(line)
            if re.match(r"trials [1-9]", line):
                break
        os.killpg(search.pid, signal.SIGINT)  # as a terminal sends it: to every process of the group
        out, err = search.communicate(timeout=120)
    said = "".join(said) + err
    assert search.returncode == 130, said
    assert "Traceback" not in said
    assert re.search(r"prunefront: stopped with \d+ of 400 trials finished; go on with prunefront resume cut", said)
    status = json.loads(subprocess.check_output([PRUNEFRONT, "status", "cut", "--json"], cwd=tmp_path, text=True))
    assert status["state"] == "interrupted"
    assert "running" not in status["trials"]
    n_proposed = sum(status["trials"].values())
    resumed = subprocess.run(
        [PRUNEFRONT, "resume", "cut", "--workers", "2", "--trials", str(n_proposed + 3)],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert resumed.returncode == 0, resumed.stderr
    assert (tmp_path / "cut.json").exists()
    assert out == ""
