"""Each formulation trains two steps, draws what it can, and refuses what it cannot."""

import dataclasses
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats
from ml_collections import ConfigDict

from configs import smoke
from mmdiffusion_jax import baselines, experiment, sampling
from mmdiffusion_jax.experiment import SamplingOptions
from mmdiffusion_jax.model import Prediction


def config_of(formulation):
    config = smoke.get_config()
    config.process.num_steps = 3
    config.backbone.width, config.backbone.depth = 16, 1
    config.formulation = formulation
    if formulation == "predict":
        config.predict = {"given": ("image",), "target": "label"}
    return config


@pytest.fixture(scope="module", params=["shared", "separate", "predict"])
def built(request):
    instance = experiment.build(config_of(request.param))
    return instance, jax.jit(instance.init)(jax.random.key(0))


def batch_of(count):
    rows = np.arange(count)
    levels = np.round(rows % 17 * (255 / 16)).astype(np.uint8)
    image = np.broadcast_to(levels[:, None, None, None], (count, 8, 8, 1))
    return {"image": image, "label": (rows % 10).astype(np.int32)}


def test_gradients_reach_what_is_trained(built):
    instance, params = built
    batch = {name: jnp.asarray(x) for name, x in batch_of(64).items()}
    key = jax.random.key(1)
    gradient = jax.jit(jax.grad(lambda params: instance.loss(params, key, batch)[0]))(params)
    sizes = {
        name: sum(float(jnp.abs(leaf).sum()) for leaf in jax.tree.leaves(part))
        for name, part in gradient.items()
    }
    assert all(np.isfinite(size) for size in sizes.values())
    assert sizes["backbone"] > 0
    assert sizes["modalities_label"] > 0
    # Who only predicts labels learns nothing about how images are spread.
    assert (sizes["modalities_image"] > 0) == (not instance.formulation.predicts_from)


def test_labels_of_images(built):
    instance, params = built
    image = batch_of(7)["image"]
    read = instance.generate(jax.random.key(2), params, 7, {"image": image})
    assert read["label"].shape == (7,)
    np.testing.assert_array_equal(read["image"], image)


def test_images(built):
    instance, params = built
    if instance.formulation.predicts_from:
        with pytest.raises(ValueError, match=r"`given`: got .*all that the network sees"):
            instance.generate(jax.random.key(2), params, 3)
        return
    given = {"label": np.array([3, 1, 4], np.int32)}
    samples = instance.generate(jax.random.key(2), params, 3, given)
    assert samples["image"].shape == (3, 8, 8, 1)
    assert samples["image"].dtype == np.uint8
    np.testing.assert_array_equal(samples["label"], given["label"])


def restorer():
    """A predictor of masked images from themselves, drawn parameters, and five masked images."""
    config = config_of("predict")
    masked = {"kind": "masked_image", "num_squares": 1, "square_size": 4}
    config.modalities["masked_image"] = masked
    for section, value in (("process.weights", {"rule": "bump", "scale": 0.5}), ("loss.scales", 1)):
        outer, inner = section.split(".")
        config[outer][inner]["masked_image"] = value
    config.predict = {"given": ("masked_image",), "target": "masked_image"}
    instance = experiment.build(config)
    params = jax.jit(instance.init)(jax.random.key(0))
    # Drawn, as one number in every place can make all pixels white.
    draw = np.random.default_rng(1).normal
    params = jax.tree.map(lambda leaf: leaf + 0.1 * draw(size=leaf.shape), params)
    images = batch_of(5)["image"] + np.arange(64, dtype=np.uint8).reshape(8, 8, 1)
    x = instance.model.modalities["masked_image"].derive(np.random.default_rng(0), images)
    return instance, params, images, x


def test_a_restorer_makes_whole_images():
    """From a masked image it makes an image of each; what is under the squares plays no part.

    The visible pixels stay as they are.
    """
    instance, params, images, x = restorer()
    samples = instance.generate(jax.random.key(1), params, 5, {"masked_image": x})
    assert set(samples) == {"image", "masked_image"}
    np.testing.assert_array_equal(samples["masked_image"], x)
    functions = instance.model.functions(params)
    head = baselines.predict(functions, {"masked_image": x}, ["masked_image"], "masked_image")
    want = np.clip(127.5 * (np.asarray(head["mean"]) + 1), 0, 255)
    visible = np.broadcast_to(x[..., -1:] == 255, images.shape)
    np.testing.assert_array_equal(samples["image"][visible], images[visible])
    np.testing.assert_allclose(samples["image"][~visible], want[~visible], atol=0.51)
    assert want.std() > 1
    emptied = np.where(x[..., -1:] == 255, x, 0)
    again = instance.generate(jax.random.key(1), params, 5, {"masked_image": emptied})
    np.testing.assert_array_equal(again["image"], samples["image"])


