"""The parts of the U-Net, and its bad sizes."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.ndimage
import torch

from configs import common
from mmdiffusion_jax.networks import UNet
from mmdiffusion_jax.networks.unet import GroupNorm

SMALL = {
    "num_steps": 10,
    "width": 8,
    "channel_mults": (1, 2),
    "num_res_blocks": 1,
    "num_head_channels": 8,
    "num_groups": 4,
}


@pytest.mark.parametrize("size", [3.0, 3e-3])
def test_group_norm_equals_torch(size):
    draw = np.random.default_rng(0).normal
    grid = (size * (draw(size=(2, 4, 3, 8)) + 1)).astype(np.float32)
    gain, offset, scale, shift = (draw(size=(n, 8)).astype(np.float32) for n in (1, 1, 2, 2))
    params = {"params": {"scale": gain[0], "bias": offset[0]}}
    got = jax.jit(GroupNorm(4).apply)(params, grid, scale, shift)
    want = torch.nn.functional.group_norm(
        torch.tensor(grid).permute(0, 3, 1, 2), 4, *map(torch.tensor, (gain[0], offset[0]))
    )
    want = want.permute(0, 2, 3, 1).numpy() * (1 + scale[:, None, None]) + shift[:, None, None]
    np.testing.assert_allclose(got, want, atol=2e-5)


@pytest.mark.long
def test_patches_are_channels_of_a_smaller_map():
    coarse = UNet((4, 6, 12), out_channels=4, **SMALL)
    fine = UNet((8, 12, 3), out_channels=1, patch_size=2, **SMALL)
    z = np.random.default_rng(0).normal(size=(2, 8, 12, 3)).astype(np.float32)
    places = [(row, column) for row in range(2) for column in range(2)]
    stacked = np.concatenate([z[:, row::2, column::2] for row, column in places], axis=-1)
    t = jnp.array([1, 10])
    params = jax.jit(coarse.init)(jax.random.key(0), stacked, t)
    # The last layer starts at zero, which would equal anything.
    params["params"]["prediction"]["kernel"] += 0.1
    features, small = jax.jit(coarse.apply)(params, stacked, t)
    fine_features, large = jax.jit(fine.apply)(params, z, t)
    np.testing.assert_allclose(fine_features.grid, features.grid, atol=1e-5)
    assert large.shape == (2, 8, 12, 1)
    for channel, (row, column) in enumerate(places):
        np.testing.assert_allclose(
            large[:, row::2, column::2, 0], small[..., channel], rtol=1e-4, atol=1e-5
        )


@pytest.mark.long
def test_heads_of_whole_examples_read_the_smallest_map():
    """Its mean over the places, after a norm and an activation, in a layer of its own."""
    net = UNet((4, 4, 1), out_channels=1, bottleneck_features=True, **SMALL)
    draw = np.random.default_rng(0).normal
    z, t = draw(size=(2, 4, 4, 1)).astype(np.float32), jnp.array([1, 10])
    params = jax.jit(net.init)(jax.random.key(0), z, t)["params"]
    params = jax.tree.map(lambda x: x + 0.1 * draw(size=x.shape).astype(np.float32), params)
    kept = {"capture_intermediates": lambda module, _: module.name == "middle_1"}
    (features, prediction), seen = jax.jit(lambda p: net.apply({"params": p}, z, t, **kept))(params)

    plain = UNet((4, 4, 1), out_channels=1, **SMALL)
    others = {name: x for name, x in params.items() if not name.startswith("bottleneck")}
    without, same = jax.jit(lambda p: plain.apply({"params": p}, z, t))(others)
    np.testing.assert_array_equal(prediction, same)
    np.testing.assert_array_equal(features.grid, without.grid)

    smallest = seen["intermediates"]["middle_1"]["__call__"][0]
    norm, layer = (jax.tree.map(np.asarray, params[f"bottleneck{x}"]) for x in ("_norm", ""))
    normed = torch.nn.functional.group_norm(
        torch.tensor(np.asarray(smallest)).permute(0, 3, 1, 2),
        4,
        *(torch.tensor(norm[name]) for name in ("scale", "bias")),
    )
    pooled = torch.nn.functional.silu(normed).mean((2, 3)).numpy()
    want = without.condition + pooled @ layer["kernel"] + layer["bias"]
    np.testing.assert_allclose(features.summary, want, atol=2e-5)
    np.testing.assert_array_equal(features.condition, without.condition)
    pooled = np.asarray(features.grid).mean(axis=(1, 2))
    np.testing.assert_allclose(features.pooled, pooled + want, atol=2e-5)
    np.testing.assert_allclose(without.pooled, pooled + without.condition, atol=2e-5)


@pytest.mark.long
def test_filters_of_the_state_are_added_to_the_prediction():
    """Each is a correlation with 3 × 3 patches, weighted by t: so is the noise of white data."""
    net = UNet((8, 12, 2), out_channels=2, patch_size=2, skip_filters=3, **SMALL)
    plain = net.clone(skip_filters=0)
    draw = np.random.default_rng(0).normal
    z, t = draw(size=(2, 8, 12, 2)).astype(np.float32), jnp.array([1, 10])
    params = jax.jit(net.init)(jax.random.key(0), z, t)["params"]
    others = {name: x for name, x in params.items() if not name.startswith("skip_")}
    run, without = jax.jit(net.apply), jax.jit(plain.apply)
    # They start with no weight.
    np.testing.assert_array_equal(run({"params": params}, z, t)[1], 0)
    np.testing.assert_array_equal(without({"params": others}, z, t)[1], 0)

    params["skip_weights"]["bias"] = draw(size=3 * 8).astype(np.float32)
    places = [(row, column) for row in range(2) for column in range(2)]
    stacked = np.concatenate([z[:, row::2, column::2] for row, column in places], axis=-1)
    kernel = np.asarray(params["skip_filters"]["kernel"])
    weights = params["skip_weights"]["bias"].reshape(3, 8)
    want = np.zeros((2, 4, 6, 8))
    for example in range(2):
        for filter_index, value, channel in np.ndindex(3, 8, 8):
            window = kernel[:, :, channel, 8 * filter_index + value]
            filtered = scipy.ndimage.correlate(
                stacked[example, ..., channel], window, mode="constant"
            )
            want[example, ..., value] += weights[filter_index, value] * filtered
    got = run({"params": params}, z, t)[1]
    for index, (row, column) in enumerate(places):
        np.testing.assert_allclose(
            got[:, row::2, column::2], want[..., 2 * index : 2 * index + 2], rtol=1e-4, atol=1e-4
        )

    params["skip_weights"]["kernel"] = draw(size=params["skip_weights"]["kernel"].shape)
    by_t = np.asarray(run({"params": params}, np.repeat(z[:1], 2, axis=0), t)[1])
    assert np.abs(by_t[0] - by_t[1]).max() > 0.1


def test_heights_of_no_map_are_warned_of_once(caplog):
    net = UNet((8, 8, 1), 1, attention_resolutions=(8, 3), **SMALL)
    with caplog.at_level("WARNING", "absl"):
        for _ in range(2):
            jax.eval_shape(net.init, jax.random.key(0), jnp.zeros((1, 8, 8, 1)), jnp.array([1]))
    assert (
        caplog.text.count("heights 3, which no map has: the maps of this U-Net have 8, 4 ro") == 1
    )
    caplog.clear()
    with caplog.at_level("WARNING", "absl"):
        for options in ({}, {"attention_resolutions": ()}, {"attention_resolutions": (32, 16)}):
            UNet((32, 32, 1), 1, **SMALL, **options).check()
    assert not caplog.text


def test_the_network_of_camvid_is_the_one_that_named_a_height_of_no_map():
    """The shipped config named 8 before, and its runs go on with it."""
    config = common.small_camvid()
    fields = config.backbone.to_dict()
    assert (fields.pop("kind"), fields["attention_resolutions"]) == ("unet", ())
    nets = (
        UNet(config.latent, 3, 100, **{**fields, **more})
        for more in ({}, {"attention_resolutions": (8,)})
    )
    inputs = jnp.zeros((1, *config.latent)), jnp.array([1])
    now, before = (jax.eval_shape(net.init, jax.random.key(0), *inputs) for net in nets)
    assert now == before


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"skip_filters": -1}, "`skip_filters`: got -1, expected"),
        ({"patch_size": 3}, r"`patch_size`: got 3, expected a divisor of .* \(8, 8\)"),
        (
            {"patch_size": 2, "channel_mults": (1, 1, 1, 1)},
            r"`channel_mults`: got \(1, 1, 1, 1\), .*halve the sides \(4, 4\)",
        ),
        ({"channel_mults": (1, 1, 1, 1, 1)}, r"`channel_mults`: got \(1, 1, 1, 1, 1\), .*halve"),
        ({"num_groups": 12}, "`num_groups`: got 12, expected a divisor of the 32 channels"),
        ({"dtype": "half"}, "`dtype`: got 'half', expected one of 'bfloat16', 'float32'"),
        ({"remat": "nothing"}, "`remat`: got 'nothing'.*did you mean 'nothing_saveable'"),
        ({"num_head_channels": 48}, "`num_head_channels`: got 48, .* of the 64 channels"),
    ],
)
def test_bad_sizes(options, words):
    net = UNet((8, 8, 1), 1, num_steps=10, **{"width": 32, **options})
    with pytest.raises(ValueError, match=words):
        jax.eval_shape(net.init, jax.random.key(0), jnp.zeros((1, 8, 8, 1)), jnp.array([1]))
