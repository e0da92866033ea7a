"""Prune a model: for the length of a ``with``, or for good."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from pruning.ats import ats_stages
from pruning.attention_rank import attention_rank_stages
from pruning.backbones.block import StagedBlock
from pruning.backbones.families import family_of
from pruning.bat import bat_stages
from pruning.cls_topk import cls_topk_stages
from pruning.dtop import EarlyExit
from pruning.passage import Passage
from pruning.pooling import FillWithMean
from pruning.random_drop import random_drop_stages
from pruning.reduction import KeepSome, Reduction
from pruning.segmentation.segmenter import Segmenter
from pruning.stage import PruningStage
from pruning.tome import tome_stages
from pruning.zero_tprune import zero_tprune_stages
from spaces import Architecture, DToP, InvalidInput, PruningConfig, UnsupportedModel, parse_layout, read_layout

__all__ = ["Layout", "Pruning", "prune", "pruned", "read_architecture"]

Layout = PruningConfig | Mapping[str, Any] | str | Path
_STAGES: Mapping[str, Callable[..., list[PruningStage]]] = {
    "zero_tprune": zero_tprune_stages,
    "cls_topk": cls_topk_stages,
    "attention_rank": attention_rank_stages,
    "tome": tome_stages,
    "random_drop": random_drop_stages,
    "bat": bat_stages,
    "ats": ats_stages,
}


def read_architecture(model: nn.Module, name: str | None = None) -> Architecture:
    """Read the dimensions of a model that can be pruned.

    Raises:
        UnsupportedModel: no supported family knows the model (the message lists those there are), or it does
            something with its tokens that the closed form does not count.
    """
    name = name or _declared_name(model)
    family = family_of(model, name)
    for problem in family.problems(model):
        raise UnsupportedModel(f"{name} cannot be pruned: {problem}; supported is {family.description}")
    return family.describe(model, name)


class Pruning:
    """What a pruned model is doing.

    Attributes:
        config: the layout.
        architecture: the model's dimensions.
        image_ids: names the images of the next batch, (batch,) int64, for methods that draw at random. ``None``
            counts them from 0 in each batch.
        n_dense_blocks: blocks that run as in the dense model, before the first with a pruning layer behind it.
        trace: whether to keep ``owners``.
        n_kept: for the block of each pruning layer of which the image decides how many patches stay, and the last
            batch, (batch,) int64: how many did.
        owners: with ``trace``, for the block of each pruning layer and the last batch, (batch, n_patch): which token
            behind that layer holds each patch of the model's grid; -1 for none, since it was dropped.
        early_exit: what runs a segmenter by ``dtop``, and knows what became of its last batch's tokens.
    """

    def __init__(self, config: PruningConfig, architecture: Architecture, *, trace: bool = False) -> None:
        self.config = config
        self.architecture = architecture
        self.image_ids: Tensor | None = None
        self.n_dense_blocks = architecture.depth
        self.trace = trace
        self.n_kept: dict[int, Tensor] = {}
        self.owners: dict[int, Tensor] = {}
        self.early_exit: EarlyExit | None = None
        self._passage: Passage | None = None
        self._n_out: dict[int, int] = {}

    @property
    def tokens_per_block(self) -> tuple[int, ...]:
        """All tokens that entered each block in the last batch, filling included, as they were counted on their way."""
        n_patch, counts = self.architecture.n_patch, []
        for number in range(1, self.architecture.depth + 1):
            counts.append(self.architecture.n_prefix + n_patch)
            n_patch = self._n_out.get(number, n_patch)
        return tuple(counts)

    def passage(self, number: int, x: Tensor) -> Passage:
        """Give the way of the batch of (batch, n_token, dim) tokens that enters block ``number``.

        The first block that is not as in the dense model begins a new one.
        """
        if number == self.n_dense_blocks + 1:
            self._passage = Passage(self._ids_of(x), self.architecture.n_prefix)
        if self._passage is None:
            raise RuntimeError(f"block {number} ran before block {self.n_dense_blocks + 1} did")
        return self._passage

    @property
    def sizes(self) -> Tensor | None:
        """The patches that each patch token of the last batch stands for; see ``Passage``."""
        return None if self._passage is None else self._passage.sizes

    def note(self, stage: PruningStage, reduction: Reduction) -> None:
        """Take down what a pruning layer did."""
        self._n_out[stage.block] = reduction.n_out
        if isinstance(reduction, KeepSome):
            self.n_kept[stage.block] = reduction.counts
        if self.trace:
            owners = reduction.owners()
            earlier = [block for block in self.owners if block < stage.block]
            if earlier:
                before = self.owners[max(earlier)]
                owners = torch.where(before < 0, before, owners.gather(1, before.clamp(min=0)))
            self.owners[stage.block] = owners

    def _ids_of(self, x: Tensor) -> Tensor:
        if self.image_ids is None:
            return torch.arange(x.shape[0], device=x.device)
        if self.image_ids.shape != x.shape[:1]:
            raise InvalidInput(f"image_ids must name {x.shape[0]} images, got shape {tuple(self.image_ids.shape)}")
        return self.image_ids.to(x.device)


@contextmanager
def pruned(model: nn.Module, config: Layout, *, trace: bool = False) -> Iterator[Pruning]:
    """Prune a model for the length of a ``with``; afterwards it is what it was, bit for bit.

    Args:
        model: a vision transformer, see docs/models.md.
        config: a layout, its plain values, or the path of a layout file.
        trace: keep which token holds each patch, in ``Pruning.owners``.

    Raises:
        UnsupportedModel: the model cannot be pruned, or not by this method.
        InvalidInput: the layout does not fit the model, or the model is pruned already.
    """
    layout = _read(config)
    architecture = read_architecture(model)
    pruning = Pruning(layout, architecture, trace=trace)
    replaced, hook = _put_stages(model, pruning)
    try:
        yield pruning
    finally:
        _put_back(model, replaced)
        if hook is not None:
            hook.remove()


def prune(model: nn.Module, config: Layout) -> nn.Module:
    """Prune a model for good, in place, and return it. No weight changes; the state dict keeps its keys.

    >>> import timm
    >>> model = timm.create_model("vit_tiny_patch16_224").eval()
    >>> small = prune(model, {"method": "random_drop", "after": [4], "keep_rate": [0.5]})
    >>> small(torch.zeros(2, 3, 224, 224)).shape
    torch.Size([2, 1000])

    Args:
        model: a vision transformer, see docs/models.md.
        config: a layout, its plain values, or the path of a layout file (JSON or YAML).

    Raises:
        UnsupportedModel: the model cannot be pruned, or not by this method.
        InvalidInput: the layout does not fit the model, or the model is pruned already.
    """
    _put_stages(model, Pruning(_read(config), read_architecture(model)))
    return model


def _put_stages(model: Any, pruning: Pruning) -> tuple[dict[int, nn.Module], RemovableHandle | None]:
    """Replace the blocks that get a pruning layer.

    Returns:
        The blocks that were there, and the hook on the final norm where one is needed.
    """
    config, architecture = pruning.config, pruning.architecture
    config.require_task(architecture)
    if isinstance(config, DToP):
        _put_early_exit(model, config, pruning)
        return {}, None
    if any(isinstance(block, StagedBlock) for block in model.blocks):
        raise _pruned_already(architecture)
    stages = {stage.block: stage for stage in _STAGES[config.method](config, architecture)}
    first = min(stages, default=architecture.depth + 1)
    if stages and max(stages) == architecture.depth and stages[architecture.depth].where == "after":
        warnings.warn(
            f"pruning after block {architecture.depth}, the last, saves nothing but the final norm", stacklevel=3
        )
    follows = any(stage.counts_sizes for stage in stages.values())
    numbers = range(first, architecture.depth + 1) if follows else stages
    family = family_of(model, architecture.name)
    replaced: dict[int, nn.Module] = {}
    for number in numbers:
        replaced[number - 1] = block = model.blocks[number - 1]
        model.blocks[number - 1] = family.pruned_block(block, number, stages.get(number), pruning)
    pruning.n_dense_blocks = first - 1
    reads_patches = architecture.pool == "mean" or architecture.classifies_patches
    if stages and config.cost_is_measured and reads_patches:
        return replaced, model.norm.register_forward_hook(FillWithMean(pruning))
    return replaced, None


def _put_early_exit(model: Any, config: DToP, pruning: Pruning) -> None:
    config.require_heads(pruning.architecture)
    if model.early_exit is not None:
        raise _pruned_already(pruning.architecture)
    model.early_exit = pruning.early_exit = EarlyExit(config)


def _put_back(model: Any, replaced: dict[int, nn.Module]) -> None:
    if isinstance(model, Segmenter):
        model.early_exit = None
    for index, block in replaced.items():
        block.training = model.blocks[index].training
        model.blocks[index] = block


def _pruned_already(architecture: Architecture) -> InvalidInput:
    return InvalidInput(f"{architecture.name} is pruned already: leave its pruned(), or load the model anew")


def _read(config: Layout) -> PruningConfig:
    if isinstance(config, PruningConfig):
        return config
    return parse_layout(config) if isinstance(config, Mapping) else read_layout(config)


def _declared_name(model: nn.Module) -> str:
    declared = getattr(model, "pretrained_cfg", None) or {}
    return str(declared.get("architecture") or type(model).__name__)
