"""Everything a study is measured with, loaded and checked: model, images, space, budget."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property, partial

import torch

from objectives.datasets import find_images
from objectives.evaluators import AnyEvaluator, Measurable, evaluator_of
from objectives.images import ImageSource, ListedImage, prepare, stratified_order
from objectives.masks import MaskSource, find_masks
from objectives.metrics import METRICS, Precision
from objectives.prefix import prefix_bytes
from objectives.scenes import prepare_scenes
from pruning.models import LoadedModel, load_model
from pruning.segmentation.inference import Windows
from search.config import DataSettings, Execution, ModelSettings, SearchSettings, Task, n_shares
from search.executors import Executor, LocalExecutor
from spaces import Architecture, Budget, InvalidInput, Problem, dense_cost, parse_space
from spaces.methods import method_names

__all__ = ["Workbench", "first_images", "load", "open_data", "open_model", "require_device", "take_images"]

_DEFAULT_IMAGES = 1024
_CACHE_SHARE = 4  # of the memory, at most a quarter

AnySource = ImageSource | MaskSource


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
        return _prepared(
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


def require_device(device: str) -> None:
    """Refuse a device that is not there."""
    if device == "cuda" and not torch.cuda.is_available():
        raise InvalidInput(
            "cuda is asked for, but torch finds no GPU here: measure with --device cpu, or on a machine with a GPU"
        )


def open_model(settings: ModelSettings) -> LoadedModel:
    """Load the model that the settings name."""
    return load_model(
        settings.name,
        checkpoint=settings.checkpoint,
        pretrained=settings.pretrained,
        arguments=settings.arguments,
        preprocessing=settings.preprocessing,
    )


def open_data(settings: DataSettings, loaded: LoadedModel) -> AnySource:
    """Find the images that the settings name; for a segmenter those with masks."""
    if loaded.architecture.heads:
        return find_masks(settings.data, n_classes=loaded.architecture.n_classes, folders=settings.masks)
    return find_images(
        settings.data,
        n_classes=loaded.architecture.n_classes,
        labels=settings.labels,
        class_map=settings.class_map,
        split=settings.split,
    )


def take_images(
    settings: DataSettings, source: AnySource, loaded: LoadedModel
) -> tuple[Measurable, list[ListedImage], int]:
    """Decode the search images and set the confirm images aside.

    Returns:
        The search images; the images left, in order; and how many of them to confirm on.

    Raises:
        InvalidInput: fewer images than asked for.
    """
    total = len(source.images)
    n_search = settings.n_search or min(_DEFAULT_IMAGES, max(1, total // 2))
    if n_search + (settings.n_confirm or 0) > total:
        asked = f"{n_search} search" + (f" and {settings.n_confirm} confirm" if settings.n_confirm else "")
        raise InvalidInput(f"{asked} images are asked for, but the data has {total}: ask for fewer")
    order = stratified_order(source.images, settings.seed)
    images, rest = _prepared(settings, source, order, n_search, loaded)
    n_confirm = min(n_search, len(rest)) if settings.n_confirm is None else settings.n_confirm
    return images, rest, n_confirm


def first_images(settings: DataSettings, loaded: LoadedModel, n: int) -> Measurable:
    """Decode the first images of a study: of those searched on and, of a small data set, the others; all, if fewer."""
    source = open_data(settings, loaded)
    order = stratified_order(source.images, settings.seed)
    return _prepared(settings, source, order, n, loaded, fewer_will_do=True)[0]


def _prepared(
    settings: DataSettings,
    source: AnySource,
    wanted: Sequence[ListedImage],
    n: int,
    loaded: LoadedModel,
    *,
    fewer_will_do: bool = False,
) -> tuple[Measurable, list[ListedImage]]:
    """Decode the first ``n`` usable images of a list, with their masks if they have any."""
    preprocessing, how = loaded.preprocessing, {"skip_bad": settings.skip_bad, "fewer_will_do": fewer_will_do}
    if isinstance(source, ImageSource):
        return prepare(source, wanted, n, preprocessing.pixel_transform(), **how)
    _, height, width = preprocessing.input_size
    windows = None if settings.stride is None else Windows((height, width), (settings.stride,) * 2)
    return prepare_scenes(source, wanted, n, preprocessing, windows=windows, **how)


def _require_task(task: Task, loaded: LoadedModel) -> None:
    """Refuse a model that does something else."""
    if (task == "segmentation") != bool(loaded.architecture.heads):
        does = "segments" if loaded.architecture.heads else "classifies"
        remedy = "search with --task segmentation" if loaded.architecture.heads else "leave --task out"
        raise InvalidInput(f"{loaded.name} {does}, and {task} is asked for: {remedy}, or name another model")


def _triple(values: tuple[float, ...]) -> str:
    return "/".join(f"{value:.3g}" for value in values)
