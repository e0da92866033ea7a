"""The evaluator that suits a model: of its class for each image, or of its class for each pixel."""

from __future__ import annotations

from objectives.evaluator import Evaluator
from objectives.images import PreparedImages
from objectives.metrics import Precision
from objectives.scenes import PreparedScenes
from objectives.segmentation import SegmentationEvaluator
from pruning.models import LoadedModel

__all__ = ["AnyEvaluator", "Measurable", "evaluator_of"]

AnyEvaluator = Evaluator | SegmentationEvaluator
Measurable = PreparedImages | PreparedScenes


def evaluator_of(
    loaded: LoadedModel,
    images: Measurable,
    *,
    device: str,
    batch_size: int,
    precision: Precision = "float32",
    cache_bytes: int = 0,
) -> AnyEvaluator:
    """Make the evaluator of a loaded model, on images prepared for it.

    Args:
        loaded: the model.
        images: with masks, if it is a segmenter.
        device: where to run.
        batch_size: images of one forward pass.
        precision: of matrix products.
        cache_bytes: memory for the dense tokens of a classifier; a segmenter's layouts begin with its first block.
    """
    if isinstance(images, PreparedScenes):
        return SegmentationEvaluator(
            loaded.model,
            loaded.name,
            images,
            loaded.preprocessing,
            device=device,
            batch_size=batch_size,
            precision=precision,
        )
    return Evaluator(
        loaded.model,
        loaded.name,
        images,
        loaded.preprocessing,
        device=device,
        batch_size=batch_size,
        precision=precision,
        cache_bytes=cache_bytes,
    )
