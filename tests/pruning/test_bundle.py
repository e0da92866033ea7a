from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import pytest
import safetensors.torch
import timm
import torch
from PIL import Image

import pruning
from objectives.masks import find_masks
from objectives.scenes import prepare_scenes
from pruning import prune, pruned
from pruning.bundle import is_bundle, open_bundle, write_bundle
from pruning.models import load_model
from spaces import InvalidInput, UnsupportedModel, layout_document, parse_layout

LAYOUT = {"method": "cls_topk", "inside": [2, 3], "keep_rate": [0.6, 0.6]}
SMALL = {"img_size": 32, "patch_size": 8, "embed_dim": 24, "depth": 4, "num_heads": 3, "num_classes": 5}
_TNT = {name: value for name, value in SMALL.items() if name != "num_heads"}
_TNT |= {"inner_dim": 4, "num_heads_inner": 2, "num_heads_outer": 3}
OTHER_PREPROCESSING = {"mean": (0.4, 0.5, 0.6), "std": (0.2, 0.3, 0.4), "crop_pct": 0.8, "interpolation": "bilinear"}
SOURCES = {
    "vit_tiny_patch16_224": SMALL,
    "deit_tiny_distilled_patch16_224": SMALL,
    "vit_base_patch16_224.mae": SMALL | {"global_pool": "avg"},
    "tnt_s_patch16_224": _TNT,
    "lvvit_s": SMALL,
}  # fmt: skip


def loaded_from(name: str, folder: Path):
    """Load a small model of a family from a checkpoint, whose preprocessing is not the declared one."""
    arguments = SOURCES[name]
    torch.manual_seed(3)
    model = timm.create_model(name, **arguments)
    safetensors.torch.save_file(model.state_dict(), folder / "weights.safetensors")
    return load_model(
        name, checkpoint=folder / "weights.safetensors", arguments=arguments, preprocessing=OTHER_PREPROCESSING
    )


def bundle_of(loaded, folder: Path, **changes) -> Path:
    folder.mkdir()
    write_bundle(folder, loaded, layout_document(parse_layout(LAYOUT), **changes))
    return folder


def images() -> torch.Tensor:
    return torch.randn(3, 3, 32, 32, generator=torch.Generator().manual_seed(2))


