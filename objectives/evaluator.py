"""Measure a layout: run the pruned model over the images and compare it with the labels and the dense model."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Iterator, Mapping
from contextlib import AbstractContextManager, closing, nullcontext
from copy import copy
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from objectives.cost import count_macs
from objectives.image_costs import MeanCost, Ran, costs_of, require_counted, what_ran
from objectives.images import PreparedImages
from objectives.metrics import GFLOPS, Measurement, Precision
from objectives.prefix import DensePrefix, prefix_bytes
from objectives.statistics import Estimate, pack
from objectives.visits import Part, Visits, proportion_of
from pruning.apply import Pruning, pruned, read_architecture
from pruning.backbones.families import family_of
from pruning.backbones.family import Tokens
from pruning.preprocessing import Preprocessing
from spaces import Architecture, PrunefrontError, PruningConfig, dense_cost

__all__ = ["DenseReference", "Evaluator", "Hits", "NonFiniteOutputs"]

Hits = Mapping[str, NDArray[np.bool_]]

_CARD_SHARE = 4  # of a GPU's memory, at most a quarter for the images


class NonFiniteOutputs(PrunefrontError):
    """A model gave outputs that are not numbers, which no accuracy describes."""


@dataclass(frozen=True)
class DenseReference:
    """What the dense model said of the images: (n_images, n_classes) logits, float32; (0, 0) of a segmenter."""

    logits: NDArray[np.float32]


@dataclass(frozen=True)
class _Reference:
    """The dense model's outputs, and the class that it chose for each image, taken once for all looks of all races."""

    logits: Tensor
    classes: NDArray[np.int64]


