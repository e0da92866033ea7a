"""The model card of a bundle, written from its layout's document alone."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from spaces import parse_layout

__all__ = ["model_card"]

_LABELS = {
    "top1_pct": "top-1 (%)",
    "agreement_pct": "agreement with the dense model (%)",
    "miou_pct": "mIoU (%)",
    "pixel_accuracy_pct": "pixel accuracy (%)",
}
_IMAGES = {"confirmed": "unseen by the search", "searched": "searched on"}
_FILES = {
    "onnx": "`model.onnx`: the pruned model for onnxruntime, with the layout and the preprocessing in its metadata.",
    "pt2": "`model.pt2`: the pruned model as `torch.export` writes it. Reading one can run code: read only your own.",
}


def model_card(document: Mapping[str, Any], *, with_weights: bool = True) -> str:
    """Write a bundle's README.

    Args:
        document: the layout with its numbers; whatever it does not say is left out.
        with_weights: whether the weights lie in the bundle.
    """
    about = [
        _head(document),
        _numbers(document),
        _latency(document),
        _use(document, with_weights=with_weights),
        _exports(document.get("exports", {})),
        _origin(document),
    ]
    return "\n\n".join(part for part in about if part) + "\n"


def _head(document: Mapping[str, Any]) -> str:
    model, layout = document.get("model", {}), document["layout"]
    task = "image-segmentation" if _segments(document) else "image-classification"
    lines = ["---", "library_name: timm", "tags:", f"- {task}", "- token-pruning", "---", ""]
    lines += [f"# {model.get('name', 'A vision transformer')}, pruned by {layout['method']}", ""]
    cost = ""
    if "gflops" in document and "dense_gflops" in document:
        share = document["gflops"] / document["dense_gflops"]
        each = "an image on average" if "gflops_interval" in document else "an image"
        cost = f" It costs {document['gflops']:.4g} GFLOPs {each}, {share:.0%} of the dense model's (one multiply-add"
        cost += " counts one)."
    lines.append(f"Tokens are pruned inside the model; no weight was changed.{cost}")
    return "\n".join(lines)


def _numbers(document: Mapping[str, Any]) -> str:
    rows = []
    for kind, images in _IMAGES.items():
        for who, of_both in (("pruned", document.get("measured", {})), ("dense", document.get("dense", {}))):
            measured = of_both.get(kind)
            if measured is not None:
                rows += list(_rows(who, images, measured))
    if not rows:
        return ""
    head = ["| model | metric | value [95 % interval] | GFLOPs | images | list |", "|---|---|---|---|---|---|"]
    note = (
        "\n\nThe layout was chosen among many on the images searched on, so its number there is partly luck; the "
        "images unseen by the search are free of that."
    )
    return "\n".join(head + rows) + note


def _rows(who: str, images: str, measured: Mapping[str, Any]) -> Iterator[str]:
    for name, label in _LABELS.items():
        if name in measured and not (who == "dense" and name == "agreement_pct"):
            low, high = measured.get(f"{name}_interval", (None, None))
            interval = "" if low is None else f" [{low:.1f}, {high:.1f}]"
            yield (
                f"| {who} | {label} | {measured[name]:.1f}{interval} | {measured['gflops']:.4g} | "
                f"{measured['n_images']} {images} | `{measured['image_list_hash']}` |"
            )


def _latency(document: Mapping[str, Any]) -> str:
    """Say how long one image took, of layout and dense model timed at about the same time, the later time if twice."""
    machine = document.get("timed_on")
    for kind in _IMAGES:
        pruned, dense = (document.get(who, {}).get(kind, {}) for who in ("measured", "dense"))
        if machine and "latency_ms" in pruned and "latency_ms" in dense:
            return (
                f"One image takes {_milliseconds(pruned)}, and the dense model {_milliseconds(dense)}: the median of a "
                f"forward pass with its 95 % interval, on {machine['processor']}, CPU threads: {machine['threads']}, "
                f"{machine['runtime']}. `prunefront bench` times it elsewhere."
            )
    return ""


def _milliseconds(measured: Mapping[str, Any]) -> str:
    low, high = measured.get("latency_ms_interval", (None, None))
    return f"{measured['latency_ms']:.4g} ms" + ("" if low is None else f" [{low:.4g}, {high:.4g}]")


def _use(document: Mapping[str, Any], *, with_weights: bool) -> str:
    digest = document.get("model", {}).get("weights_digest")
    weights = "" if with_weights else ', checkpoint="weights.safetensors"'
    lines = ["```python", "import pruning", "", f'model, transform = pruning.load("."{weights})']
    found = "scores" if _segments(document) else "logits"
    lines += [f"{found} = model(transform(image).unsqueeze(0))", "```", ""]
    if _segments(document):
        lines += ["The scores are (1, class, height, width), at the size of the model's input.", ""]
    lines.append("`import pruning` needs prunefront's code, torch and timm, and neither Ray nor a database.")
    if with_weights:
        lines.append('The dense model, with timm: `timm.create_model("local-dir:.", pretrained=True)`.')
    else:
        lines.append(f"The weights are not here; those that fit have the digest `{digest}`.")
    return "\n".join(lines)


def _exports(exports: Mapping[str, Mapping[str, Any]]) -> str:
    if not exports:
        return ""
    lines = ["| file | images, in batches of | greatest difference of a logit | same class |", "|---|---|---|---|"]
    for parity in exports.values():
        batches = " and ".join(str(size) for size in parity["batch_sizes"])
        lines.append(
            f"| `{parity['file']}` | {parity['n_images']}, {batches} | {parity['max_difference']:.2g} | "
            f"{parity['agreement_pct']:.1f} % |"
        )
    return "\n".join([*(f"- {_FILES[name]}" for name in exports), "", *lines])


def _origin(document: Mapping[str, Any]) -> str:
    study = document.get("study")
    if not study:
        return ""
    versions = ", ".join(f"{name} {version}" for name, version in study.get("versions", {}).items())
    return (
        f"Found by prunefront, study `{study['name']}`, trial {study['trial']}, sampler {study['sampler']}, seed "
        f"{study['seed']}, with {versions}. Everything above is in `pruning.json` too."
    )


def _segments(document: Mapping[str, Any]) -> bool:
    return parse_layout(document).predicts_every_patch
