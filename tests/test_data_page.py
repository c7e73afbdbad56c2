"""The example of docs/data.md runs as it stands: vectors of numbers are trained on."""

import re
from pathlib import Path

import jax
import numpy as np

from mmdiffusion_jax import data, experiment, training

PAGE = (Path(__file__).resolve().parents[1] / "docs" / "data.md").read_text(encoding="utf-8")


def test_vectors_of_numbers(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    names: dict = {}
    blocks = re.findall(r"```python\n(.*?)```", PAGE, re.S)
    (code,) = (block for block in blocks if "config.latent = (1, " in block)
    exec(code, names)
    config = names["config"]
    # Smaller than a user's, as it is compiled here.
    config.backbone.width, config.backbone.depth, config.process.num_steps = 16, 1, 3
    config.training.batch_size = 8
    built = experiment.build(config)
    train, _ = experiment.open_data(config)
    np.testing.assert_allclose(
        train.take(np.arange(4))["numbers"].reshape(4, 12), names["measured"][:4], rtol=1e-6
    )
    step, state = experiment.make_step_and_state(built, training.make_mesh())
    batch = next(data.train_batches(train, batch_size=8, seed=0))
    state, report = step(state, jax.device_put(data.select(batch, built.model.modalities)))
    assert np.isfinite(report.scalars["loss"])
