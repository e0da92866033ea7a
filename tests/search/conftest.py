"""A small model in a folder, and images that it labels itself, as a user would have them on disk."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import pytest
import safetensors.torch
import torch
from PIL import Image

from pruning.models import load_model
from tests.tiny import tiny_vit, write_jpeg

ARGUMENTS = {
    "img_size": 32,
    "patch_size": 8,
    "embed_dim": 24,
    "depth": 6,
    "num_heads": 3,
    "mlp_ratio": 2,
    "num_classes": 5,
}


@dataclass(frozen=True)
class Place:
    """Where the model and its images lie."""

    model: str
    data: str
    labels: str

    def settings(self, **changes) -> dict:
        """Give the settings of a search on them."""
        return {
            "study": "small",
            "model": {"name": self.model},
            "data": {"data": self.data, "labels": self.labels, "n_search": 40, "n_confirm": 40},
            "budget": "65%",
            "look_ahead": 4,
            "batch_size": 8,
            "precision": "float32",
            "seed": 3,
        } | changes


@pytest.fixture(scope="session")
def place(tmp_path_factory) -> Place:
    """Write 90 JPEGs and a model that is right on nine of ten of them."""
    root: Path = tmp_path_factory.mktemp("place")
    torch.manual_seed(0)
    model = tiny_vit(depth=6, seed=4)
    paths = [write_jpeg(root / "images" / f"{number:03d}.jpg", number, (32, 32)) for number in range(90)]

    (root / "model").mkdir()
    config = {
        "architecture": "vit_tiny_patch16_224",
        "num_classes": 5,
        "model_args": ARGUMENTS,
        "pretrained_cfg": {
            "input_size": [3, 32, 32],
            "crop_pct": 1.0,
            "num_classes": 5,
            "mean": [0.5] * 3,
            "std": [0.5] * 3,
        },
    }
    (root / "model" / "config.json").write_text(json.dumps(config))

    def save() -> None:
        safetensors.torch.save_file(model.state_dict(), root / "model" / "model.safetensors")

    save()
    name = f"local-dir:{root / 'model'}"
    transform = load_model(name).preprocessing.transform()
    inputs = torch.stack([transform(Image.open(path).convert("RGB")) for path in paths])
    with torch.no_grad():
        model.head.bias.sub_(model(inputs).mean(0))  # so that every class is chosen for some
        chosen = model(inputs).argmax(1)
    save()
    assert len(chosen.unique()) >= 4
    labels = [int(label) if number % 10 else (int(label) + 1) % 5 for number, label in enumerate(chosen)]
    (root / "labels.csv").write_text(
        "".join(f"{path.name},{label}\n" for path, label in zip(paths, labels, strict=True))
    )
    return Place(name, str(root / "images"), str(root / "labels.csv"))


@pytest.fixture
def db(tmp_path) -> str:
    """Name a database that is not there yet."""
    return f"sqlite:///{tmp_path}/test.db"
