"""What a person asks of a search, as plain data that the store keeps."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator

from objectives.mask_folders import MaskFolders
from objectives.metrics import LATENCY, Cost, Precision
from spaces import InvalidInput, LatencyBudget
from spaces.errors import describe_problems
from spaces.methods import flat_settings, method_names
from spaces.problem import BudgetBy

__all__ = [
    "SAMPLERS",
    "DataSettings",
    "FineTuningSettings",
    "MeasuringSettings",
    "ModelSettings",
    "SearchSettings",
    "Settings",
]

SAMPLERS = ("random", "tpe", "nsga2", "gp")
_LEAST_LOOK_AHEAD = 4
_GPU_WORKERS = 8  # as many as most machines have
_LEARN_FROM_REJECTED = ("tpe", "nsga2")
BEST_SAMPLER = "tpe"  # of benchmarks/samplers.py; see docs/search.md
SamplerName = Literal["auto", "random", "tpe", "nsga2", "gp"]
_USUAL_BATCH = 64
Positive = Annotated[int, Field(ge=1)]
Task = Literal["classification", "segmentation"]


class Settings(BaseModel):
    """What a person asks for: checked, and nothing beside it is taken."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    @classmethod
    def parse(cls, values: Mapping[str, Any]) -> Self:
        """Build the settings from plain values.

        Raises:
            InvalidInput: naming everything that is wrong with ``values``.
        """
        try:
            return cls.model_validate(dict(values))
        except ValidationError as error:
            raise InvalidInput(describe_problems(error)) from None


class ModelSettings(Settings):
    """Which model, with which weights; see ``pruning.models.load_model``. A name alone will do."""

    name: str
    checkpoint: str | None = None
    pretrained: bool = False
    arguments: Mapping[str, Any] = {}
    preprocessing: Mapping[str, Any] = {}


class DataSettings(Settings):
    """Which images; see ``objectives.datasets.find_images``.

    Attributes:
        n_search: images of the search; by default 1024, or half of a smaller data set.
        n_confirm: images kept from the search; by default as many, or what is left of a smaller data set.
        seed: of the stratified order in which both are taken.
        skip_bad: leave out files that cannot be decoded.
        masks: for a segmenter, where images and masks are, and what the masks' values mean.
        stride: for a segmenter, px from one window to the next; by default an image is taken whole.
    """

    data: str
    labels: str | None = None
    class_map: str | None = None
    split: str | None = None
    n_search: Positive | None = None
    n_confirm: Annotated[int, Field(ge=0)] | None = None
    seed: Annotated[int, Field(ge=0)] = 0
    skip_bad: bool = False
    masks: MaskFolders = MaskFolders()
    stride: Positive | None = None


ModelGiven = Annotated[
    ModelSettings, BeforeValidator(lambda given: {"name": given} if isinstance(given, str) else given)
]
DataGiven = Annotated[DataSettings, BeforeValidator(lambda given: {"data": given} if isinstance(given, str) else given)]


class MeasuringSettings(Settings):
    """How a layout is measured.

    Attributes:
        batch_size: images of a forward pass; ``auto`` lets a search find it by a short measurement.
        precision: of matrix products; ``auto`` lets a search take half precision where that is faster here and the
            dense model's metric stays within its interval. Outside a search it means float32.
        threads: CPU threads of a worker; like the batch size it decides the last float bits.
        device: ``cpu`` or ``cuda``.
    """

    batch_size: Positive | Literal["auto"] = "auto"
    precision: Precision | Literal["auto"] = "auto"
    threads: Positive = 1
    device: Literal["cpu", "cuda"] = "cpu"

    @property
    def settled_batch_size(self) -> int:
        """The batch size, or the usual one where it is still to be found."""
        return _USUAL_BATCH if self.batch_size == "auto" else self.batch_size

    @property
    def settled_precision(self) -> Precision:
        """The precision, or float32 where it is still to be found."""
        return "float32" if self.precision == "auto" else self.precision


def _method_names(given: Any) -> str | tuple[str, ...]:
    """Read the methods as a person names them; a single one stays a plain name."""
    names = method_names(given)
    return names[0] if len(names) == 1 else names