def test_a_restorer_learns_what_is_hidden_and_nothing_else():
    """The mean over the hidden pixels' bins, from normal tails; visible ones have no gradient."""
    instance, params, images, x = restorer()
    batch = {**batch_of(5), "image": images, "masked_image": x}
    loss, scalars = instance.formulation.loss(params, jax.random.key(0), batch).reduce()
    functions = instance.model.functions(params)
    head = baselines.predict(functions, {"masked_image": x}, ["masked_image"], "masked_image")
    law = scipy.stats.norm(head["mean"], np.exp(np.asarray(head["log_std"], np.float64)))
    centre = images / 127.5 - 1
    upper = np.where(images == 255, np.inf, centre + 1 / 255)
    lower = np.where(images == 0, -np.inf, centre - 1 / 255)
    # The difference of two tails, from the side where both are small.
    above = centre > law.mean()
    larger = np.where(above, law.logsf(lower), law.logcdf(upper))
    smaller = np.where(above, law.logsf(upper), law.logcdf(lower))
    nats = -larger - np.log1p(-np.exp(smaller - larger))
    hidden = np.broadcast_to(x[..., -1:] == 0, images.shape)
    np.testing.assert_allclose(loss, nats[hidden].sum() / x.size, rtol=1e-4)
    assert scalars["masked_image/loss"].value == loss

    def with_means(mean):
        """The loss, and with it the gradient, of a network that gives these means."""
        changed = dataclasses.replace(
            functions,
            denoise=lambda z, t, roles=None: Prediction(
                z, {"masked_image": {**head, "mean": mean}}
            ),
        )
        terms = baselines.prediction_loss_terms(
            changed, batch, given=["masked_image"], target="masked_image"
        )
        return terms.reduce()[0]

    gradient = np.asarray(jax.grad(with_means)(head["mean"]))
    np.testing.assert_allclose(gradient[~hidden], 0, atol=1e-6)
    assert np.abs(gradient[hidden]).max() > 0.01


def test_augmented_examples_are_told_apart():
    config = config_of("shared")
    config.augmentation = {"rate": 0.5, "num_squares": 1, "square_size": 4}
    instance = experiment.build(config)
    params = jax.jit(instance.init)(jax.random.key(0))
    batch = {name: jnp.asarray(x) for name, x in batch_of(8).items()}
    loss = jax.jit(lambda params: instance.loss(params, jax.random.key(1), batch)[0])
    assert np.isfinite(float(loss(params)))
    # A fresh network answers zero whatever it sees.
    params = jax.tree.map(lambda leaf: leaf + 0.1, params)
    z, t = jnp.ones((2, 8, 8, 1)), jnp.array([3, 3])

    def values(augmented):
        return instance.model.functions(params, augmented).predict(z, t).value

    told = jax.jit(values)(jnp.array([0.0, 1.0]))
    assert float(jnp.abs(told[0] - told[1]).max()) > 1e-3
    np.testing.assert_allclose(jax.jit(lambda: values(None))()[0], told[0], rtol=1e-5)


