"""What a person asks of a search, as plain data that the store keeps."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from spaces import InvalidInput
from spaces.errors import describe_problems

__all__ = ["SAMPLERS", "DataSettings", "Execution", "MeasuringSettings", "ModelSettings", "SearchSettings"]

SAMPLERS = ("random", "tpe", "nsga2", "gp")
SamplerName = Literal["random", "tpe", "nsga2", "gp"]
Positive = Annotated[int, Field(ge=1)]


class _Settings(BaseModel):
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


class ModelSettings(_Settings):
    """Which model, with which weights; see ``pruning.models.load_model``. A name alone will do."""

    name: str
    checkpoint: str | None = None
    pretrained: bool = False
    arguments: Mapping[str, Any] = {}
    preprocessing: Mapping[str, Any] = {}


class DataSettings(_Settings):
    """Which images; see ``objectives.datasets.find_images``.

    Attributes:
        n_search: images of the search; by default 1024, or half of a smaller data set.
        n_confirm: images kept from the search; by default as many, or what is left of a smaller data set.
        seed: of the stratified order in which both are taken.
        skip_bad: leave out files that cannot be decoded.
    """

    data: str
    labels: str | None = None
    class_map: str | None = None
    split: str | None = None
    n_search: Positive | None = None
    n_confirm: Annotated[int, Field(ge=0)] | None = None
    seed: Annotated[int, Field(ge=0)] = 0
    skip_bad: bool = False


class MeasuringSettings(_Settings):
    """How a layout is measured.

    Attributes:
        batch_size: images of a forward pass.
        threads: CPU threads of a worker; like the batch size it decides the last float bits.
        device: ``cpu`` or ``cuda``.
    """

    batch_size: Positive = 64
    threads: Positive = 1
    device: Literal["cpu", "cuda"] = "cpu"


class SearchSettings(MeasuringSettings):
    """Everything that decides a study's trials and their results, beside how they are measured.

    Attributes:
        study: its name.
        budget: as a person writes it: ``3.0``, ``65%``, ``50%:90%``.
        method: of the space.
        preset: of the space.
        space: settings over the preset's.
        metric: what is maximised: ``top1`` or, without labels, ``agreement`` with the dense model.
        sampler: what proposes.
        seed: of the proposals.
        look_ahead: proposals made before the first result is told. With the seed it decides every proposal, so
            that their sequence is the same for any number of workers up to it.
        expect_top1: what the dense model should reach, in percent; a search on a broken set-up is refused.
    """

    study: Annotated[str, Field(min_length=1, max_length=200, pattern=r"^\w[\w.+-]*$")]
    model: Annotated[ModelSettings, BeforeValidator(lambda given: {"name": given} if isinstance(given, str) else given)]
    data: Annotated[DataSettings, BeforeValidator(lambda given: {"data": given} if isinstance(given, str) else given)]
    budget: str
    method: str = "zero_tprune"
    preset: str = "paper"
    space: Mapping[str, Any] = {}
    metric: Literal["top1", "agreement"] = "top1"
    sampler: SamplerName = "tpe"
    seed: int = 0
    look_ahead: Positive = 16
    expect_top1: Annotated[float, Field(ge=0, le=100)] | None = None


class Execution(_Settings):
    """Where a search runs; none of it changes a trial.

    Attributes:
        executor: ``ray`` actors, or ``local``: in this process, for tests and tiny runs.
        n_workers: by default one for each of this machine's cores or devices.
        cache_gb: memory of each worker for the dense model's tokens after each block, from which layouts start; by
            default a quarter of the machine's, shared among the workers, or of each GPU's.
    """

    executor: Literal["ray", "local"] = "ray"
    n_workers: Positive | None = None
    cache_gb: Annotated[float, Field(ge=0)] | None = None
