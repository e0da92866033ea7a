"""What something was timed on, as plain data."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["Machine"]


@dataclass(frozen=True)
class Machine:
    """A machine and how a model was run on it: latencies of two that differ in any of it cannot be compared.

    Attributes:
        processor: the GPU's name, or the CPU's.
        threads: of the CPU.
        runtime: what ran the model, with its version and the precision.
        host: its name, which may change without making it another one.
    """

    processor: str
    threads: int
    runtime: str
    host: str

    def __str__(self) -> str:
        """Name it for people, without the host."""
        return f"{self.processor}, {self.threads} threads" if self.threads > 1 else f"{self.processor}, 1 thread"

    def is_like(self, other: Machine) -> bool:
        """Say whether what is timed on the one can be compared with what is timed on the other."""
        return (self.processor, self.threads, self.runtime) == (other.processor, other.threads, other.runtime)
