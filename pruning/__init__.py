"""What pruning does to a model. Needs torch, timm and ``spaces``, nothing else of prunefront."""

from pruning.apply import Pruning, prune, pruned, read_architecture

__all__ = ["Pruning", "prune", "pruned", "read_architecture"]
