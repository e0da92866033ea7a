"""Everything a study is measured with, loaded and checked: model, images, space, budget."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property, partial

import torch

from objectives.evaluators import AnyEvaluator, Measurable, evaluator_of
from objectives.images import ListedImage
from objectives.metrics import METRICS, Precision
from objectives.prefix import prefix_bytes
from pruning.models import LoadedModel
from search.config import SearchSettings, Task
from search.execution import Execution, n_shares
from search.executors import Executor, LocalExecutor
from search.opening import AnySource, decode, open_data, open_model, require_device, take_images
from spaces import Architecture, Budget, InvalidInput, Problem, dense_cost, parse_space
from spaces.methods import method_names

__all__ = ["Workbench", "load"]

_CACHE_SHARE = 4  # of the memory, at most a quarter


@dataclass(frozen=True)
class Workbench:
    """A search's settings made real.

    Attributes:
        settings: what was asked for.
        loaded: the model.
        problem: what may be tried, and what it may cost.
        source: the whole data set.
        search_images: what candidates are measured on.
        confirm_order: the images that the search never sees, in the order in which they may be used.
        n_confirm: how many of them to use.
        left_out: for each method that was asked for and is not searched, a line that says why.
    """

    settings: SearchSettings
    loaded: LoadedModel
    problem: Problem
    source: AnySource
    search_images: Measurable
    confirm_order: tuple[ListedImage, ...]
    n_confirm: int
    left_out: tuple[str, ...] = ()

    @property
    def architecture(self) -> Architecture:
        """The model's dimensions."""
        return self.loaded.architecture

    @cached_property
    def confirm_images(self) -> Measurable | None:
        """The images kept from the search, decoded when they are first needed; ``None`` if there are none."""
        if self.n_confirm == 0:
            return None
        data = self.settings.data
        return decode(
            data,
            self.source,
            self.confirm_order,
            self.n_confirm,
            self.loaded,
            fewer_will_do=data.n_confirm is None,
        )[0]

    def start(self, execution: Execution, say: Callable[[str], None] = lambda _: None) -> Executor:
        """Start the workers; ``say`` is told of those that come and go."""
        settings = self.settings
        if execution.executor == "local":
            return LocalExecutor(
                partial(self.evaluator, cache_bytes=self.cache_bytes(execution)), threads=settings.threads
            )
        n_workers = self.n_workers(execution)
        from search.cluster import Cluster  # Ray takes half a second to import, Tune two more

        start: Callable[..., Executor]
        if execution.executor == "tune":
            from search.tune_executor import TuneExecutor

            start = TuneExecutor
        else:
            from search.workers import RayExecutor

            start = RayExecutor
        on_gpus = settings.device == "cuda"
        return start(
            self.loaded,
            Cluster.reach(execution, n_workers=n_workers, threads=settings.threads, on_gpus=on_gpus),
            most_workers=n_workers,
            say=say,
            device=settings.device,
            threads=settings.threads,
            cache_bytes=self.cache_bytes(execution),
        )

    def n_workers(self, execution: Execution) -> int:
        """Give the number of workers: as asked, or as many as the machine has room for.

        Of a cluster whose nodes come and go it is the most there may be: as asked, or what the look-ahead keeps busy.

        Raises:
            InvalidInput: more than the look-ahead could ever keep busy, or than there are GPUs for.
        """
        n, look_ahead = execution.n_workers, self.settings.settled_look_ahead
        if n is not None and n > look_ahead:
            raise InvalidInput(f"{n} workers cannot be kept busy by a look-ahead of {look_ahead}: set --look-ahead")
        if execution.ray_address is not None:
            return n or look_ahead
        n_room = self._n_room(execution)
        if n is not None and self.settings.device == "cuda" and n > n_room:
            raise InvalidInput(
                f"each worker takes {execution.gpus_per_worker:g} of a GPU, {n} are asked for, but there is room for "
                f"{n_room}: set --workers, or --gpus-per-worker"
            )
        return max(1, min(n_room, look_ahead)) if n is None else n

    def _n_room(self, execution: Execution) -> int:
        """Count the workers that this machine has room for."""
        if self.settings.device == "cuda":
            return n_shares(torch.cuda.device_count(), execution.gpus_per_worker)
        return n_shares(os.cpu_count() or 1, execution.cpus_per_worker or self.settings.threads)

    def cache_bytes(self, execution: Execution) -> int:
        """Give the memory of each worker for the dense model's tokens, from which layouts start."""
        if execution.cache_gb is not None:
            return int(execution.cache_gb * 1e9)
        if self.settings.device == "cuda":
            memory: int = torch.cuda.get_device_properties(0).total_memory
            return int(memory * min(1.0, execution.gpus_per_worker)) // _CACHE_SHARE
        machine: int = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
        # Of a cluster the other nodes are taken to be like this one.
        n_here = self.n_workers(execution) if execution.ray_address is None else max(1, self._n_room(execution))
        return machine // (_CACHE_SHARE * n_here)

    def cache_finding(self, execution: Execution) -> str | None:
        """Say how little of the dense model's tokens a worker can keep; ``None`` where it keeps all it will need."""
        if self.architecture.heads:
            return None  # a segmenter's layouts begin with its first block
        depth_bytes = prefix_bytes(self.architecture, len(self.search_images))
        n_wanted = self.architecture.depth - 2  # from after block 1 to where the last pruning layer's block begins
        n_room = self.cache_bytes(execution) // depth_bytes
        if n_room >= n_wanted:
            return None
        return (
            f"cache: a worker keeps the dense model's tokens after {n_room} of {n_wanted} blocks, those that spare "
            f"most ({depth_bytes / 1e9:.2g} GB each); more with --cache-gb"
        )

    def findings(self) -> Iterator[str]:
        """Say what was loaded: model, images, preprocessing, and what the space can cost under the budget."""
        architecture, preprocessing = self.architecture, self.loaded.preprocessing
        yield (
            f"model: {self.loaded.name}, {architecture.depth} blocks, {architecture.n_patch} patch tokens, "
            f"{dense_cost(architecture).gflops:.4g} GFLOPs dense (one multiply-add counts one)"
        )
        images = self.search_images
        yield f"data: {self.source.layout}; {len(images)} to search on, {self.n_confirm} others to confirm on"
        if images.skipped:
            yield f"left out: {len(images.skipped)} images that cannot be decoded, {', '.join(images.skipped[:5])}"
        size = "x".join(str(side) for side in preprocessing.input_size[1:])
        yield (
            f"preprocessing: {size} px, {preprocessing.interpolation}, crop {preprocessing.crop_pct:g} "
            f"({preprocessing.crop_mode}), mean {_triple(preprocessing.mean)}, std {_triple(preprocessing.std)}"
        )
        yield from self.left_out
        methods = method_names(self.problem.space.method)
        if len(methods) > 1:
            yield f"methods: {', '.join(methods)}; {len(self.problem.parameters())} parameters"
        least, most = self.problem.cost_range()
        low, high = self.problem.budget.low_gflops, self.problem.budget.high_gflops
        budget = f"{high:.4g}" if low is None else f"{low:.4g} to {high:.4g}"
        yield f"budget: {budget} GFLOPs, satisfiable: layouts of this space cost {least:.4g} to {most:.4g}"

    def evaluator(
        self,
        images: Measurable,
        *,
        batch_size: int | None = None,
        precision: Precision = "float32",
        cache_bytes: int = 0,
    ) -> AnyEvaluator:
        """Make an evaluator in this process."""
        return evaluator_of(
            self.loaded,
            images,
            device=self.settings.device,
            batch_size=batch_size or self.settings.settled_batch_size,
            precision=precision,
            cache_bytes=cache_bytes,
        )


