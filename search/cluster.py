"""Join or start Ray, and say how many workers it has room for. The only module that imports Ray."""

from __future__ import annotations

import logging
import math
import os
import socket
from dataclasses import dataclass

from search.execution import Execution, n_shares
from spaces import PrunefrontError

os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # Ray reads it once, when it is imported

import ray
import ray.exceptions

__all__ = ["Cluster", "WorkersLost", "one_line", "ray"]

_REACH_S = 20.0


class WorkersLost(PrunefrontError):
    """Ray could not start or keep the workers."""


@dataclass(frozen=True)
class Cluster:
    """The Ray that this process is connected to, and what each worker takes of it.

    Attributes:
        cpus_per_worker: of Ray's CPUs.
        gpus_per_worker: of Ray's GPUs.
        is_ours: whether it was started here, and ends with the search.
        is_elastic: whether nodes may join and leave.
    """

    cpus_per_worker: float
    gpus_per_worker: float
    is_ours: bool
    is_elastic: bool

    @classmethod
    def reach(cls, execution: Execution, *, n_workers: int, threads: int, on_gpus: bool) -> Cluster:
        """Use the Ray that this process is connected to, join the one that was named, or start one.

        Raises:
            WorkersLost: there is none at that address, it does not start, or a fixed one has too little room.
        """
        cpus = execution.cpus_per_worker or threads
        gpus = execution.gpus_per_worker if on_gpus else 0.0
        was_running = ray.is_initialized()
        if execution.ray_address is not None:
            if not was_running:
                _join(execution.ray_address)
            return cls(cpus, gpus, is_ours=not was_running, is_elastic=True)
        if not was_running:
            _start(math.ceil(n_workers * cpus))
        found = cls(cpus, gpus, is_ours=not was_running, is_elastic=False)
        if (n_room := found.n_room()) < n_workers:
            raise WorkersLost(
                f"{n_workers} workers of {found.needs} each do not fit into the Ray that runs here, which has room "
                f"for {n_room}: ask for fewer workers, or start Ray with more"
            )
        return found

    @property
    def needs(self) -> str:
        """What a worker takes, in words."""
        return f"{self.cpus_per_worker:g} CPUs" + (
            f" and {self.gpus_per_worker:g} GPUs" if self.gpus_per_worker else ""
        )

    def n_room(self) -> int:
        """Count the workers that the nodes alive now have room for, were nothing else running on them."""
        return sum(self._fits(node["Resources"]) for node in ray.nodes() if node["Alive"])

    def _fits(self, resources: dict[str, float]) -> int:
        n_fits = n_shares(resources.get("CPU", 0.0), self.cpus_per_worker)
        if self.gpus_per_worker:
            n_fits = min(n_fits, n_shares(resources.get("GPU", 0.0), self.gpus_per_worker))
        return n_fits

    def leave(self) -> None:
        """Disconnect, and end what was started here."""
        if self.is_ours:
            ray.shutdown()


def _start(n_cpus: int) -> None:
    try:
        ray.init(
            address="local",
            num_cpus=n_cpus,
            include_dashboard=False,
            log_to_driver=False,
            logging_level=logging.ERROR,
        )
    except (RuntimeError, OSError, ValueError) as error:
        raise WorkersLost(
            f"Ray does not start here ({one_line(error)}): mend that, or search in one process with --executor local"
        ) from None


def _join(address: str) -> None:
    host, colon, port = address.rpartition(":")
    try:
        if colon and port.isdecimal() and "/" not in host:  # Ray itself would try for minutes
            socket.create_connection((host, int(port)), _REACH_S).close()
        ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR)
    except (RuntimeError, OSError, ValueError) as error:
        raise WorkersLost(
            f"no Ray cluster can be joined at {address!r} ({one_line(error)}): start one with ray start --head, or "
            "leave --ray-address out"
        ) from None


def one_line(error: Exception) -> str:
    """Name an error and what it says."""
    return " ".join(f"{type(error).__name__}: {error}".split())
