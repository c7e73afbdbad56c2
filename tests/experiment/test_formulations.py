"""Each formulation trains two steps, draws what it can, and refuses what it cannot."""

import runpy
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mmdiffusion_jax import experiment
from mmdiffusion_jax.generation import SamplingOptions

SMOKE = Path(__file__).resolve().parents[2] / "configs" / "smoke.py"


def config_of(formulation):
    config = runpy.run_path(str(SMOKE))["get_config"]()
    config.process.num_steps = 6
    config.backbone.width, config.backbone.depth = 16, 1
    config.formulation = formulation
    if formulation == "predict":
        config.predict = {"given": ("image",), "target": "label"}
    return config


@pytest.fixture(scope="module", params=["shared", "separate", "predict"])
def built(request):
    made = experiment.build(config_of(request.param))
    return made, jax.jit(made.init)(jax.random.key(0))


def batch_of(count):
    rows = np.arange(count)
    image = np.broadcast_to(
        (rows * 20 % 255).astype(np.uint8)[:, None, None, None], (count, 8, 8, 1)
    )
    return {"image": image, "label": (rows % 10).astype(np.int32)}


def test_gradients_reach_what_is_trained(built):
    made, params = built
    batch = {name: jnp.asarray(x) for name, x in batch_of(8).items()}
    key = jax.random.key(1)
    gradient = jax.jit(jax.grad(lambda params: made.loss(params, key, batch)[0]))(params)
    sizes = {
        name: sum(float(jnp.abs(leaf).sum()) for leaf in jax.tree.leaves(part))
        for name, part in gradient.items()
    }
    assert all(np.isfinite(size) for size in sizes.values())
    assert sizes["backbone"] > 0
    assert sizes["modalities_label"] > 0
    # Who only predicts labels learns nothing about how images are spread.
    assert (sizes["modalities_image"] > 0) == (made.formulation != "predict")


def test_labels_of_images(built):
    made, params = built
    image = batch_of(7)["image"]
    read = made.generate(jax.random.key(2), params, 7, {"image": image})
    assert read["label"].shape == (7,)
    np.testing.assert_array_equal(read["image"], image)


def test_images(built):
    made, params = built
    if made.formulation == "predict":
        with pytest.raises(ValueError, match=r"`given`: got .*all it predicts from"):
            made.generate(jax.random.key(2), params, 3)
        return
    for given in ({}, {"label": np.array([3, 1, 4], np.int32)}):
        samples = made.generate(jax.random.key(2), params, 3, given)
        assert samples["image"].shape == (3, 8, 8, 1)
        assert samples["image"].dtype == np.uint8


def test_augmented_examples_are_told_apart():
    config = config_of("shared")
    config.augmentation.rate = 0.5
    made = experiment.build(config)
    params = jax.jit(made.init)(jax.random.key(0))
    # A fresh network answers zero whatever it sees.
    params = jax.tree.map(lambda leaf: leaf + 0.1, params)
    key, batch = jax.random.key(1), {name: jnp.asarray(x) for name, x in batch_of(8).items()}
    loss = jax.jit(lambda batch: made.loss(params, key, batch)[0])
    plain = loss({**batch, "augmented": jnp.zeros(8, bool)})
    assert float(plain) == pytest.approx(float(loss(batch)), rel=1e-5)
    assert float(plain) != pytest.approx(float(loss({**batch, "augmented": jnp.ones(8, bool)})))


@pytest.mark.parametrize(
    ("formulation", "path", "value", "words"),
    [
        ("shred", None, None, "`config.formulation`: got 'shred'.*did you mean 'shared'"),
        ("predict", "predict.target", "labl", "`config.predict.target`.*did you mean 'label'"),
        ("predict", "predict.target", "image", "`config.predict.target`: got 'image'"),
        ("predict", "predict.given", (), "`config.predict.given`: got nothing"),
        ("predict", "predict.given", ("imge",), "`config.predict.given`: got 'imge'"),
        ("separate", "process.variance", "learned", "'posterior' where modalities diffuse"),
        ("separate", "loss.kind", "bound", "'simple' where modalities diffuse"),
        ("shared", "augmentation.rate", 1.5, "`config.augmentation.rate`: got 1.5"),
    ],
)
def test_bad_configs(formulation, path, value, words):
    config = config_of("shared" if formulation == "shred" else formulation)
    if path is None:
        config.formulation = formulation
    else:
        section, key = path.split(".")
        config[section][key] = value
    with pytest.raises(ValueError, match=words):
        experiment.check_config(config)


def test_what_separate_states_cannot_do():
    made = experiment.build(config_of("separate"))
    with pytest.raises(ValueError, match=r"`sampling.guidance`: got .* diffuse separately"):
        made.generator(SamplingOptions(guidance={"label": 2.0}))
