"""A config that diffuses secondaries, from training to samples and bounds."""

import jax
import numpy as np
import pytest
from ml_collections import ConfigDict

from configs import smoke
from mmdiffusion_jax import experiment, objective
from mmdiffusion_jax.model import Diffusion

KINDS = {
    "audio": {"kind": "audio", "frames": 8, "mels": 8, "encoder": "values"},
    "mask": {"kind": "segmentation", "num_classes": 2},
    "embedding": {"kind": "embedding", "dims": 4},
    "copy": {"kind": "image", "num_levels": 17},
}


def config_with(*names, **changes):
    config = smoke.get_config()
    config.process.num_steps, config.sampling.num_steps = 8, 4
    config.backbone.width, config.backbone.depth = 16, 1
    for name in names:
        config.modalities[name] = ConfigDict(KINDS[name])
        config.process.weights[name] = ConfigDict({"rule": "bump", "scale": 0.5})
    config.diffused = names
    config.update(changes)
    return config


def batch_of(num, names):
    rng = np.random.default_rng(0)
    levels = np.round(rng.integers(0, 17, (num, 8, 8, 1)) * (255 / 16)).astype(np.uint8)
    values = {
        "image": levels,
        "label": np.arange(num) % 10,
        "audio": rng.uniform(-1, 1, (num, 8, 8)).astype(np.float32),
        "mask": rng.integers(0, 2, (num, 8, 8)),
        "embedding": rng.normal(size=(num, 4)).astype(np.float32),
        "copy": levels[::-1],
    }
    return {name: values[name] for name in ("image", "label", *names)}


@pytest.mark.long
def test_each_kind_is_trained_drawn_and_bounded():
    names = tuple(KINDS)
    built = experiment.build(config_with(*names))
    assert built.model.diffuses == tuple(sorted(names))
    params = jax.jit(built.init)(jax.random.key(0))
    batch = batch_of(64, names)
    (loss, scalars), gradient = jax.jit(jax.value_and_grad(built.loss, has_aux=True))(
        params, jax.random.key(1), batch
    )
    assert np.isfinite(loss)
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(gradient))
    for name in ("image", *names):
        assert float(scalars[f"{name}/squared_error"].count) > 0
    samples = built.generate(jax.random.key(2), params, 3, {"label": np.array([1, 2, 3])})
    assert set(samples) == {"image", "label", *names}
    for name in names:
        built.model.modalities[name].validate(name, samples[name])
    few = {name: x[:3] for name, x in batch.items()}
    diffusion = Diffusion(built.process, built.model.functions(params))
    for name in names:
        terms = jax.jit(
            lambda key, name=name: objective.bound(
                key, diffusion, few, given=("image", "label"), order=[name]
            )
        )(jax.random.key(3))
        # The steps back are compared, and the first state is read.
        assert (np.asarray(terms.posterior) > 0).all(), name
        assert (np.asarray(terms.reconstruction) != 0).all(), name
        assert (np.asarray(terms.recovery) == 0).all(), name


def test_samples_of_one_key_do_not_share_their_noise():
    """Else an image and a copy of it drawn after it would begin from one and the same state."""
    built = experiment.build(config_with("copy"))
    params = jax.jit(built.init)(jax.random.key(0))
    generate = built.generator(experiment.SamplingOptions(num_steps=2))
    samples = generate(jax.random.key(2), params, 50)
    pair = [samples[name].astype(float).ravel() for name in ("image", "copy")]
    assert abs(np.corrcoef(pair)[0, 1]) < 0.2


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"diffused": ("image",)}, "`config.diffused`: got 'image'"),
        ({"diffused": ("imge",)}, "`config.diffused`: got 'imge'"),
        ({"diffused": ("label",)}, "`config.diffused`: got 'label', whose encoding does not hold"),
        ({"formulation": "separate"}, r"`config.diffused`: got \('audio',\), expected nothing but"),
    ],
)
def test_what_cannot_be_diffused_ends_in_one_line(change, words):
    config = config_with("audio")
    config.update(change)
    with pytest.raises(ValueError, match=words):
        experiment.build(config)
