from __future__ import annotations

from pruning.card import model_card
from spaces import layout_document, parse_layout

LAYOUT = parse_layout({"method": "random_drop", "after": [3], "keep_rate": [0.5]})
MEASURED = {
    "top1_pct": 91.25,
    "top1_pct_interval": [88.0, 93.75],
    "n_images": 512,
    "image_list_hash": "ab" * 8,
    "gflops": 0.1,
}
DOCUMENT = layout_document(
    LAYOUT,
    model={"name": "vit_tiny", "weights_digest": "d" * 16},
    gflops=0.1,
    dense_gflops=0.2,
    measured={"confirmed": MEASURED | {"n_images": 1024}, "searched": MEASURED},
    dense={"confirmed": MEASURED | {"top1_pct": 95.0, "gflops": 0.2}},
    study={"name": "first", "trial": 7, "seed": 5, "sampler": "tpe", "versions": {"torch": "2.15.0"}},
)  # fmt: skip


def test_the_card_says_numbers_with_intervals_images_lists_seed_and_versions():
    card = model_card(DOCUMENT)
    for said in (
        "| pruned | top-1 (%) | 91.2 [88.0, 93.8] | 0.1 | 1024 unseen by the search | `abababababababab` |",
        "| dense | top-1 (%) | 95.0 [88.0, 93.8] | 0.2 | 512 unseen by the search |",
        "512 searched on",
        "0.1 GFLOPs an image, 50% of the dense",
        "study `first`, trial 7, sampler tpe, seed 5, with torch 2.15.0",
        'pruning.load(".")',
    ):
        assert said in card


def test_a_measured_cost_is_said_to_be_a_mean():
    card = model_card({**DOCUMENT, "gflops_interval": [0.09, 0.11]})
    assert "0.1 GFLOPs an image on average, 50% of the dense" in card


def test_the_card_of_a_layout_alone_names_the_weights_that_fit():
    card = model_card(DOCUMENT, with_weights=False)
    assert "checkpoint=" in card
    assert "d" * 16 in card


def test_the_card_of_a_segmenter_says_miou_and_what_comes_out():
    layout = parse_layout({"method": "dtop", "after": [4]})
    measured = {"confirmed": MEASURED | {"miou_pct": 81.04, "miou_pct_interval": [79.6, 82.5]}}
    card = model_card(layout_document(layout, measured=measured))
    assert "- image-segmentation" in card
    assert "| pruned | mIoU (%) | 81.0 [79.6, 82.5] |" in card
    assert "(1, class, height, width)" in card


def test_a_bare_layout_has_a_card_too():
    card = model_card(layout_document(LAYOUT))
    assert "pruned by random_drop" in card
    assert "GFLOPs" not in card


def test_the_card_says_how_well_exported_programs_agree():
    parity = {
        "file": "model.onnx",
        "n_images": 100,
        "batch_sizes": [1, 3],
        "max_difference": 2e-6,
        "agreement_pct": 100.0,
    }
    card = model_card(DOCUMENT | {"exports": {"onnx": parity}})
    assert "| `model.onnx` | 100, 1 and 3 | 2e-06 | 100.0 % |" in card


def test_the_card_says_latencies_and_on_what_where_both_were_timed_at_one_time():
    timed = {"latency_ms": 3.21987, "latency_ms_interval": [3.2, 3.25]}
    measured = {"confirmed": MEASURED, "searched": MEASURED | timed}
    dense = {"confirmed": MEASURED, "searched": MEASURED | {"latency_ms": 5.0}}
    machine = {"processor": "Some CPU", "threads": 2, "runtime": "torch 2, eager, float32", "host": "h"}
    card = model_card({**DOCUMENT, "measured": measured, "dense": dense, "timed_on": machine})
    assert "One image takes 3.22 ms [3.2, 3.25], and the dense model 5 ms" in card
    assert "on Some CPU, CPU threads: 2, torch 2, eager, float32" in card
    assert "One image" not in model_card(DOCUMENT)
    again = {
        name: found | {"confirmed": MEASURED | {"latency_ms": 4.0}}
        for name, found in (("measured", measured), ("dense", dense))
    }
    assert "One image takes 4 ms" in model_card({**DOCUMENT, **again, "timed_on": machine})
