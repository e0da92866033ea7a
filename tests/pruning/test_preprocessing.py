from __future__ import annotations

import pytest
import timm
import torch
from PIL import Image

from pruning.preprocessing import Preprocessing
from tests.tiny import write_jpeg


@pytest.mark.parametrize("name", ["deit_small_patch16_224", "vit_small_patch16_224", "vit_base_patch16_clip_224"])
@pytest.mark.parametrize("size", [(300, 400), (500, 251)])
def test_storing_bytes_and_normalising_later_is_timms_transform(tmp_path, name, size):
    model = timm.create_model(name, depth=1)
    preprocessing = Preprocessing.of(model, (224, 224))
    declared = timm.data.create_transform(**timm.data.resolve_model_data_config(model), is_training=False)
    with Image.open(write_jpeg(tmp_path / "one.jpg", 1, size)) as image:
        expected = declared(image)
        pixels = torch.as_tensor(preprocessing.pixel_transform()(image))
        assert pixels.dtype == torch.uint8
        torch.testing.assert_close(preprocessing.normalise(pixels[None])[0], expected, atol=1e-6, rtol=0)
        torch.testing.assert_close(preprocessing.transform()(image), expected, atol=0, rtol=0)
