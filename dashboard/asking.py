"""What may be asked for through the page and the API: known settings, in their ranges, of files under the roots."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from dashboard.roots import Roots
from objectives.metrics import LATENCY, Cost
from spaces import Budget, InvalidInput, LatencyBudget, parse_space
from spaces.domains import parse_setting
from spaces.errors import describe_problems
from spaces.methods import method_names

__all__ = ["BudgetQuestion", "Bundling", "Confirming", "Launch", "ModelChoice", "Pictures", "Resuming", "SpaceChoice"]

_Name = Annotated[str, Field(min_length=1, max_length=200, pattern=r"^\w[\w.+-]*$")]
_Text = Annotated[str, Field(min_length=1, max_length=500)]
_FolderName = Annotated[str, Field(max_length=100, pattern=r"^\w[\w-]*$")]
_Count = Annotated[int, Field(ge=1, le=1_000_000)]
_Seed = Annotated[int, Field(ge=0, lt=2**53)]  # as large as JavaScript counts exactly
_Value = bool | int | float | str | list[int] | list[float] | list[str]
_DOWNLOADS = ("hf-hub", "hf_hub")


class _Request(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    @classmethod
    def parse(cls, values: Mapping[str, Any]) -> Self:
        """Read a request. Raises InvalidInput, naming everything that is wrong with it."""
        try:
            return cls.model_validate(dict(values))
        except ValidationError as error:
            raise InvalidInput(describe_problems(error)) from None


class ModelChoice(_Request):
    """Which model; a name that timm knows, a bundled one, ``local-dir:`` under a model root, or ``hf-hub:``."""

    model: _Text
    checkpoint: _Text | None = None
    pretrained: bool = False
    num_classes: Annotated[int, Field(ge=1, le=1_000_000)] | None = None
    image_size: Annotated[int, Field(ge=8, le=4096)] | None = None

    def model_settings(self, roots: Roots) -> dict[str, Any]:
        """Give the settings as a search knows them.

        Raises:
            InvalidInput: a path outside the roots, or a download where there are to be none.
        """
        arguments = {"num_classes": self.num_classes, "img_size": self.image_size}
        return {
            "name": self._name(roots),
            "checkpoint": None if self.checkpoint is None else roots.model_path(self.checkpoint),
            "pretrained": self.pretrained,
            "arguments": {name: value for name, value in arguments.items() if value is not None},
        }

    def _name(self, roots: Roots) -> str:
        source, colon, place = self.model.partition(":")
        if (self.pretrained or source in _DOWNLOADS) and not roots.downloads:
            raise InvalidInput("this dashboard downloads no weights: start it with --allow-downloads, or give a file")
        if source == "local-dir" and colon:
            return f"local-dir:{roots.model_path(place)}"
        if not (source in _DOWNLOADS or self.model.replace(".", "_").replace("-", "_").isidentifier()):
            raise InvalidInput(
                f"a model is a name that timm knows, local-dir:FOLDER or hf-hub:NAME, got {self.model!r}"
            )
        return self.model


class SpaceChoice(ModelChoice):
    """Which layouts of a model: of which methods, which preset, and what is set over it."""

    method: Annotated[list[_Name], Field(min_length=1, max_length=50)] | _Name = "zero_tprune"
    preset: _Name = "paper"
    space: Annotated[dict[_Name, _Value], Field(max_length=100)] = {}

    @property
    def settings_of_space(self) -> dict[str, Any]:
        """What is set over the preset: texts are read as on the command line, such as ``0.5:1`` or ``[3, 6, 9]``."""
        return {name: parse_setting(value) if isinstance(value, str) else value for name, value in self.space.items()}


class BudgetQuestion(SpaceChoice):
    """What can be had on a model, and whether a budget is satisfiable."""

    budget: Annotated[str, Field(min_length=1, max_length=40)] | None = None


class Launch(SpaceChoice):
    """A search: what ``prunefront search`` takes, as far as it is safe to take from a page."""

    study: _Name
    data: _Text
    labels: _Text | None = None
    class_map: _Text | None = None
    split: _FolderName | None = None
    n_images: _Count | None = None
    n_confirm: Annotated[int, Field(ge=0, le=1_000_000)] | None = None
    image_seed: _Seed = 0
    metric: Literal["top1", "agreement"] = "top1"
    cost: Cost | None = None
    budget: Annotated[str, Field(min_length=1, max_length=40)] | None = None
    budget_ms: Annotated[str, Field(min_length=1, max_length=40)] | None = None
    sampler: Literal["auto", "random", "tpe", "nsga2", "gp"] = "auto"
    seed: _Seed = 0
    n_trials: _Count = 200
    n_workers: Annotated[int, Field(ge=1, le=256)] | None = None
    race: bool = True
    expect_top1: Annotated[float, Field(ge=0, le=100)] | None = None
    device: Literal["auto", "cpu", "cuda"] = "auto"

    def job(self, roots: Roots) -> dict[str, Any]:
        """Give the request of the job: a search's settings, and where and how long it runs.

        Raises:
            InvalidInput: a path outside the roots, an unknown method, preset or setting, or no budget.
        """
        methods = method_names(self.method)
        parse_space(methods, self.preset, self.settings_of_space)
        times_latency = self.cost == LATENCY or self.budget_ms is not None
        if self.budget is not None:
            Budget.parse(self.budget, dense_gflops=1.0)
        elif not times_latency:
            raise InvalidInput("budget: Field required, where no latency is asked for (budget_ms, or cost latency_ms)")
        if self.budget_ms is not None:
            LatencyBudget.parse(self.budget_ms, dense_ms=1.0)
        goal = {"cost": self.cost, "budget": self.budget, "budget_ms": self.budget_ms}
        settings = {
            "study": self.study,
            "model": self.model_settings(roots),
            "data": self._data_settings(roots),
            **{name: value for name, value in goal.items() if value is not None},
            "method": list(methods),
            "preset": self.preset,
            "space": {
                name: value.model_dump(mode="json") if isinstance(value, BaseModel) else value
                for name, value in self.settings_of_space.items()
            },
            "metric": self.metric,
            "sampler": self.sampler,
            "seed": self.seed,
            "expect_top1": self.expect_top1,
            "device": self.device,
        }
        if not self.race or times_latency:
            settings["race"] = False
        return {"settings": settings, "n_trials": self.n_trials, "n_workers": self.n_workers}

    def _data_settings(self, roots: Roots) -> dict[str, Any]:
        paths = {"labels": self.labels, "class_map": self.class_map}
        return {
            "data": self.data if self.data == "shapes" else roots.data_path(self.data),
            "split": self.split,
            "n_search": self.n_images,
            "n_confirm": self.n_confirm,
            "seed": self.image_seed,
            **{name: None if path is None else roots.data_path(path) for name, path in paths.items()},
        }


class Resuming(_Request):
    """Go on with a study, with this many trials in all."""

    n_trials: _Count | None = None
    n_workers: Annotated[int, Field(ge=1, le=256)] | None = None


class Confirming(_Request):
    """Measure trials on unseen images; by default the front's."""

    trials: Annotated[list[Annotated[int, Field(ge=0)]], Field(max_length=1000)] | None = None


class Pictures(_Request):
    """Show what becomes of a layout's tokens on some of the search images."""

    n_images: Annotated[int, Field(ge=1, le=32)] = 8


class Bundling(_Request):
    """Write a layout with its model; with programs for other runtimes, if any are named."""

    weights: bool = True
    formats: Annotated[list[Literal["onnx", "pt2"]], Field(max_length=2)] = []
