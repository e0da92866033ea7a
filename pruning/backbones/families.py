"""The families of models that can be pruned."""

from __future__ import annotations

from torch import nn

from pruning.backbones import lvvit, tnt, vit
from pruning.backbones.family import Family
from pruning.segmentation import family as segmenter
from spaces import UnsupportedModel

__all__ = ["FAMILIES", "family_of"]

FAMILIES = (vit.FAMILY, lvvit.FAMILY, tnt.FAMILY, segmenter.FAMILY)


def family_of(model: nn.Module, name: str) -> Family:
    """Look up the family of a model.

    Raises:
        UnsupportedModel: no family knows the model; the message lists those there are.
    """
    for family in FAMILIES:
        if family.is_mine(model):
            return family
    supported = ", ".join(family.description for family in FAMILIES)
    raise UnsupportedModel(f"{name} ({type(model).__name__}) cannot be pruned; supported is {supported}")
