"""Running out of memory: how it is known, on whatever device."""

from __future__ import annotations

import torch

__all__ = ["is_out_of_memory"]

_OF_CPUS = "can't allocate memory"  # torch has no error of its own for them


def is_out_of_memory(error: BaseException) -> bool:
    """Say whether an error is that of an allocation which did not fit.

    >>> is_out_of_memory(MemoryError())
    True
    >>> is_out_of_memory(RuntimeError("mat1 and mat2 shapes cannot be multiplied"))
    False
    """
    if isinstance(error, (MemoryError, torch.OutOfMemoryError)):
        return True
    return isinstance(error, RuntimeError) and _OF_CPUS in str(error)
