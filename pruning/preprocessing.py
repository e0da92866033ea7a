"""How an image becomes a model's input, exactly as timm does it for evaluation."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Annotated, Any, Literal

import timm.data
import torch
from PIL import Image
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from torch import Tensor, nn

from spaces.errors import InvalidInput, describe_problems

__all__ = ["Preprocessing"]

Triple = tuple[float, ...]


class Preprocessing(BaseModel):
    """timm's data configuration of one model.

    Attributes:
        input_size: channels, height and width, px.
        interpolation: of the resize.
        mean: subtracted, for each channel, of values in [0, 1].
        std: divided by.
        crop_pct: the share of the resized image that the centre crop keeps.
        crop_mode: ``center``, ``squash`` or ``border``.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    input_size: tuple[int, int, int]
    interpolation: Literal["nearest", "bilinear", "bicubic", "lanczos", "box", "hamming"]
    mean: Triple
    std: Triple
    crop_pct: Annotated[float, Field(gt=0, le=1)]
    crop_mode: Literal["center", "squash", "border"] = "center"

    @classmethod
    def of(
        cls, model: nn.Module, image_size: tuple[int, int], overrides: Mapping[str, Any] | None = None
    ) -> Preprocessing:
        """Read what a model declares, at the input size it was built for.

        Args:
            model: made by timm.
            image_size: height and width, px.
            overrides: values of this class over those declared.

        Raises:
            InvalidInput: an override is no such value.
        """
        declared = timm.data.resolve_model_data_config(model)
        declared["input_size"] = (declared["input_size"][0], *image_size)
        try:
            return cls.model_validate({**declared, **(overrides or {})})
        except ValidationError as error:
            raise InvalidInput(f"not a preprocessing: {describe_problems(error)}") from None

    def transform(self) -> Callable[[Image.Image], Tensor]:
        """Make the whole transform: a PIL image to (channel, height, width) float32, normalised."""
        transform: Callable[[Image.Image], Tensor] = timm.data.create_transform(**self.model_dump())
        return transform

    def pixel_transform(self) -> Callable[[Image.Image], Tensor]:
        """Make the part that depends on the image's size: a PIL image to (channel, height, width) uint8.

        Images wait in this form, a quarter of the memory; ``normalise`` does the rest, on the model's device.
        """
        transform: Callable[[Image.Image], Tensor] = timm.data.create_transform(
            **self.model_dump(), use_prefetcher=True
        )
        return transform

    def normalise(self, pixels: Tensor) -> Tensor:
        """Bring (batch, channel, height, width) uint8 to what the model takes, in float32."""
        mean = torch.tensor(self.mean, device=pixels.device).view(-1, 1, 1)
        std = torch.tensor(self.std, device=pixels.device).view(-1, 1, 1)
        return (pixels.float() / 255 - mean) / std
