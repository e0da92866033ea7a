"""What pruning does to a model. Needs torch, timm and ``spaces``, nothing else of prunefront."""

from pruning.apply import Pruning, prune, pruned, read_architecture
from pruning.bundle import load

__all__ = ["Pruning", "load", "prune", "pruned", "read_architecture"]
