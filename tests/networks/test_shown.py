"""What a network is shown beside z_t, in every backbone."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mmdiffusion_jax.modalities import Image, Label
from mmdiffusion_jax.model import all_carried, query_roles
from mmdiffusion_jax.networks import DiT, MultiModalModel, UNet, UViT

LATENT = (8, 8, 1)
BACKBONES = {
    "dit": DiT(LATENT, 1, num_steps=10, width=16, depth=1, num_heads=2),
    "uvit": UViT(LATENT, 1, num_steps=10, width=16, depth=3, num_heads=2),
    "unet": UNet(LATENT, 1, num_steps=10, width=32, channel_mults=(1,), num_res_blocks=1),
}
Z, T = jax.random.normal(jax.random.key(5), (2, *LATENT)), jnp.array([3, 7])
NAMES = ("image", "label")
# What a model is initialised with.
INPUTS = (
    {"image": jnp.zeros((1, 8, 8, 1), jnp.uint8), "label": jnp.zeros((1,), jnp.int32)},
    jnp.ones((1,), jnp.int32),
)


def model_of(kind, shows):
    modalities = {
        "image": Image(latent=LATENT, is_primary=True, num_levels=17),
        "label": Label(latent=LATENT, num_classes=10),
    }
    return MultiModalModel(modalities, BACKBONES[kind], "image", shows=shows)


def predictor(model):
    """The prediction about these states, as a function of the parameters."""
    return jax.jit(lambda tree: model.functions(tree).predict(Z, T, all_carried(NAMES, 2)))


@functools.cache
def parameters(kind):
    model = model_of(kind, NAMES)
    tree = jax.jit(model.init)(jax.random.key(0), *INPUTS)["params"]
    # Away from the zeros that networks start with, those of the new inputs aside.
    leaves = jax.tree_util.tree_flatten_with_path(tree)[0]
    keys = jax.random.split(jax.random.key(1), len(leaves))
    noisy = {}
    for key, (path, leaf) in zip(keys, leaves, strict=True):
        name = jax.tree_util.keystr(path)
        is_new = "shown" in name
        noisy[name] = leaf if is_new else leaf + 0.1 * jax.random.normal(key, leaf.shape)
    paths = jax.tree_util.tree_structure(tree)
    return jax.tree_util.tree_unflatten(paths, list(noisy.values()))


def learned(tree):
    """The same parameters, but that those of the new inputs are not zero."""
    return jax.tree_util.tree_map_with_path(
        lambda path, x: x + 1.0 if "shown" in jax.tree_util.keystr(path) else x, tree
    )


def without_new(tree):
    if not isinstance(tree, dict):
        return tree
    return {name: without_new(x) for name, x in tree.items() if "shown" not in name}


@pytest.mark.parametrize(
    "kind", [pytest.param(kind, marks=[pytest.mark.long] * (kind == "uvit")) for kind in BACKBONES]
)
def test_with_nothing_shown_it_is_the_model_of_before(kind):
    """The same parameters, bit for bit, whatever the new inputs have learned since."""
    params = parameters(kind)
    new, old = (predictor(model_of(kind, shows)) for shows in (NAMES, ()))
    want = old(without_new(params))
    for tree in (params, learned(params)):
        jax.tree.map(np.testing.assert_array_equal, new(tree), want)


@pytest.mark.parametrize("kind", BACKBONES)
def test_old_parameters_have_the_shapes_of_the_new_ones(kind):
    old = jax.eval_shape(model_of(kind, ()).init, jax.random.key(0), *INPUTS)["params"]
    ours = without_new(parameters(kind))
    assert jax.tree.map(jnp.shape, ours) == jax.tree.map(jnp.shape, old)


@pytest.mark.parametrize("kind", BACKBONES)
def test_it_sees_what_is_known_and_how_clear_it_is(kind):
    model = model_of(kind, NAMES)
    kernel = functools.partial(jax.random.normal, jax.random.key(2))
    params = jax.tree_util.tree_map_with_path(
        lambda path, x: x + kernel(x.shape) if "shown" in jax.tree_util.keystr(path) else x,
        parameters(kind),
    )
    predict = jax.jit(model.functions(params).predict)
    roles = query_roles(NAMES, 2, ["label"], ["image"], ["label"])
    codes = model.functions(params).modalities["label"].encode(jnp.array([3, 4]))
    known = dataclasses.replace(roles, encodings={"label": codes})
    other = dataclasses.replace(roles, encodings={"label": codes[::-1]})
    noisy = dataclasses.replace(known, levels={"label": jnp.array([0.5, 0.5])})
    answers = [predict(Z, T, each).value for each in (known, other, noisy, known.without("label"))]
    for i, first in enumerate(answers):
        for second in answers[:i]:
            assert float(jnp.abs(first - second).max()) > 1e-4


@pytest.mark.parametrize("level", [0.0, 0.5])
def test_a_known_primary_takes_the_place_of_an_empty_state(level):
    """It is then as if the state were the primary's own, at its noise, and nothing were shown."""
    shown = jax.random.normal(jax.random.key(7), (2, *LATENT))
    present, known = (query_roles(NAMES, 2, NAMES, shown=names) for names in ((), ("image",)))
    known = dataclasses.replace(
        known, encodings={"image": shown, "label": shown}, levels={"image": jnp.full(2, level)}
    )
    # The second example has its label in the state, which therefore is not empty.
    carried = query_roles(NAMES, 2, NAMES, carried=("label",), shown=("image",)).values["label"]
    known.values["label"] = known.values["label"].at[1].set(carried[1])
    model = model_of("unet", NAMES).clone(primary_as_state=True)
    params, t = learned(parameters("unet")), jnp.full(2, 10)
    answer = model.functions(params).predict(Z, t, known)
    plain = model_of("unet", NAMES).functions(params).predict
    as_state = plain(shown, jnp.full(2, 5 if level else 1), present)
    beside = plain(Z, t, known)
    for name in NAMES:
        head = jax.tree.leaves(answer.heads[name])[0]
        wanted = [jax.tree.leaves(other.heads[name])[0] for other in (as_state, beside)]
        np.testing.assert_allclose(head[0], wanted[0][0], rtol=1e-5, atol=1e-6)
        np.testing.assert_allclose(head[1], wanted[1][1], rtol=1e-5, atol=1e-6)
        assert float(jnp.abs(wanted[0][0] - wanted[1][0]).max()) > 1e-3
