"""The sheets of a comparison: figures are not lost to a picture that cannot be drawn."""

import types

import numpy as np
from PIL import Image

from mmdiffusion_jax import modalities
from mmdiffusion_jax.apps.compare_arms import _draw


def test_a_sheet_that_fails_is_a_warning(tmp_path, caplog):
    image = modalities.Image(latent=(8, 8, 1), is_primary=True)
    model = types.SimpleNamespace(modalities={"image": image})
    _draw(model, {"unknown": np.zeros((2, 8, 8, 1), np.uint8)}, tmp_path / "bad.png")
    assert f"The picture {tmp_path / 'bad.png'} is left out: 'unknown'" in caplog.text
    assert not (tmp_path / "bad.png").exists()
    _draw(model, {"image": np.zeros((2, 8, 8, 1), np.uint8)}, tmp_path / "good.png")
    with Image.open(tmp_path / "good.png") as sheet:
        assert sheet.size[0] > 90