def load(settings: SearchSettings) -> Workbench:
    """Load and check everything that a search needs, before anything is written.

    Raises:
        InvalidInput: something in the settings does not fit, with the remedy.
        BudgetUnsatisfiable: no layout of the space meets the budget.
    """
    loaded = open_model(settings.model)
    _require_task(settings.task, loaded)
    space = parse_space(settings.method, settings.preset, settings.space)
    budget = Budget.parse(settings.budget, dense_cost(loaded.architecture).gflops)
    problem, left_out = Problem(space, loaded.architecture, budget, settings.budget_by).without_misfits()
    if settings.times_latency:
        problem = problem.spread(is_front=settings.is_front)
    settings = settings.narrowed(method_names(problem.space.method))
    require_device(settings.device)
    source = open_data(settings.data, loaded)
    search_images, confirm_order, n_confirm = take_images(settings.data, source, loaded)
    if METRICS[settings.metric].needs_labels and not search_images.has_labels:
        raise InvalidInput(
            "the images have no labels, which top-1 needs: give --labels FILE.csv, or search for agreement with the "
            "dense model (--metric agreement)"
        )
    return Workbench(settings, loaded, problem, source, search_images, tuple(confirm_order), n_confirm, left_out)


def _require_task(task: Task, loaded: LoadedModel) -> None:
    """Refuse a model that does something else."""
    if (task == "segmentation") != bool(loaded.architecture.heads):
        does = "segments" if loaded.architecture.heads else "classifies"
        remedy = "search with --task segmentation" if loaded.architecture.heads else "leave --task out"
        raise InvalidInput(f"{loaded.name} {does}, and {task} is asked for: {remedy}, or name another model")


def _triple(values: tuple[float, ...]) -> str:
    return "/".join(f"{value:.3g}" for value in values)
