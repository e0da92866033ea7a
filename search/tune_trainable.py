"""Our evaluator as a Trainable of Ray Tune."""

from __future__ import annotations

from collections.abc import Generator, Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from ray import tune

from objectives.evaluator import DenseReference, Evaluator, Hits
from objectives.images import PreparedImages
from objectives.metrics import Measurement
from pruning.models import LoadedModel
from search.allocation import keep_freed_memory
from search.executors import Outcome, worker_name
from search.racing import Race
from spaces import PruningConfig, parse_layout

__all__ = ["LayoutTrainable"]


class LayoutTrainable(tune.Trainable):  # type: ignore[misc]
    """Measures the layout in ``config["layout"]``, a chunk of images a step; between them a scheduler may stop it.

    A step reports the metrics on the images so far, ``n_images`` and ``gflops``; the last one ``done``. An actor is
    used again for the next layout, with its model and images. Give those with ``ray.tune.with_parameters``, see
    ``setup``.
    """

    def setup(
        self,
        config: Mapping[str, Any],
        *,
        loaded: LoadedModel,
        images: PreparedImages,
        reference: DenseReference,
        threads: int = 1,
        chunk_batches: int = 4,
        **how: Any,
    ) -> None:
        """Take the model, the images and what the dense model said of them; ``how`` is as for ``Evaluator``."""
        torch.set_num_threads(threads)
        keep_freed_memory()
        self._evaluator = Evaluator(loaded.model, loaded.name, images, loaded.preprocessing, **how)
        self._evaluator.compare_with(reference)
        self._chunk_batches = chunk_batches
        self._steps: Generator[Hits, bool, Measurement] | None = None
        self.reset_config(config)

    def reset_config(self, new_config: Mapping[str, Any]) -> bool:
        """Turn to another layout."""
        self.cleanup()
        self._config: PruningConfig = parse_layout(new_config["layout"])
        self._race: Race | None = new_config.get("race")
        self._number: int = new_config.get("number", 0)
        self._gflops = self._config.cost(self._evaluator.architecture).gflops
        return True

    def step(self) -> dict[str, Any]:
        """See the next chunk of images; with a race, its end is looked for after every batch."""
        is_lost = False
        hits: Hits = {}
        try:
            for _ in range(self._chunk_batches):
                if self._steps is None:
                    visits = None if self._race is None else self._race.visits
                    self._steps = self._evaluator.measuring(self._config, visits)
                    hits = next(self._steps)
                else:
                    hits = self._steps.send(is_lost)
                is_lost = self._race is not None and self._race.is_lost(hits)
            if is_lost and self._steps is not None:
                self._steps.send(is_lost)
        except StopIteration as done:
            return self._result(done.value, self._race if is_lost else None)
        return {
            **{name: self._so_far_pct(hit) for name, hit in hits.items()},
            "n_images": len(next(iter(hits.values()))),
            "gflops": self._gflops,
        }

    def save_checkpoint(self, checkpoint_dir: str) -> dict[str, Any]:
        """Keep which layout it is; Tune asks for a checkpoint at the end of every trial."""
        return {"layout": self._config.model_dump(mode="json")}

    def load_checkpoint(self, checkpoint: Mapping[str, Any] | None) -> None:
        """Begin the layout anew: what was measured of it is not kept."""
        self.cleanup()

    def cleanup(self) -> None:
        """Leave the layout that was being measured, if one was."""
        if self._steps is not None:
            self._steps.close()
            self._steps = None

    def _so_far_pct(self, hits: NDArray[np.bool_]) -> float:
        return 100 * float(hits.mean()) if self._race is None else self._race.visits.estimate_pct(hits).value

    def _result(self, measurement: Measurement, lost_to: Race | None) -> dict[str, Any]:
        self._steps = None
        rival = None if lost_to is None else lost_to.rival
        return {
            **{name: estimate.value for name, estimate in measurement.values.items()},
            "n_images": measurement.n_images,
            "gflops": self._gflops,
            "outcome": Outcome(self._number, worker_name(), measurement, lost_to=rival),
            "done": True,
        }
