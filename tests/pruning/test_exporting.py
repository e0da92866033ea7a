"""Every method, and every family, as a program for ``torch.export`` and one for onnxruntime, against the model."""

from __future__ import annotations

import json

import pytest
import torch

from objectives.parity import check_parity
from objectives.runtimes import eager, exported, onnxruntime_session
from pruning import pruned
from pruning.apply import read_architecture
from pruning.exporting import METADATA_KEY, metadata, require_formats, trace, write_program
from pruning.models import LoadedModel, load_model
from pruning.preprocessing import Preprocessing
from spaces import InvalidInput, PrunefrontError, UnsupportedModel, parse_layout
from tests.tiny import TINY_MODELS, tiny_images

LAYOUTS = {
    "zero_tprune": {"method": "zero_tprune", "after": [1, 3], "keep_rate": [0.7, 0.7], "s": [2, 1]},
    "zero_tprune, other settings": {
        "method": "zero_tprune", "after": [2], "keep_rate": [0.6], "s": 2, "order": "I-S", "partition": "random",
        "similarity": "minkowski2", "feature": "x", "temperature": 0.5, "head_agg": "max", "iterations": 30,
    },
    "zero_tprune, all with all": {
        "method": "zero_tprune", "after": [2], "keep_rate": [0.6], "s": 3, "partition": "none", "similarity": "dot",
    },
    "cls_topk": {"method": "cls_topk", "inside": [2, 3], "keep_rate": [0.7, 0.7]},
    "cls_topk, nothing fused": {
        "method": "cls_topk", "inside": [2, 3], "keep_rate": [0.7, 0.7], "fuse": False, "head_reduce": "max",
    },
    "attention_rank": {"method": "attention_rank", "after": [1, 3], "keep_rate": [0.7, 0.7], "score": "accumulated"},
    "tome": {"method": "tome", "r": 2},
    "tome, of tokens": {"method": "tome", "r": 2, "metric_feature": "x", "prop_attn": False},
    "bat": {"method": "bat", "inside": [2, 3], "keep_rate": [0.7, 0.7]},
    "bat, other settings": {
        "method": "bat", "inside": [2, 3], "keep_rate": [0.6, 0.7], "match": "greedy", "density": "gauss",
        "merge_norm": False, "p": 2, "c_num": 2,
    },
    "random_drop": {"method": "random_drop", "after": [1, 3], "keep_rate": [0.7, 0.7]},
}  # fmt: skip
CASES = [
    *(("ViT", name) for name in LAYOUTS),
    ("TNT", "bat"),
    ("LV-ViT", "zero_tprune"),
]


def loaded(family: str) -> LoadedModel:
    model = TINY_MODELS[family]().requires_grad_(False)
    architecture = read_architecture(model, family)
    return LoadedModel(family, model, architecture, Preprocessing.of(model, architecture.image_size), "0" * 16)


@pytest.mark.parametrize(("family", "name"), CASES)
def test_exported_programs_say_what_the_model_says(family, name, tmp_path):
    model, layout = loaded(family), parse_layout(LAYOUTS[name])
    program = trace(model, layout)
    images = tiny_images(32)
    for format_, path in (("pt2", tmp_path / "model.pt2"), ("onnx", tmp_path / "model.onnx")):
        write_program(format_, program, path, metadata(model, layout))
        run = onnxruntime_session(path) if format_ == "onnx" else exported(path)
        with pruned(model.model, layout):
            parity = check_parity(eager(model.model), run, images, batch_sizes=(1, 3, 32))
        assert (parity.within_pct, parity.agreement_pct) == (100, 100)
        assert parity.max_difference < 1e-4
    assert sorted(file.name for file in tmp_path.iterdir()) == ["model.onnx", "model.pt2"]


def test_the_model_is_left_as_it_was():
    model, images = loaded("ViT"), tiny_images(2)
    before = model.model(images)
    trace(model, parse_layout(LAYOUTS["tome"]))
    assert torch.equal(model.model(images), before)


def test_a_dense_model_is_traced_too():
    model, images = loaded("ViT"), tiny_images(5)
    torch.testing.assert_close(trace(model, None).module()(images), model.model(images))


def test_an_onnx_file_carries_layout_and_preprocessing_and_names_its_batch(tmp_path):
    import onnxruntime

    model, layout = loaded("ViT"), parse_layout(LAYOUTS["cls_topk"])
    write_program("onnx", trace(model, layout), tmp_path / "model.onnx", metadata(model, layout))
    session = onnxruntime.InferenceSession(tmp_path / "model.onnx")
    (images,), (logits,) = session.get_inputs(), session.get_outputs()
    assert (images.name, images.shape) == ("images", ["batch", 3, 32, 32])
    assert (logits.name, logits.shape) == ("logits", ["batch", 5])
    about = json.loads(session.get_modelmeta().custom_metadata_map[METADATA_KEY])
    assert parse_layout(about) == layout
    assert about["preprocessing"]["input_size"] == [3, 32, 32]


def test_formats_that_there_are_not_are_refused_and_missing_packages_named(monkeypatch):
    with pytest.raises(InvalidInput, match="the formats are onnx, pt2, got 'tflite'"):
        require_formats(("tflite",))
    monkeypatch.setattr("pruning.exporting.find_spec", lambda name: None if name == "onnxruntime" else name)
    require_formats(("pt2",))
    with pytest.raises(InvalidInput, match=r"format onnx needs onnxruntime: pip install 'prunefront\[export\]'"):
        require_formats(("onnx",))


def test_a_model_that_torch_cannot_follow_is_refused_in_one_line(monkeypatch):
    model = loaded("ViT")
    monkeypatch.setattr(model.model, "forward_head", lambda x: x[: int(x.sum())])
    with pytest.raises(PrunefrontError, match=r"^torch\.export cannot follow ViT: [^\n]+$"):
        trace(model, None)


@pytest.mark.parametrize("family", ["ViT", "MAE"])
def test_where_the_image_decides_how_many_tokens_stay_a_program_takes_one_image_at_a_time(family, tmp_path):
    model, layout = loaded(family), parse_layout({"method": "ats", "in_attention": [2, 3], "k": 9})
    program, images = trace(model, layout), tiny_images(32)
    for format_, path in (("pt2", tmp_path / "model.pt2"), ("onnx", tmp_path / "model.onnx")):
        write_program(format_, program, path, metadata(model, layout))
        run = onnxruntime_session(path) if format_ == "onnx" else exported(path)
        with pruned(model.model, layout) as at_work:
            model.model(images)
            assert len(set(at_work.n_kept[3].tolist())) > 3  # so that no number of tokens can have become a constant
            parity = check_parity(eager(model.model), run, images, batch_sizes=(1,))
        assert (parity.within_pct, parity.agreement_pct) == (100, 100)
        assert parity.max_difference < 1e-4
        with pytest.raises(Exception, match=r"(?i)shape|dimension|size"):
            run(images[:2])


@pytest.mark.parametrize("layout", [None, {"method": "dtop", "after": [6]}])
def test_segmenters_are_refused_by_name(layout):
    with pytest.raises(UnsupportedModel, match=r"shapes_seg_small is a segmenter, .* the bundle without --format"):
        trace(load_model("shapes_seg_small"), layout and parse_layout(layout))


def test_a_file_that_onnxruntime_cannot_run_is_refused(tmp_path):
    (tmp_path / "model.onnx").write_bytes(b"no model")
    with pytest.raises(PrunefrontError, match=r"onnxruntime cannot run .*model\.onnx"):
        onnxruntime_session(tmp_path / "model.onnx")
