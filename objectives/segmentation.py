"""Measure a segmenter, dense or under a layout: mIoU, pixel accuracy, and what each image cost."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import nullcontext
from copy import copy
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from objectives.confusion import Confusions
from objectives.cost import count_macs
from objectives.evaluator import DenseReference
from objectives.image_costs import MeanCost, mean_cost, require_counted
from objectives.metrics import GFLOPS, Measurement, Precision
from objectives.scenes import PreparedScenes, Scene
from objectives.statistics import Estimate
from objectives.visits import Visits
from pruning.apply import Pruning, pruned, read_architecture
from pruning.preprocessing import Preprocessing
from pruning.segmentation.inference import combined, resized_scores
from pruning.segmentation.segmenter import Segmenter
from spaces import Cost, PruningConfig, UnsupportedModel, dense_cost

__all__ = ["SegmentationEvaluator"]


class SegmentationEvaluator:
    """A segmenter and its images, ready to measure one layout after another.

    Attributes:
        images: what is measured on.
        batch_size: pieces (whole images, or windows of them) of one forward pass.
        precision: of matrix products.
    """

    kept_depths: tuple[int, ...] = ()

    def __init__(
        self,
        model: nn.Module,
        name: str,
        images: PreparedScenes,
        preprocessing: Preprocessing,
        *,
        device: str = "cpu",
        batch_size: int = 64,
        precision: Precision = "float32",
    ) -> None:
        """Take the model and the images; the model is moved to the device.

        Raises:
            UnsupportedModel: it is no segmenter.
        """
        if not isinstance(model, Segmenter):
            raise UnsupportedModel(f"{name} is no segmenter: it names a class for each image, not for each pixel")
        self.model = model.to(device).eval()
        self.images = images
        self.batch_size = batch_size
        self.precision = precision
        self._preprocessing = preprocessing
        self._device = torch.device(device)
        self._architecture = read_architecture(model, name)

    def measure_dense(self) -> tuple[Measurement, DenseReference]:
        """Measure the dense model, whose last head alone runs; layouts are compared with the masks, not with it."""
        return self._measured(None), DenseReference(np.empty((0, 0), dtype=np.float32))

    def compare_with(self, reference: DenseReference) -> None:
        """Take the dense model's outputs, of which nothing is made here."""

    def measure(
        self,
        config: PruningConfig,
        stop: Callable[[Mapping[str, Any]], bool] | None = None,
        visits: Visits | None = None,
    ) -> Measurement:
        """Measure one layout on all images.

        Args:
            config: the layout.
            stop: must be ``None``: no single image says whether a layout loses in mIoU.
            visits: likewise.

        Raises:
            InvalidInput: the layout does not fit the model.
            CostsDisagree: what ran is not what the closed form says.
        """
        if stop is not None or visits is not None:
            raise ValueError("mIoU has no outcome image by image, so that a race over it cannot be decided")
        return self._measured(config)

    def with_smaller_batches(self) -> SegmentationEvaluator:
        """Make an evaluator of the same images in batches of half the size."""
        if self._device.type == "cuda":
            torch.cuda.empty_cache()
        smaller = copy(self)
        smaller.batch_size = max(1, self.batch_size // 2)
        return smaller

    def time_image(self, config: PruningConfig) -> float:
        """Give the seconds that a layout takes for a piece of the first batch."""
        started = time.perf_counter()
        with pruned(self.model, config):
            n_pieces = len(self._scores(slice(0, self.batch_size)))
        return (time.perf_counter() - started) / n_pieces

    def confusions(self, config: PruningConfig | None) -> tuple[Confusions, list[NDArray[np.int64]]]:
        """Count how pixels are named, image by image.

        Returns:
            The counts; and for each batch the (piece, graded stage) tokens that went on.
        """
        n_kept: list[NDArray[np.int64]] = []
        with nullcontext() if config is None else pruned(self.model, config) as pruning:
            parts = []
            for scene, scores in self._scenes(pruning, n_kept):
                found = self._at_mask_size(scene, scores).argmax(dim=0).cpu().numpy()
                parts.append(Confusions.of([(scene.classes, found)], self._architecture.n_classes))
        return Confusions.joined(parts), n_kept

    def _measured(self, config: PruningConfig | None) -> Measurement:
        started = time.perf_counter()
        confusions, n_kept = self.confusions(config)
        seconds = time.perf_counter() - started
        self._require_counted(config)
        cost = self._cost(config, n_kept)
        values = {"miou_pct": confusions.miou_pct(), "pixel_accuracy_pct": confusions.pixel_accuracy_pct()}
        for name, iou in zip(self.images.class_names, confusions.iou_pct(), strict=True):
            if not np.isnan(iou):
                values[f"iou_pct: {name}"] = Estimate(float(iou))
        if cost.gflops is not None:
            values[GFLOPS] = cost.gflops
        return Measurement(
            n_images=len(self.images),
            image_list_hash=self.images.list_hash,
            values=values,
            outcomes={"miou_pct": confusions.to_bytes()},
            macs=cost.macs,
            tokens_per_block=cost.tokens_per_block,
            seconds=seconds,
            precision=self.precision,
            n_kept=cost.n_kept,
            batch_size=self.batch_size,
        )

    def _scenes(self, pruning: Pruning | None, n_kept: list[NDArray[np.int64]]) -> Iterator[tuple[Scene, list[Tensor]]]:
        """Run over all pieces, and give each image with the (n_patch, class) scores of its own."""
        waiting: list[Tensor] = []
        scenes = iter(self.images.scenes)
        scene = next(scenes)
        for first in range(0, len(self.images.pixels), self.batch_size):
            waiting += self._scores(slice(first, first + self.batch_size)).unbind()
            if pruning is not None and pruning.early_exit is not None and pruning.early_exit.exits is not None:
                n_kept.append(pruning.early_exit.exits.n_kept.cpu().numpy())
            while len(waiting) >= len(scene.pieces):
                yield scene, waiting[: len(scene.pieces)]
                waiting = waiting[len(scene.pieces) :]
                following = next(scenes, None)
                if following is None:
                    return
                scene = following

    @torch.inference_mode()
    def _scores(self, place: slice) -> Tensor:
        pixels = torch.tensor(self.images.pixels[place], device=self._device)
        dtype = getattr(torch, self.precision)
        with torch.autocast(self._device.type, dtype=dtype, enabled=self.precision != "float32"):
            return self.model.forward_scores(self._preprocessing.normalise(pixels)).float()

    @torch.inference_mode()
    def _at_mask_size(self, scene: Scene, scores: list[Tensor]) -> Tensor:
        pieces = self.model.upsampled(torch.stack(scores))
        whole = pieces[0] if self.images.windows is None else combined(self.images.windows, list(pieces), scene.size)
        height, width = scene.classes.shape
        return whole if whole.shape[1:] == (height, width) else resized_scores(whole, (height, width))

    def _cost(self, config: PruningConfig | None, n_kept: list[NDArray[np.int64]]) -> MeanCost:
        """Work out what a piece cost on average: images count alike, however many windows each is cut into."""
        if config is None or not n_kept or n_kept[0].shape[1] == 0:
            cost = dense_cost(self._architecture) if config is None else config.cost(self._architecture)
            return MeanCost(cost.macs, cost.tokens_per_block)
        return mean_cost(config, self._architecture, np.concatenate(n_kept), self._by_image)

    def _by_image(self, of_pieces: NDArray[np.float64]) -> NDArray[np.float64]:
        """Average what was measured of pieces over those of each image."""
        return np.stack(
            [of_pieces[scene.pieces.start : scene.pieces.stop].mean(axis=0) for scene in self.images.scenes]
        )

    def _require_counted(self, config: PruningConfig | None) -> None:
        """Count the operations of one piece, and refuse a result whose cost is not what the closed form says."""
        piece = self._preprocessing.normalise(torch.tensor(self.images.pixels[:1], device=self._device))
        with nullcontext() if config is None else pruned(self.model, config) as pruning:
            counted = count_macs(self.model, piece, self.model.forward_scores)
            expected = self._closed_form(config, pruning).macs
        require_counted(counted, expected, config)

    def _closed_form(self, config: PruningConfig | None, pruning: Pruning | None) -> Cost:
        """Give the cost of the one image that ran last."""
        if config is None or pruning is None or pruning.early_exit is None or pruning.early_exit.exits is None:
            return dense_cost(self._architecture)
        return config.cost_of_image(self._architecture, pruning.early_exit.exits.n_kept[0].tolist())