@pytest.fixture(scope="module")
def bundle(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("bundles")
    return bundle_of(loaded_from("vit_tiny_patch16_224", folder), folder / "best")


@pytest.fixture
def copy(bundle, tmp_path) -> Path:
    return Path(shutil.copytree(bundle, tmp_path / "copy"))


def changed(path: Path, change) -> None:
    document = json.loads(path.read_text())
    change(document)
    path.write_text(json.dumps(document))


@pytest.mark.parametrize("name", SOURCES)
def test_a_bundle_gives_the_pruned_model_back_with_its_preprocessing(tmp_path, name):
    loaded = loaded_from(name, tmp_path)
    folder = bundle_of(loaded, tmp_path / "best")
    model, transform = pruning.load(folder)
    dense = loaded.model(images())
    expected = prune(loaded.model, LAYOUT)(images())
    assert torch.equal(model(images()), expected)
    assert not torch.equal(dense, expected)
    photo = Image.effect_noise((50, 40), 80).convert("RGB")
    assert torch.equal(transform(photo), loaded.preprocessing.transform()(photo))


@pytest.mark.parametrize("name", SOURCES)
def test_timm_loads_a_bundle_as_the_dense_model(tmp_path, name):
    loaded = loaded_from(name, tmp_path)
    folder = bundle_of(loaded, tmp_path / "best")
    dense = timm.create_model(f"local-dir:{folder}", pretrained=True).eval()
    assert torch.equal(dense(images()), loaded.model(images()))
    config = timm.data.resolve_model_data_config(dense)
    assert (*config["mean"], config["crop_pct"]) == (0.4, 0.5, 0.6, 0.8)


def test_timm_alone_makes_the_bundled_model(tmp_path):
    loaded = load_model("shapes_vit_small")
    folder = bundle_of(loaded, tmp_path / "best")
    program = (
        "import sys, timm, torch\n"
        f"model = timm.create_model('local-dir:{folder}', pretrained=True).eval()\n"
        "assert 'pruning' not in sys.modules\n"
        "print(model(torch.ones(1, 3, 96, 96)).tolist())"
    )
    said = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout
    assert torch.allclose(torch.tensor(json.loads(said)), loaded.model(torch.ones(1, 3, 96, 96)), atol=1e-5)


def test_a_bundle_is_bundled_again_as_it_is(bundle, tmp_path):
    again = bundle_of(load_model(f"local-dir:{bundle}"), tmp_path / "again")
    assert json.loads((again / "config.json").read_text()) == json.loads((bundle / "config.json").read_text())
    assert torch.equal(pruning.load(again).model(images()), pruning.load(bundle).model(images()))


def test_a_layout_alone_takes_its_weights_from_a_checkpoint(tmp_path):
    loaded = loaded_from("vit_tiny_patch16_224", tmp_path)
    folder = tmp_path / "layout"
    folder.mkdir()
    write_bundle(folder, loaded, layout_document(parse_layout(LAYOUT)), with_weights=False)
    assert sorted(path.name for path in folder.iterdir()) == ["README.md", "config.json", "pruning.json"]
    with pytest.raises(InvalidInput, match=f"holds no weights: give checkpoint=FILE .* {loaded.weights_digest}"):
        pruning.load(folder)
    model, _ = pruning.load(folder, checkpoint=tmp_path / "weights.safetensors")
    assert torch.equal(model(images()), prune(loaded.model, LAYOUT)(images()))


def test_weights_other_than_those_measured_are_refused(copy):
    weights = safetensors.torch.load_file(copy / "model.safetensors")
    weights["head.bias"][0] += 1e-6
    safetensors.torch.save_file(weights, copy / "model.safetensors")
    with pytest.raises(InvalidInput, match=r"have the digest \w{16}, but the layout was measured with \w{16}"):
        pruning.load(copy)


@pytest.mark.parametrize(("key", "value"), [("version", 2), ("format", "another"), ("version", None)])
def test_another_version_is_refused(copy, key, value):
    changed(copy / "config.json", lambda config: config["token_pruning"].update({key: value}))
    with pytest.raises(InvalidInput, match=r"says format .* load it with the prunefront that wrote it"):
        pruning.load(copy)


def test_a_layout_changed_in_one_file_alone_is_refused(copy):
    changed(copy / "pruning.json", lambda document: document["layout"].update(keep_rate=[0.5, 0.5]))
    with pytest.raises(InvalidInput, match=r"pruning.json and config.json in .* hold different layouts"):
        pruning.load(copy)


@pytest.mark.parametrize("lacking", ["layout", "weights_digest"])
def test_an_incomplete_bundle_says_what_it_lacks(copy, lacking):
    changed(copy / "config.json", lambda config: config["token_pruning"].pop(lacking))
    with pytest.raises(InvalidInput, match=f"lacks {lacking}"):
        pruning.load(copy)


def test_what_is_no_bundle_is_refused_by_what_it_is(copy, tmp_path):
    with pytest.raises(InvalidInput, match=r"must be a folder with config\.json in it"):
        pruning.load(tmp_path / "nowhere")
    changed(copy / "config.json", lambda config: config.pop("token_pruning"))
    with pytest.raises(InvalidInput, match="it is a model that timm loads, but no bundle"):
        pruning.load(copy)
    assert not is_bundle(copy)


def test_a_bundle_without_its_layout_file_still_loads(bundle, copy):
    (copy / "pruning.json").unlink()
    assert open_bundle(copy).layout == open_bundle(bundle).layout
    assert is_bundle(copy)


def test_a_layout_that_does_not_fit_is_not_written(tmp_path):
    loaded = loaded_from("vit_tiny_patch16_224", tmp_path)
    deep = layout_document(parse_layout(LAYOUT | {"inside": [2, 9]}))
    with pytest.raises(InvalidInput, match="9"):
        write_bundle(tmp_path, loaded, deep)


def test_a_segmenter_comes_back_with_dtop_and_the_images_that_it_was_measured_on(tmp_path):
    loaded = load_model("shapes_seg_small")
    layout = parse_layout({"method": "dtop", "after": [4, 8], "p0": 0.9})
    (tmp_path / "best").mkdir()
    write_bundle(tmp_path / "best", loaded, layout_document(layout))
    model, transform = pruning.load(tmp_path / "best")
    source = find_masks("shapes", n_classes=11)
    scenes, _ = prepare_scenes(source, source.images, 3, loaded.preprocessing)
    images = []
    for image in source.images[:3]:
        with source.open(image) as opened:
            images.append(transform(opened.convert("RGB")))
    assert torch.equal(torch.stack(images), loaded.preprocessing.normalise(torch.from_numpy(scenes.pixels)))
    with pruned(loaded.model, layout) as at_work:
        expected = loaded.model(torch.stack(images))
        assert (at_work.early_exit.exits.n_kept < 144).any()
    assert torch.equal(model(torch.stack(images)), expected)
    dense = timm.create_model(f"local-dir:{tmp_path / 'best'}", pretrained=True).eval()
    assert torch.equal(dense(torch.stack(images)), loaded.model(torch.stack(images)))


def test_a_layout_for_other_models_is_not_written(tmp_path):
    document = layout_document(parse_layout({"method": "random_drop", "after": [4], "keep_rate": [0.5]}))
    with pytest.raises(UnsupportedModel, match=r"random_drop cannot prune shapes_seg_small"):
        write_bundle(tmp_path, load_model("shapes_seg_small"), document)
    assert list(tmp_path.iterdir()) == []


def test_a_layout_of_which_the_image_decides_comes_back_too(tmp_path):
    loaded = loaded_from("vit_tiny_patch16_224", tmp_path)
    layout = parse_layout({"method": "ats", "in_attention": [2, 3], "k": 10})
    (tmp_path / "best").mkdir()
    write_bundle(tmp_path / "best", loaded, layout_document(layout))
    assert torch.equal(pruning.load(tmp_path / "best").model(images()), prune(loaded.model, layout)(images()))


def test_a_bundle_loads_where_only_torch_timm_and_pydantic_are_installed(bundle, tmp_path):
    """In a Python without our packages' dependencies: no Ray, Optuna, SQLAlchemy, pandas or Plotly."""
    site = tmp_path / "site"
    site.mkdir()
    for name in _with_requirements("torch", "torchvision", "timm", "pydantic"):
        for file in metadata.files(name) or ():
            top = file.parts[0]
            if top not in ("..", "__pycache__") and not (site / top).exists():
                (site / top).symlink_to(Path(str(metadata.distribution(name).locate_file(top))))
    for package in ("spaces", "pruning"):
        (site / package).symlink_to(Path(pruning.__file__).parent.parent / package)
    program = (
        "import importlib.util, pruning, torch\n"
        f"model, transform = pruning.load({str(bundle)!r})\n"
        "absent = ['ray', 'optuna', 'sqlalchemy', 'pandas', 'plotly', 'objectives', 'storage', 'search']\n"
        "print(model(torch.zeros(2, 3, 32, 32)).shape, *[name for name in absent if importlib.util.find_spec(name)])"
    )
    ran = subprocess.run(
        [sys.executable, "-S", "-c", program], capture_output=True, text=True, check=False,
        env={"PYTHONPATH": str(site)}, cwd=tmp_path,
    )  # fmt: skip
    assert ran.stdout.strip() == "torch.Size([2, 5])", ran.stderr


def _with_requirements(*names: str) -> set[str]:
    """Name packages with all that they need, and that is installed, in turn."""
    found: set[str] = set()
    waiting = list(names)
    while waiting:
        name = re.match(r"[\w.-]+", waiting.pop()).group().lower().replace("_", "-")
        if name in found:
            continue
        try:
            requires = metadata.requires(name) or []
        except metadata.PackageNotFoundError:
            continue
        found.add(name)
        waiting += [each for each in requires if "extra ==" not in each]
    return found
