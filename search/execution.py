"""Where a search runs: on which workers, and what they may take of the machine."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from search.config import Positive, SearchSettings, Settings, Task
from spaces import InvalidInput

__all__ = ["Execution", "n_shares"]


class Execution(Settings):
    """Where a search runs; none of it changes a trial.

    Attributes:
        executor: ``ray`` actors; ``tune``: trials of a Ray Tune experiment, which take longer to start; or ``local``:
            in this process, for tests and tiny runs.
        n_workers: by default one for each of this machine's cores or devices; of a cluster's, and of those that join
            it later, as many as the look-ahead keeps busy.
        ray_address: of a running Ray cluster to join, ``auto`` for this machine's; by default Ray is started here.
        cpus_per_worker: what a worker takes of Ray's CPUs; by default one for each of its threads.
        gpus_per_worker: what a worker takes of Ray's GPUs, on ``cuda``; by default a whole one.
        n_retries: how often a candidate is measured again whose worker died under it.
        cache_gb: memory of each worker for the dense model's tokens after each block, from which layouts start; by
            default a quarter of the machine's, shared among the workers, or of each GPU's.
    """

    executor: Literal["ray", "tune", "local"] = "ray"
    n_workers: Positive | None = None
    ray_address: str | None = None
    cpus_per_worker: Annotated[float, Field(gt=0)] | None = None
    gpus_per_worker: Annotated[float, Field(gt=0)] = 1.0
    n_retries: Annotated[int, Field(ge=0)] = 2
    cache_gb: Annotated[float, Field(ge=0)] | None = None

    def require_suits(self, settings: SearchSettings) -> None:
        """Refuse an executor that cannot measure what a search asks for.

        Raises:
            InvalidInput: with the one that can.
        """
        if settings.times_latency and self.executor != "local":
            raise InvalidInput(
                "latency is timed while nothing else runs on the device, and other workers would: search with "
                "--executor local"
            )
        self.require_measures(settings.task)

    def require_measures(self, task: Task) -> None:
        """Refuse an executor that cannot measure what models of a task do, timed or not.

        Raises:
            InvalidInput: with the one that can.
        """
        if self.executor == "tune" and task == "segmentation":
            raise InvalidInput(
                "Ray Tune may end a trial after any chunk of images, and mIoU is known of all images together: "
                "search segmenters with --executor ray"
            )


def n_shares(n_devices: float, each: float) -> int:
    """Count the workers that devices have room for, of which each takes a share, or several; none spans two by halves.

    >>> n_shares(2, 0.4), n_shares(8, 1), n_shares(7, 2)
    (4, 8, 3)
    """
    return int(n_devices) * int(1 / each + 1e-9) if each < 1 else int(n_devices / each)
