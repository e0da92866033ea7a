"""Measure a layout: run the pruned model over the images and compare it with the labels and the dense model."""

from __future__ import annotations

import time
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from objectives.cost import count_macs
from objectives.images import PreparedImages
from objectives.metrics import Measurement
from objectives.prefix import DensePrefix, prefix_bytes
from objectives.statistics import Estimate, pack, proportion_pct
from pruning.apply import Pruning, pruned, read_architecture
from pruning.backbones.vit import classify, embed, run_blocks
from pruning.models import LoadedModel
from pruning.preprocessing import Preprocessing
from spaces import PrunefrontError, PruningConfig, dense_cost

__all__ = ["CostsDisagree", "DenseReference", "Evaluator", "NonFiniteOutputs"]


class NonFiniteOutputs(PrunefrontError):
    """A model gave outputs that are not numbers, which no accuracy describes."""


class CostsDisagree(PrunefrontError):
    """The closed form and the counted operations differ: one of them is wrong, so the result is worth nothing."""


@dataclass(frozen=True)
class DenseReference:
    """What the dense model said of the images: (n_images, n_classes) logits, float32."""

    logits: NDArray[np.float32]


class Evaluator:
    """A model and its images, ready to measure one layout after another.

    Attributes:
        images: what is measured on.
        batch_size: images of one forward pass; part of what decides the last float bits.
    """

    def __init__(
        self,
        model: nn.Module,
        name: str,
        images: PreparedImages,
        preprocessing: Preprocessing,
        *,
        device: str = "cpu",
        batch_size: int = 64,
        cache_bytes: int = 0,
    ) -> None:
        """Take the model and the images.

        Args:
            model: is moved to the device.
            name: what to call it.
            images: prepared for this model.
            preprocessing: normalises them.
            device: where to run.
            batch_size: see above.
            cache_bytes: memory for the dense model's tokens after each block, from which layouts start.
        """
        self.model = model.to(device).eval()
        self.images = images
        self.batch_size = batch_size
        self._preprocessing = preprocessing
        self._device = torch.device(device)
        self._architecture = read_architecture(model, name)
        self._reference: Tensor | None = None
        self._prefix = DensePrefix(prefix_bytes(self._architecture, len(images)), cache_bytes)

    @classmethod
    def of(
        cls, loaded: LoadedModel, images: PreparedImages, *, device: str, batch_size: int, cache_bytes: int = 0
    ) -> Evaluator:
        """Make the evaluator of a loaded model, on images prepared for it."""
        return cls(
            loaded.model,
            loaded.name,
            images,
            loaded.preprocessing,
            device=device,
            batch_size=batch_size,
            cache_bytes=cache_bytes,
        )

    @property
    def kept_depths(self) -> tuple[int, ...]:
        """The numbers of executed blocks after which the dense model's tokens are kept."""
        return self._prefix.depths

    def measure_dense(self) -> tuple[Measurement, DenseReference]:
        """Measure the dense model, and remember what it said for the layouts to come.

        Raises:
            NonFiniteOutputs: some of its outputs are NaN or infinite.
        """
        logits, tokens, seconds = self._run(None)
        reference = DenseReference(logits.numpy())
        self.compare_with(reference)
        return self._measurement(logits, self._counted(None), tokens, seconds), reference

    def compare_with(self, reference: DenseReference) -> None:
        """Take the dense model's outputs from elsewhere, instead of computing them again."""
        self._reference = torch.tensor(reference.logits)

    def measure(self, config: PruningConfig) -> Measurement:
        """Measure one layout on all images.

        Raises:
            InvalidInput: the layout does not fit the model.
            NonFiniteOutputs: some outputs are NaN or infinite.
            CostsDisagree: the operations counted are not those of the closed form.
        """
        macs = self._counted(config)
        expected = config.cost(self._architecture).macs
        if macs != expected:
            raise CostsDisagree(
                f"the closed form gives {expected} multiply-adds, but {macs} were counted for {config!r}"
            )
        logits, tokens, seconds = self._run(config)
        return self._measurement(logits, macs, tokens, seconds)

    def _counted(self, config: PruningConfig | None) -> int:
        with self._pruned(config):
            return count_macs(self.model, self._inputs(slice(0, 1)))

    def _run(self, config: PruningConfig | None) -> tuple[Tensor, tuple[int, ...], float]:
        """Run over all images.

        Returns:
            Logits, (n_images, n_classes) float32 on the CPU; the tokens that entered each block; and the seconds
            it took.
        """
        chunks = []
        started = time.perf_counter()
        with self._pruned(config) as pruning, torch.inference_mode():
            n_dense = 0 if pruning is None else pruning.n_dense_blocks
            self._prefix.plan_for(n_dense)
            for first in range(0, len(self.images), self.batch_size):
                place = slice(first, first + self.batch_size)
                if pruning is not None:
                    pruning.image_ids = torch.tensor(self.images.numbers[place])
                tokens = self._prefix.tokens(first, n_dense, partial(self._embedded, place), self._blocks)
                tokens = self._blocks(tokens, n_dense, self._architecture.depth)
                chunks.append(self._outputs(classify(self.model, tokens)))
            counts = dense_cost(self._architecture).tokens_per_block if pruning is None else pruning.tokens_per_block
        return torch.cat(chunks), counts, time.perf_counter() - started

    def _embedded(self, place: slice) -> Tensor:
        return embed(self.model, self._inputs(place))

    def _blocks(self, tokens: Tensor, first: int, last: int) -> Tensor:
        return run_blocks(self.model, tokens, first, last)

    def _pruned(self, config: PruningConfig | None) -> AbstractContextManager[Pruning | None]:
        return nullcontext() if config is None else pruned(self.model, config)

    def _inputs(self, place: slice) -> Tensor:
        # A copy: the array may lie in memory that workers share and none may write.
        pixels = torch.tensor(self.images.pixels[place], device=self._device)
        return self._preprocessing.normalise(pixels)

    def _outputs(self, logits: Tensor) -> Tensor:
        if not torch.isfinite(logits).all():
            n_bad = int((~torch.isfinite(logits)).any(dim=1).sum())
            raise NonFiniteOutputs(f"the model's outputs are NaN or infinite for {n_bad} of {len(logits)} images")
        return logits.float().cpu()

    def _measurement(self, logits: Tensor, macs: int, tokens: tuple[int, ...], seconds: float) -> Measurement:
        chosen = logits.argmax(dim=1).numpy()
        hits: dict[str, NDArray[np.bool_]] = {}
        if self.images.has_labels:
            hits["top1_pct"] = chosen == self.images.labels
        if self._reference is None:
            raise RuntimeError("the dense model must be measured, or its outputs given, before any layout")
        hits["agreement_pct"] = chosen == self._reference.argmax(dim=1).numpy()
        values = {name: proportion_pct(int(hit.sum()), hit.size) for name, hit in hits.items()}
        divergence = functional.kl_div(
            logits.double().log_softmax(dim=1),
            self._reference.double().log_softmax(dim=1),
            reduction="none",
            log_target=True,
        ).sum(dim=1)
        values["kl_nats"] = Estimate(float(divergence.mean()))
        return Measurement(
            n_images=len(self.images),
            image_list_hash=self.images.list_hash,
            values=values,
            outcomes={name: pack(hit) for name, hit in hits.items()},
            macs=macs,
            tokens_per_block=tokens,
            seconds=seconds,
        )