class Evaluator:
    """A model and its images, ready to measure one layout after another.

    Attributes:
        images: what is measured on.
        batch_size: images of one forward pass; part of what decides the last float bits.
        precision: of matrix products; whatever scores tokens computes in float32 all the same.
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
        precision: Precision = "float32",
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
            precision: see above.
            cache_bytes: memory for the dense model's tokens after each block, from which layouts start.
        """
        self.model = model.to(device).eval()
        self.images = images
        self.batch_size = batch_size
        self._look_every = batch_size
        self.precision = precision
        self._preprocessing = preprocessing
        self._device = torch.device(device)
        self._architecture = read_architecture(model, name)
        self._family = family_of(model, name)
        self._reference: _Reference | None = None
        self._pixels_on_card = self._on_card(images)
        self._prefix = DensePrefix(len(images), batch_size, prefix_bytes(self._architecture, len(images)), cache_bytes)

    @property
    def architecture(self) -> Architecture:
        """The model's dimensions."""
        return self._architecture

    @property
    def kept_depths(self) -> tuple[int, ...]:
        """The numbers of executed blocks after which the dense model's tokens are kept."""
        return self._prefix.depths

    def measure_dense(self) -> tuple[Measurement, DenseReference]:
        """Measure the dense model, and remember what it said for the layouts to come.

        Raises:
            NonFiniteOutputs: some of its outputs are NaN or infinite.
        """
        started = time.perf_counter()
        logits = torch.cat([said for said, _ in self._run(None)])
        seconds = time.perf_counter() - started
        reference = DenseReference(logits.numpy())
        self.compare_with(reference)
        macs = count_macs(self.model, self._inputs(np.arange(1)))
        cost = MeanCost(macs, dense_cost(self._architecture).tokens_per_block)
        return self._measurement(logits, cost, seconds), reference

    def time_image(self, config: PruningConfig) -> float:
        """Give the seconds that a layout takes for an image of the first batch."""
        started = time.perf_counter()
        with closing(self._run(config)) as batches:
            logits, _ = next(batches)
        return (time.perf_counter() - started) / len(logits)

    def compare_with(self, reference: DenseReference) -> None:
        """Take the dense model's outputs from elsewhere, instead of computing them again."""
        logits = torch.tensor(reference.logits)
        self._reference = _Reference(logits, logits.argmax(dim=1).numpy())

    def with_smaller_batches(self) -> Evaluator:
        """Make an evaluator of the same images in batches of half the size, which keeps no tokens of the dense model.

        Those kept here are let go of, to make room. It looks at a race when this one would, so that after how many
        images a candidate is stopped does not depend on the memory.
        """
        self._prefix.forget()
        if self._device.type == "cuda":
            torch.cuda.empty_cache()
        smaller = copy(self)
        smaller.batch_size = max(1, self.batch_size // 2)
        smaller._prefix = DensePrefix(len(self.images), smaller.batch_size, 0, 0)
        return smaller

    def measure(
        self, config: PruningConfig, stop: Callable[[Hits], bool] | None = None, visits: Visits | None = None
    ) -> Measurement:
        """Measure one layout on all images, or batch by batch until it is told to stop.

        Args:
            config: the layout.
            stop: is asked after each batch but the last, of the size that was asked for, with the outcomes of all
                images so far by metric, in the order they were seen, whether that is enough.
            visits: the order in which the images are seen; that of the list, if ``None``, and then all of them are a
                random sample of it. It changes no outcome.

        Returns:
            The measurement, of ``n_images`` fewer than there are where it was stopped: its ``part`` says which. The
            operations are counted where it was not; what was stopped has its closed form, with the tokens counted on
            their way. Where the images decide how many tokens stay, the cost is the mean of theirs.

        Raises:
            InvalidInput: the layout does not fit the model.
            NonFiniteOutputs: some outputs are NaN or infinite.
            CostsDisagree: what ran is not what the closed form says.
        """
        steps = self.measuring(config, visits)
        try:
            hits = next(steps)
            while True:
                hits = steps.send(stop is not None and stop(hits))
        except StopIteration as done:
            measurement: Measurement = done.value
            return measurement

    def measuring(self, config: PruningConfig, visits: Visits | None = None) -> Generator[Hits, bool, Measurement]:
        """Measure one layout batch by batch, at the caller's pace; see ``measure``.

        The model is pruned until the generator has ended or was closed.

        Yields:
            After each batch but the last, of the size that was asked for, the outcomes of all images so far, by
            metric, in the order they were seen. It is sent whether that is enough.
        """
        visits = visits or Visits(len(self.images), np.empty((0, len(self.images)), dtype=bool))
        costs = costs_of(config, self._architecture)
        started, seconds = time.perf_counter(), 0.0
        said, chosen = [], np.empty(0, dtype=np.int64)
        with closing(self._run(config, visits.order)) as batches:
            for logits, ran in batches:
                costs.take(ran)
                said.append(logits)
                chosen = np.concatenate((chosen, logits.argmax(dim=1).numpy()))
                if len(chosen) < len(self.images) and len(chosen) % self._look_every == 0:
                    seconds += time.perf_counter() - started
                    is_enough = yield self._hits(chosen, visits.order[: len(chosen)])
                    started = time.perf_counter()
                    if is_enough:
                        break
        seconds += time.perf_counter() - started
        part = None
        if len(chosen) == len(self.images):
            self._require_counted(config)
        else:
            part = visits.part(len(chosen))
        in_list = np.argsort(visits.order[: len(chosen)])
        return self._measurement(torch.cat(said)[in_list], costs.in_all(in_list, part), seconds, part)

    def _require_counted(self, config: PruningConfig) -> None:
        """Count the operations of one image, and refuse a result whose cost is not what the closed form says.

        Alone it is filled up to no other image, so this holds too where the image decides how many tokens stay.
        """
        with pruned(self.model, config) as pruning:
            macs = count_macs(self.model, self._inputs(np.arange(1)))
        alone = costs_of(config, self._architecture)
        alone.take(what_ran(pruning))
        require_counted(macs, alone.in_all().macs, config)

    def _run(
        self, config: PruningConfig | None, order: NDArray[np.intp] | None = None
    ) -> Generator[tuple[Tensor, Ran | None]]:
        """Run over the images batch by batch, in some order of their places, for as long as somebody asks.

        Yields:
            Logits, (batch, n_classes) float32 on the CPU; and the tokens that there were, ``None`` of the dense model.
        """
        with self._pruned(config) as pruning:
            n_dense = 0 if pruning is None else pruning.n_dense_blocks
            self._prefix.plan_for(n_dense)
            for places in self._batches(np.arange(len(self.images)) if order is None else order):
                if pruning is not None:
                    pruning.image_ids = torch.from_numpy(self.images.numbers[places])
                with torch.inference_mode(), self._autocast():
                    tokens = self._prefix.tokens(places, n_dense, self._embedded, self._blocks)
                    tokens = self._blocks(tokens, n_dense, self._architecture.depth)
                    logits = self._outputs(self._family.classify(self.model, tokens))
                yield logits, None if pruning is None else what_ran(pruning)

    def _batches(self, order: NDArray[np.intp]) -> Iterator[NDArray[np.intp]]:
        """Divide the images into those between two looks at a race, and these into batches."""
        for first in range(0, len(order), self._look_every):
            between = order[first : first + self._look_every]
            for start in range(0, len(between), self.batch_size):
                yield between[start : start + self.batch_size]

    def _autocast(self) -> AbstractContextManager[None]:
        dtype = getattr(torch, self.precision)
        return torch.autocast(self._device.type, dtype=dtype, enabled=self.precision != "float32")

    def _embedded(self, places: NDArray[np.intp]) -> Tokens:
        return self._family.embed(self.model, self._inputs(places))

    def _blocks(self, tokens: Tokens, first: int, last: int) -> Tokens:
        return self._family.run_blocks(self.model, tokens, first, last)

    def _pruned(self, config: PruningConfig | None) -> AbstractContextManager[Pruning | None]:
        return nullcontext() if config is None else pruned(self.model, config)

    def _inputs(self, places: NDArray[np.intp]) -> Tensor:
        if self._pixels_on_card is not None:
            return self._preprocessing.normalise(self._pixels_on_card[torch.from_numpy(places).to(self._device)])
        return self._preprocessing.normalise(torch.from_numpy(self.images.pixels[places]).to(self._device))

    def _on_card(self, images: PreparedImages) -> Tensor | None:
        """Put the images on the GPU, a byte a channel, if there is one and they take no more than their share."""
        if self._device.type != "cuda":
            return None
        memory = torch.cuda.get_device_properties(self._device).total_memory
        return torch.tensor(images.pixels, device=self._device) if images.pixels.nbytes * _CARD_SHARE < memory else None

    def _outputs(self, logits: Tensor) -> Tensor:
        if not torch.isfinite(logits).all():
            n_bad = int((~torch.isfinite(logits)).any(dim=1).sum())
            raise NonFiniteOutputs(
                f"the model's outputs are NaN or infinite for {n_bad} of a batch of {len(logits)} images"
            )
        return logits.float().cpu()

    def _hits(self, chosen: NDArray[np.int64], places: NDArray[np.intp]) -> Hits:
        """Say of the images in these places, for which (n_seen,) classes were chosen, which count for each metric."""
        hits: dict[str, NDArray[np.bool_]] = {}
        if self.images.has_labels:
            hits["top1_pct"] = chosen == self.images.labels[places]
        hits["agreement_pct"] = chosen == self._known_reference().classes[places]
        return hits

    def _known_reference(self) -> _Reference:
        if self._reference is None:
            raise RuntimeError("the dense model must be measured, or its outputs given, before any layout")
        return self._reference

    def _measurement(self, logits: Tensor, cost: MeanCost, seconds: float, part: Part | None = None) -> Measurement:
        places = np.arange(len(self.images)) if part is None else part.places
        hits = self._hits(logits.argmax(dim=1).numpy(), places)
        values = {name: proportion_of(hit, part) for name, hit in hits.items()}
        divergence = functional.kl_div(
            logits.double().log_softmax(dim=1),
            self._known_reference().logits[torch.from_numpy(places)].double().log_softmax(dim=1),
            reduction="none",
            log_target=True,
        ).sum(dim=1)
        of_all = float(divergence.mean()) if part is None else part.mean(divergence.numpy()).value
        values["kl_nats"] = Estimate(of_all)
        if cost.gflops is not None:
            values[GFLOPS] = cost.gflops
        return Measurement(
            n_images=len(logits),
            image_list_hash=self.images.list_hash,
            values=values,
            outcomes={name: pack(hit) for name, hit in hits.items()},
            macs=cost.macs,
            tokens_per_block=cost.tokens_per_block,
            seconds=seconds,
            precision=self.precision,
            n_kept=cost.n_kept,
            batch_size=self.batch_size,
            part=part,
        )
