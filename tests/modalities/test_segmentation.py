"""Masks: void, codes, colours and the fields' errors."""

import jax
import jax.numpy as jnp
import matplotlib
import numpy as np
import pytest
import torch
from ml_collections import ConfigDict

from configs import smoke
from mmdiffusion_jax import experiment, sampling
from mmdiffusion_jax.modalities import Segmentation
from mmdiffusion_jax.modalities.palettes import PALETTES, class_colours, value_colours

MASK = Segmentation(latent=(4, 6, 3), num_classes=5, void=5, palette="camvid")
X = np.random.default_rng(0).integers(0, 6, (2, 4, 6))


def test_void_is_encoded_to_zero_and_counts_nothing():
    """Against PyTorch's cross entropy with its `ignore_index`."""
    variables = MASK.init(jax.random.key(0), X, method="encode")
    encoding = np.asarray(MASK.apply(variables, X, method="encode"))
    assert (encoding[X == 5] == 0).all()
    np.testing.assert_allclose((encoding[X != 5] ** 2).mean(-1), 1, rtol=1e-4)
    logits = np.random.default_rng(1).normal(size=(2, 4, 6, 5)).astype(np.float32)
    want = torch.nn.functional.cross_entropy(
        torch.tensor(logits).permute(0, 3, 1, 2), torch.tensor(X), ignore_index=5, reduction="none"
    )
    got = MASK.log_prob(jnp.asarray(logits), jnp.asarray(X))
    np.testing.assert_allclose(got, -want.sum((1, 2)), rtol=1e-5)


def test_equal_classes_have_equal_codes_wherever_they_are():
    variables = MASK.init(jax.random.key(0), X, method="encode")
    encoding = np.asarray(MASK.apply(variables, X, method="encode"))
    for value in range(6):
        codes = np.unique(encoding[value == X], axis=0)
        assert len(codes) == 1


@pytest.mark.parametrize("seed", range(8))
def test_two_classes_in_one_channel_are_told_apart_by_every_seed(seed):
    mask = Segmentation(latent=(1, 2, 1), num_classes=2)
    code, _ = mask.init_with_output(jax.random.key(seed), jnp.array([[[0, 1]]]), method="encode")
    assert code.ravel().tolist() == [-1, 1]


def test_a_mask_of_pixels_is_one_of_all_their_channels():
    """The encoding of another mask differs in no entry that equal pixels determine."""
    variables = MASK.init(jax.random.key(0), X, method="encode")
    other = np.where(X == 2, 3, X)
    code, changed = (np.asarray(MASK.apply(variables, x, method="encode")) for x in (X, other))
    kept = np.asarray(MASK.latent_mask(jnp.asarray(other == X)))
    assert kept.shape == code.shape
    np.testing.assert_array_equal(code == changed, kept)


def test_a_part_of_a_diffused_mask_stays():
    """With its void, which is the value that the part has there."""
    config = smoke.get_config()
    config.process.num_steps = 4
    config.backbone.width, config.backbone.depth = 16, 1
    config.latent, config.primary = (8, 8, 2), "mask"
    mask = {"kind": "segmentation", "num_classes": 3, "void": 3}
    config.modalities = ConfigDict({"mask": mask})
    config.process.weights = config.loss.scales = config.loss.dropout = ConfigDict({})
    built = experiment.build(config)
    params = jax.jit(built.init)(jax.random.key(0))
    x = np.random.default_rng(0).integers(0, 4, (3, 8, 8))
    left = np.broadcast_to(np.arange(8) < 4, x.shape)
    fixed = {"mask": sampling.Fixed(x, left)}
    samples = built.generate(jax.random.key(1), params, 3, fixed=fixed)["mask"]
    np.testing.assert_array_equal(samples[left], x[left])
    assert (samples[~left] != x[~left]).any()
    assert set(np.unique(samples[~left])) <= {0, 1, 2}


def test_colours():
    shown = MASK.show(X)
    assert shown[0].shape == (4, 6, 3)
    assert (shown[1][X[1] == 5] == 0).all()
    assert (shown[1][X[1] == 3] == (128, 64, 128)).all()
    assert {name: len(colours) for name, colours in PALETTES.items()} == {
        "tab": 10,
        "camvid": 11,
        "cityscapes": 19,
    }
    tab = np.round(255 * np.array(matplotlib.colormaps["tab10"].colors))
    np.testing.assert_array_equal(class_colours("tab", np.arange(12)), tab[np.arange(12) % 10])
    for colours in PALETTES.values():
        assert len(np.unique(colours, axis=0)) == len(colours)


def test_values_are_shown_in_viridis():
    values = np.linspace(-1, 1, 101)
    want = 255 * matplotlib.colormaps["viridis"]((values + 1) / 2)[:, :3]
    assert np.abs(value_colours(values) - want).max() < 20


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"palette": "camvit"}, "`palette`: got 'camvit', .* did you mean 'camvid'"),
        ({"void": 1}, "`void`: got 1, expected an integer outside the classes 0 … 1"),
        ({"num_classes": 3}, "`num_classes`: got 3, expected at most 2 in a latent of one channel"),
    ],
)
def test_bad_fields(fields, words):
    with pytest.raises(ValueError, match=words):
        Segmentation(latent=(4, 4, 1), **fields)


def test_a_successor_marks_unknown_pixels_by_the_same_integer():
    def masks(**fields):
        return Segmentation(latent=(4, 4, 3), **fields)

    deployed = masks(num_classes=3, void=255)
    deployed.check_successor("mask", masks(num_classes=5, void=255))
    masks(num_classes=3).check_successor("mask", deployed)
    for void in (None, 254):
        words = rf"`config.modalities.mask`: got {void} for classes .* expected 255, as deployed"
        with pytest.raises(ValueError, match=words):
            deployed.check_successor("mask", masks(num_classes=5, void=void))
