"""The pictures that a job made, drawn when they are asked for."""

from __future__ import annotations

from dashboard.scene_pictures import WAYS, draw_scene
from dashboard.token_pictures import draw_layer
from storage.database import NotThere
from storage.jobs import Jobs

__all__ = ["draw_picture"]


def draw_picture(jobs: Jobs, job_id: int, image: int, layer: int) -> bytes:
    """Draw an image of a pictures job as PNG.

    Args:
        jobs: of the store.
        job_id: of the job.
        image: its number.
        layer: 0 for the image as the model sees it. Of a classifier, n for what its n-th pruning layer leaves; of a
            segmenter, 1 to 3 for what truth, dense and pruned model say of it, and 4 for where its tokens left.

    Raises:
        NotThere: the job has no such picture.
    """
    job = jobs.get(job_id)
    content = jobs.file(job_id, f"image-{image}.png")
    if content is None or job.result is None:
        raise NotThere(f"job {job_id} has no picture {image}")
    if layer == 0:
        return content
    is_of_scenes = "after" in job.result
    n_layers = len(WAYS) + 1 if is_of_scenes else len(job.result["images"][image]["layers"])
    if layer > n_layers:
        raise NotThere(f"picture {image} of job {job_id} has {n_layers} layers, got {layer}")
    if not is_of_scenes:
        return draw_layer(job.result, content, image, layer)
    files = {way: jobs.file(job_id, f"{way}-{image}.png") or b"" for way in WAYS}
    return draw_scene(job.result, {"image": content, **files}, image, layer)