@pytest.mark.parametrize(
    ("formulation", "path", "value", "words"),
    [
        ("shred", None, None, "`config.formulation`: got 'shred'.*did you mean 'shared'"),
        ("predict", "predict.target", "labl", "`config.predict.target`.*did you mean 'label'"),
        ("predict", "predict.target", "image", "`config.predict.target`: got 'image'"),
        ("predict", "predict.given", (), "`config.predict.given`: got nothing"),
        ("predict", "predict.given", ("label",), "`config.predict.given`.*itself"),
        ("predict", "predict.given", ("imge",), "`config.predict.given`: got 'imge'"),
        ("separate", "process.variance", "learned", "'posterior' where modalities diffuse"),
        ("separate", "loss.kind", "bound", "'simple' where modalities diffuse"),
        ("separate", "augmentation.rate", 0.5, "`config.augmentation.rate`: got 0.5, .*0.0 where"),
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


@pytest.mark.parametrize(
    "formulation", ["shared", pytest.param("separate", marks=pytest.mark.long)]
)
def test_latents_are_not_clipped_unless_asked(formulation):
    """An untrained network reads clean states far from [−1, 1]."""
    config = config_of(formulation)
    config.modalities.image = {"kind": "latent_image"}
    instance = experiment.build(config)
    params = jax.jit(instance.init)(jax.random.key(0))
    drawn = {
        threshold: instance.generator(SamplingOptions(threshold=threshold))(
            jax.random.key(0), params, 4
        )["image"]
        for threshold in ("auto", "static")
    }
    assert instance.sampling.threshold == "auto"
    assert np.abs(drawn["auto"]).max() > 1
    assert np.abs(drawn["static"]).max() < 1 + 1e-5


@pytest.mark.parametrize("shares", [{}, {"image": 1.0, "label": 0.0}, {"image": 1.0, "label": 1.0}])
def test_images_are_clipped_where_they_alone_make_up_the_clean_state(shares, monkeypatch):
    config, plain, asked = config_of("shared"), sampling.static_threshold, []
    config.process.shares = shares

    def spied(names):
        asked.extend(names)
        return plain(names=names)

    monkeypatch.setattr(sampling, "static_threshold", spied)
    instance = experiment.build(config)
    asked.clear()
    shape = jax.eval_shape(jax.jit(instance.init), jax.random.key(0))
    keys = jax.random.split(jax.random.key(0), 2)
    jax.eval_shape(lambda params: instance.formulation.sample(keys, params, {}), shape)
    assert ("image" in asked) == (not shares.get("label"))


@pytest.mark.parametrize("formulation", ["separate", "predict"])
def test_a_trajectory_needs_one_diffusion_space(formulation):
    instance = experiment.build(config_of(formulation))
    with pytest.raises(
        ValueError, match=f"`trajectory`: got a run of the formulation '{formulation}'"
    ):
        instance.trajectory(jax.random.key(0), {}, 2, {}, 2)


def test_what_separate_states_cannot_do():
    instance = experiment.build(config_of("separate"))
    with pytest.raises(ValueError, match=r"`sampling.guidance`: got .* diffuse separately"):
        instance.generator(SamplingOptions(guidance={"label": 2.0}))


IGNORED = {
    "loss.timesteps": "stratified",
    "loss.logit_normal": (0.0, 1.0),
    "loss.dropout": {"label": 0.3},
    "loss.pure_noise": 0.5,
    "loss.shown_noise": {"label": 0.5},
    "loss.believed": ("label",),
    "sampling.threshold": "dynamic",
    "sampling.autoguidance": 3.0,
    "sampling.order": ("label", "image"),
    "sampling.unknown": "estimated",
    "sampling.shown_levels": {"label": (0.5,)},
    "sampling.estimate": "draw",
    "sampling.read": "draw",
    "sampling.corrections": 2,
    "primary_as_state": True,
}


def with_value(config, path, value):
    *outer, key = path.split(".")
    section = config
    for name in outer:
        section = section[name]
    section[key] = value
    return config


@pytest.mark.parametrize("path", IGNORED)
def test_separate_states_refuse_what_they_ignore_and_their_arm_leaves_it_out(path, caplog):
    config = with_value(config_of("separate"), path, IGNORED[path])
    words = rf"`config.{path}`: got .*, expected .* where modalities diffuse separately; change it"
    with pytest.raises(ValueError, match=words):
        experiment.check_config(config)
    with caplog.at_level("INFO", "absl"):
        want = baselines.make_arm(config_of("shared"), "separate")["joint"]
        assert not caplog.text
        shared = with_value(config_of("shared"), path, IGNORED[path])
        part = baselines.make_arm(shared, "separate")["joint"]
    assert caplog.text.count(f"The arm 'separate' leaves out {path}, of which") == 1
    settings = experiment.check_config(part)
    if path == "sampling.threshold":
        # As near as they come, and what they have always made of it.
        assert settings.sampling.threshold == "static"
        want.sampling.threshold = "static"
    assert settings == experiment.check_config(want)


def test_separate_states_take_what_they_can_and_rates_of_zero():
    for threshold in ("auto", "none", "static"):
        config = with_value(config_of("separate"), "sampling.threshold", threshold)
        limit = experiment.build(config).formulation.limit
        assert limit == (None if threshold == "none" else 1.0)
    config = config_of("separate")
    config.loss.dropout = config.loss.shown_noise = {"label": 0.0}
    config.loss.weighting, config.loss.scales = "p2", {"label": 0.2}
    experiment.check_config(config)


def test_a_config_from_a_file_leaves_out_the_same():
    """Files have lists in place of tuples."""
    values = json.loads(json.dumps(experiment.read_settings(config_of("shared")).to_dict()))
    values["loss"] |= {"tasks": {}, "dropout": {"label": 0.2}, "logit_normal": [0.0, 1.0]}
    left_out = baselines.leave_unused_out(values)
    assert left_out == ["loss.dropout", "loss.logit_normal"]
    assert not baselines.unused_by_separate(values)
    experiment.check_config(ConfigDict({**values, "formulation": "separate"}))


def test_a_stored_config_of_separate_states_that_kept_what_they_ignore_is_read():
    values = config_of("separate").to_dict()
    plain = experiment.config_of(values)
    values["loss"]["dropout"] = {"label": 0.2}
    assert experiment.config_of(values) == plain
    assert values["loss"]["dropout"] == {"label": 0.2}
