from __future__ import annotations

import pytest
import torch

from objectives.bundle_speed import time_bundle
from pruning.bundle import open_bundle, write_bundle
from pruning.models import load_model
from spaces import InvalidInput, PrunefrontError, dense_cost, layout_document, parse_layout

LAYOUT = parse_layout({"method": "cls_topk", "inside": [2, 3], "keep_rate": [0.3, 0.3]})


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("bench")
    small = {"img_size": 32, "patch_size": 8, "embed_dim": 24, "depth": 4, "num_heads": 3, "num_classes": 5}
    model = load_model("vit_tiny_patch16_224", random_weights=True, arguments=small)
    write_bundle(folder, model, layout_document(LAYOUT))
    return folder


def test_dense_and_pruned_are_timed_in_each_runtime_with_what_they_count(folder):
    bundle = open_bundle(folder)
    speeds = time_bundle(bundle, runtimes=["torch", "onnxruntime"], batch_sizes=(1, 3), seconds=0.05)
    assert {(speed.who, speed.runtime) for speed in speeds} == {
        (who, runtime) for who in ("dense", "pruned") for runtime in ("torch", "onnxruntime")
    }
    architecture = bundle.dense.architecture
    for speed in speeds:
        counted = dense_cost(architecture) if speed.who == "dense" else LAYOUT.cost(architecture)
        assert speed.gflops == counted.gflops
        assert [latency.batch_size for latency in speed.latencies] == [1, 3]
        assert all(latency.median_ms > 0 and latency.n_runs >= 7 for latency in speed.latencies)


def test_a_cost_that_images_decide_is_the_studys_mean_and_torch_alone_runs_a_segmenter(tmp_path):
    dtop = parse_layout({"method": "dtop", "after": [4]})
    write_bundle(tmp_path, load_model("shapes_seg_small"), layout_document(dtop, gflops=0.125))
    said = []
    speeds = time_bundle(open_bundle(tmp_path), batch_sizes=(1,), seconds=0, say=said.append)
    assert [(speed.who, speed.runtime) for speed in speeds] == [("dense", "torch"), ("pruned", "torch")]
    assert speeds[1].gflops == 0.125
    assert [line.partition(":")[0] for line in said] == ["compile is left out", "onnxruntime is left out"]


def test_programs_of_ats_are_timed_on_one_image_alone(folder, tmp_path):
    ats = parse_layout({"method": "ats", "in_attention": [2, 3], "k": 9})
    write_bundle(tmp_path, open_bundle(folder).dense, layout_document(ats))
    said = []
    bundle = open_bundle(tmp_path)
    speeds = time_bundle(bundle, runtimes=["torch", "onnxruntime"], batch_sizes=(1, 2), seconds=0, say=said.append)
    assert {speed.runtime for speed in speeds} == {"torch"}
    assert said == ["onnxruntime is left out: a program of ats takes one image at a time: --batch-sizes 1"]
    assert len(time_bundle(bundle, runtimes=["onnxruntime"], batch_sizes=(1,), seconds=0)) == 2


def test_timing_leaves_the_bundles_model_dense(folder):
    bundle, images = open_bundle(folder), torch.randn(2, 3, 32, 32)
    before = bundle.dense.model(images)
    time_bundle(bundle, runtimes=["torch"], batch_sizes=(1,), seconds=0)
    assert torch.equal(bundle.dense.model(images), before)


def test_a_runtime_that_cannot_run_here_is_left_out_by_name(folder, monkeypatch):
    monkeypatch.setattr("pruning.exporting.find_spec", lambda name: None)
    said = []
    speeds = time_bundle(
        open_bundle(folder), runtimes=["torch", "onnxruntime"], batch_sizes=(1,), seconds=0, say=said.append
    )
    assert {speed.runtime for speed in speeds} == {"torch"}
    assert len(said) == 1
    assert said[0].startswith("onnxruntime is left out: format onnx needs onnx, onnxscript, onnxruntime")
    with pytest.raises(PrunefrontError, match="none of onnxruntime can run"):
        time_bundle(open_bundle(folder), runtimes=["onnxruntime"], seconds=0)


def test_unknown_runtimes_and_batch_sizes_are_refused(folder):
    with pytest.raises(InvalidInput, match="the runtimes are torch, compile, onnxruntime, got 'tensorrt'"):
        time_bundle(open_bundle(folder), runtimes=["tensorrt"])
    with pytest.raises(InvalidInput, match=r"batch sizes are whole numbers from 1, got \[0\]"):
        time_bundle(open_bundle(folder), batch_sizes=[0])
