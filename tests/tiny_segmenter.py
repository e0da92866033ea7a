"""Small segmenters that tests make."""

from __future__ import annotations

import torch

from pruning.segmentation.segmenter import Segmenter

TINY_KINDS = {
    "fcn": {"head": "fcn"},
    "atm": {"head": "atm"},
    "fcn with class token and final norm": {"head": "fcn", "class_token": True, "final_norm": True},
    "atm with class token": {"head": "atm", "class_token": True},
}


def tiny_segmenter(*, seed: int = 0, **arguments) -> Segmenter:
    """Build a segmenter with 64 patches, 6 blocks, 5 classes and heads after blocks 2, 4 and 6."""
    torch.manual_seed(seed)
    defaults = {
        "head": "fcn",
        "after": (2, 4, 6),
        "head_channels": 12,
        "num_classes": 5,
        "head_layers": 2,
        "head_heads": 3,
        "img_size": 64,
        "patch_size": 8,
        "embed_dim": 24,
        "depth": 6,
        "num_heads": 3,
        "mlp_ratio": 2,
    }
    model = Segmenter(**(defaults | arguments))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
        for name, buffer in model.named_buffers():
            if name.endswith(("running_mean", "running_var")):
                buffer.add_(torch.rand_like(buffer))
    return model.eval()