class SearchSettings(MeasuringSettings):
    """Everything that decides a study's trials and their results, beside how they are measured.

    Attributes:
        study: its name.
        budget: as a person writes it: ``3.0``, ``65%``, ``50%:90%``. Where latency is timed it may be left out, and is
            the dense model's cost then.
        cost: what a front minimises beside the metric; with ``latency_ms`` a front is looked for under any budget.
        budget_ms: what one image may take, likewise; a range asks for a front over latency. Latency is timed on the
            device that measures, while nothing else of the search runs there, and without races: what is stopped before
            it has seen all images is not timed.
        method: of the space: one, several, or ``all``.
        preset: of the space, of each method's own.
        space: settings over the preset's; see ``spaces.parse_space``.
        task: what the model does; segmentation is searched by ``dtop``, for ``miou``, without races: which of two
            layouts has the higher mIoU is not said by any single image.
        metric: what is maximised: ``top1`` or, without labels, ``agreement`` with the dense model; or ``miou``.
        sampler: what proposes; ``auto`` takes what did best in docs/search.md.
        budget_by: how draws come within the budget; see ``spaces.Problem``.
        seed: of the proposals.
        look_ahead: proposals made before the first result is told. With the seed it decides every proposal, so
            that their sequence is the same for any number of workers up to it. ``auto`` takes twice as many as this
            machine has workers for: fewer leave workers idle, and with more TPE knows less of what it proposes after.
        race: whether a candidate that can no longer beat its rival is measured no further, see ``search.racing``.
        race_margin: points of the metric by which, under one budget, a candidate has to beat its rival to win its race:
            to win by less is not worth the images. On a front every gain counts.
        expect_top1: what the dense model should reach, in percent; a search on a broken set-up is refused.
    """

    study: Annotated[str, Field(min_length=1, max_length=200, pattern=r"^\w[\w.+-]*$")]
    model: ModelGiven
    data: DataGiven
    budget: str
    cost: Cost = "gflops"
    budget_ms: str | None = None
    method: Annotated[str | tuple[str, ...], BeforeValidator(_method_names)] = "zero_tprune"
    preset: str = "paper"
    space: Mapping[str, Any] = {}
    task: Task = "classification"
    metric: Literal["top1", "agreement", "miou"] = "top1"
    sampler: SamplerName = "auto"
    budget_by: BudgetBy = "repair"
    seed: int = 0
    look_ahead: Positive | Literal["auto"] = "auto"
    race: bool = True
    race_margin: Annotated[float, Field(ge=0, lt=100)] = 0.5
    expect_top1: Annotated[float, Field(ge=0, le=100)] | None = None

    @model_validator(mode="before")
    @classmethod
    def _segmentation_has_its_own_defaults(cls, values: Any) -> Any:
        if isinstance(values, Mapping) and values.get("task") == "segmentation":
            return {"method": "dtop", "metric": "miou", "race": False, **values}
        return values

    @model_validator(mode="before")
    @classmethod
    def _latency_has_its_own_defaults(cls, values: Any) -> Any:
        if not isinstance(values, Mapping) or not (values.get("cost") == LATENCY or values.get("budget_ms")):
            return values
        is_range = ":" in str(values.get("budget_ms"))
        cost = {"cost": LATENCY} if is_range else {}
        return {"budget": "100%", "race": False, **cost, **values}

    @property
    def times_latency(self) -> bool:
        """Whether candidates are timed."""
        return self.cost == LATENCY or self.budget_ms is not None

    @property
    def is_front(self) -> bool:
        """Whether a whole front is looked for, not one best layout."""
        return self.cost == LATENCY or ":" in self.budget

    @model_validator(mode="after")
    def _latency_is_of_whole_measurements(self) -> Self:
        if self.times_latency and self.race:
            raise ValueError(
                "what a race stops is not timed, and where latency counts nobody could say what it costs: search with "
                "--no-race"
            )
        if self.budget_ms is not None:
            LatencyBudget.parse(self.budget_ms, dense_ms=1.0)
        return self

    @model_validator(mode="after")
    def _metric_is_of_the_task(self) -> Self:
        if (self.metric == "miou") != (self.task == "segmentation"):
            raise ValueError(f"segmentation is measured by miou, and nothing else is, got {self.task} by {self.metric}")
        if self.task == "segmentation" and self.race:
            raise ValueError("races are decided image by image, which mIoU is not: search with --no-race")
        return self

    @property
    def settled_look_ahead(self) -> int:
        """The look-ahead, or the one for this machine where that is left open."""
        if self.look_ahead != "auto":
            return self.look_ahead
        n_workers = _GPU_WORKERS if self.device == "cuda" else (os.cpu_count() or 1) // self.threads
        return max(_LEAST_LOOK_AHEAD, 2 * n_workers)

    def narrowed(self, methods: Sequence[str]) -> Self:
        """Keep these of the methods, and the settings of the others no more."""
        if methods == method_names(self.method):
            return self
        space = {
            name: value
            for name, value in flat_settings(self.space).items()
            if "." not in name or name.partition(".")[0] in methods
        }
        return self.model_copy(update={"method": _method_names(methods), "space": space})

    def settled(self) -> Self:
        """Settle the sampler and the look-ahead, if they are left open."""
        sampler = BEST_SAMPLER if self.sampler == "auto" else self.sampler
        return self.model_copy(update={"sampler": sampler, "look_ahead": self.settled_look_ahead})

    @model_validator(mode="after")
    def _constraint_is_understood(self) -> Self:
        if self.budget_by == "constraint" and self.sampler not in (*_LEARN_FROM_REJECTED, "auto"):
            raise ValueError(
                f"the sampler {self.sampler} cannot be told of constraints: use {' or '.join(_LEARN_FROM_REJECTED)}, "
                "or --budget-by repair"
            )
        return self


class FineTuningSettings(Settings):
    """What a training of heads needs, as a file holds it; see ``objectives.finetuning``.

    Attributes:
        model: a segmenter.
        data: images with masks to train on; ``shapes`` draws images that no evaluation sees.
        layout: of ``dtop``, by which tokens are finished meanwhile.
        output: the .safetensors file to write.
        device: ``cpu`` or ``cuda``.
    """

    model: ModelGiven
    data: DataGiven
    layout: Mapping[str, Any]
    output: str
    n_steps: Positive
    batch_size: Positive = 16
    rate: Annotated[float, Field(gt=0)] = 2e-4
    seed: Annotated[int, Field(ge=0)] = 0
    save_every: Positive = 500
    device: Literal["cpu", "cuda"] = "cpu"
