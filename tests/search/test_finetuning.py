"""``prunefront finetune-heads``, as people meet it."""

from __future__ import annotations

import json

import pytest
import safetensors.torch
import torch

from pruning.models import load_model
from tests.search.test_cli import run


@pytest.fixture
def finetuning(tmp_path):
    config = {
        "model": "shapes_seg_small",
        "data": "shapes",
        "layout": {"after": [4, 8], "p0": 0.9},
        "n_steps": 2,
        "batch_size": 2,
        "output": str(tmp_path / "tuned.safetensors"),
    }

    def write(**changes):
        (tmp_path / "finetune.json").write_text(json.dumps(config | changes))
        return tmp_path / "finetune.json"

    return write


def test_finetune_heads_writes_weights_that_load(finetuning, tmp_path):
    code, out, err = run("finetune-heads", "--config", finetuning())
    assert code == 0, err
    assert "--checkpoint" in out
    before, after = (
        load_model("shapes_seg_small", checkpoint=checkpoint).model.state_dict()
        for checkpoint in (None, tmp_path / "tuned.safetensors")
    )
    changed = [name for name in before if not torch.equal(before[name], after[name])]
    assert changed
    assert all(name.startswith("heads.") for name in changed)
    assert safetensors.torch.load_file(tmp_path / "tuned.safetensors").keys() == before.keys()


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"output": "tuned.pth"}, "output must be a .safetensors file"),
        ({"output": "/nowhere/tuned.safetensors"}, "its folder does not exist"),
        ({"layout": {"after": [5]}}, "has no head there"),
        ({"model": "shapes_vit_small"}, "this model has none"),
        ({"n_step": 2}, "n_step: Extra inputs are not permitted"),
    ],
)
def test_finetune_heads_refuses_what_does_not_fit(finetuning, changes, problem):
    code, _, err = run("finetune-heads", "--config", finetuning(**changes))
    assert code == 2
    assert problem in err


def test_finetune_heads_has_nothing_to_resume_at_first(finetuning):
    code, _, err = run("finetune-heads", "--config", finetuning(), "--resume")
    assert code == 2
    assert "there is nothing to resume" in err
