"""Layouts that prune after a few chosen blocks, and what their settings look like in a space."""

from __future__ import annotations

from itertools import pairwise
from typing import Annotated, Any, TypeVar

from pydantic import BeforeValidator, Field, field_validator, model_validator

from spaces.architecture import Architecture
from spaces.base import PruningConfig
from spaces.domains import FloatRange, IntRange
from spaces.errors import InvalidInput

__all__ = ["FloatSetting", "IntSetting", "LayeredConfig", "per_layer"]


def _whole_range_as_float(setting: Any) -> Any:
    if isinstance(setting, dict) and setting.get("kind") == "int":
        return {**setting, "kind": "float"}
    if isinstance(setting, IntRange):
        return FloatRange(low=setting.low, high=setting.high, log=setting.log)
    return setting


T = TypeVar("T")
KeepRate = Annotated[float, Field(gt=0, le=1)]
IntSetting = IntRange | int | tuple[int, ...]
FloatSetting = Annotated[FloatRange | float | tuple[float, ...], BeforeValidator(_whole_range_as_float)]


def per_layer(setting: T | tuple[T, ...], index: int) -> T:
    """Give layer ``index`` its own value of a setting that all layers may share.

    >>> per_layer(10, 2), per_layer((10, 5, 0), 2)
    (10, 0)
    """
    return setting[index] if isinstance(setting, tuple) else setting


class LayeredConfig(PruningConfig):
    """A layout with a pruning layer after each block of ``after``.

    Attributes:
        after: blocks executed before each pruning layer, increasing, from 1 to the model's depth.
        keep_rate: patch tokens kept of those that enter, for each pruning layer; above 0, at most 1.
        min_tokens: patch tokens that always remain.
    """

    after: tuple[Annotated[int, Field(ge=1)], ...]
    keep_rate: tuple[KeepRate, ...]
    min_tokens: Annotated[int, Field(ge=1)] = 1

    @field_validator("after")
    @classmethod
    def _increasing(cls, after: tuple[int, ...]) -> tuple[int, ...]:
        if any(earlier >= later for earlier, later in pairwise(after)):
            raise ValueError(f"pruning layers must be strictly increasing, got {list(after)}")
        return after

    @model_validator(mode="after")
    def _one_value_a_layer(self) -> LayeredConfig:
        for name in type(self).model_fields:
            value = getattr(self, name)
            if isinstance(value, tuple) and len(value) != len(self.after):
                raise ValueError(
                    f"{name} must give one value for each of the {len(self.after)} pruning layers, got {list(value)}"
                )
        return self

    def check_layers(self, architecture: Architecture) -> None:
        """Refuse to prune after a block which the model does not have.

        Raises:
            InvalidInput: naming the layer and the model's depth.
        """
        if self.after and self.after[-1] > architecture.depth:
            raise InvalidInput(
                f"the layout prunes after block {self.after[-1]}, but {architecture.name} has only "
                f"{architecture.depth} blocks: use layers from 1 to {architecture.depth - 1}"
            )
