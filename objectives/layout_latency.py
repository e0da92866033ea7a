"""How long a layout takes on this machine: one image at a time, and in batches."""

from __future__ import annotations

from contextlib import nullcontext

import torch
from torch import Tensor

from objectives.evaluators import Measurable
from objectives.latency import time_alone
from objectives.metrics import BATCH_LATENCY, LATENCY
from objectives.runtimes import eager
from objectives.statistics import Estimate
from pruning import pruned
from pruning.models import LoadedModel
from spaces import PruningConfig

__all__ = ["LayoutTimer"]

_N_IMAGES = 64
_SECONDS, _LEAST_ROUNDS = 0.5, 25
_BATCH_SECONDS = 0.25


class LayoutTimer:
    """A model and some of its images, on which one layout after another is timed.

    Timed is the forward pass alone, in torch as it is (eager) and in float32, since that is how a bundle runs, whatever
    the search measures in; with torch's number of threads at that time. Images are used in turn, since with some
    methods they decide how many tokens stay.
    """

    def __init__(self, loaded: LoadedModel, images: Measurable, *, device: str) -> None:
        """Take the model, and the first of the images that were prepared for it."""
        self._model, self._device = loaded.model, device
        self._pixels, self._preprocessing = images.pixels, loaded.preprocessing
        first = self._inputs(min(_N_IMAGES, len(self._pixels)))
        self._one_by_one = [first[number : number + 1] for number in range(len(first))]

    def time(self, config: PruningConfig | None, batch_size: int) -> dict[str, Estimate]:
        """Time a layout, or the dense model where it is ``None``.

        Args:
            config: the layout.
            batch_size: of the second of the two values.

        Returns:
            The medians with their intervals, by the names that they have in a measurement: of one image, and of a batch
            where there are as many images.

        Raises:
            InvalidInput: the layout does not fit the model.
        """
        self._model.to(self._device).eval()
        with nullcontext() if config is None else pruned(self._model, config):
            run = eager(self._model)
            of_one = time_alone(run, self._one_by_one, seconds=_SECONDS, least_rounds=_LEAST_ROUNDS)
            found: dict[str, Estimate] = {LATENCY: of_one}
            if len(self._pixels) >= batch_size:
                found[BATCH_LATENCY] = time_alone(run, [self._inputs(batch_size)], seconds=_BATCH_SECONDS)
        return found

    def _inputs(self, n_images: int) -> Tensor:
        # A copy: the array may lie in memory that others share and none may write.
        return self._preprocessing.normalise(torch.tensor(self._pixels[:n_images], device=self._device))
