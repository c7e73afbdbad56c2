"""Converted checkpoints answer as the published networks in PyTorch do."""

import functools

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch

from benchmarks.speed.torch_adm import TorchADM
from benchmarks.speed.torch_transformers import TorchDiT, TorchUViT
from mmdiffusion_jax.networks import DiT, UNet, UViT, unstack_layers
from mmdiffusion_jax.networks.convert import from_adm, from_dit, from_uvit
from mmdiffusion_jax.networks.dit import Block as DiTBlock
from mmdiffusion_jax.networks.embeddings import grid_embedding
from mmdiffusion_jax.networks.uvit import Block as UViTBlock

STEPS = (1, 2, 400)


def drawn(reference, **fixed):
    """Random weights of a size at which every part shows in the output."""
    torch.manual_seed(0)
    with torch.no_grad():
        for name, value in reference.named_parameters():
            if name in fixed:
                value.copy_(torch.tensor(fixed[name]))
            elif value.ndim > 1:
                value.normal_(std=0.5 * value[0].numel() ** -0.5)
            else:
                value.normal_(mean=float("norm" in name), std=0.3)
    return {name: value.numpy() for name, value in reference.state_dict().items()}


def published(reference, state, steps, label=None):
    classes = None if label is None else torch.full((len(state),), label)
    image = torch.tensor(state).permute(0, 3, 1, 2)
    with torch.no_grad():
        answer = reference(image, torch.tensor(steps), *([] if label is None else [classes]))
    return answer.permute(0, 2, 3, 1).numpy()


def ours(net, params, state, context=None):
    return jax.jit(net.apply)({"params": params}, state, jnp.array(STEPS), context)[1]


def states(channels):
    return np.random.default_rng(0).normal(size=(3, 8, 8, channels)).astype(np.float32)


@functools.cache
def dit():
    reference = TorchDiT(side=8, channels=2, width=16, depth=2, heads=2, classes=3)
    net = DiT((8, 8, 2), 4, 1000, 2, 16, 2, 2, frequencies=256, positions="sincos")
    return reference, drawn(reference, pos_embed=grid_embedding(4, 4, 16)[None]), net


@functools.cache
def uvit(classes, conv):
    reference = TorchUViT(
        side=8, channels=2, width=16, depth=4, heads=2, classes=classes, conv=conv
    )
    net = UViT((8, 8, 2), 2, 1000, width=16, depth=5, num_heads=2, final_conv=conv)
    return reference, drawn(reference), net


@functools.cache
def adm(classes, new_order):
    reference = TorchADM(
        8, 2, 4, 8, (1, 2), 1, (4,), 4, groups=4, classes=classes, new_order=new_order
    )
    net = UNet((8, 8, 2), 4, 1000, 8, (1, 2), 1, (4,), num_head_channels=4, num_groups=4)
    return reference, drawn(reference), net


@pytest.mark.parametrize(("label", "row"), [(None, 3), (1, 1)])
def test_dit(label, row):
    reference, tensors, net = dit()
    params, state = from_dit(tensors, net, label, context_features=2), states(2)
    want = published(reference, state, [t - 1 for t in STEPS], row)
    np.testing.assert_allclose(ours(net, params, state, jnp.ones((3, 2))), want, atol=1e-5)
    assert want.std() > 0.1


@pytest.mark.parametrize(
    ("field", "value"),
    [("norm", "rms"), ("rotary", True), ("qk_norm", True), ("feed_forward", "swiglu")],
)
def test_another_dit_than_the_published_one_is_refused(field, value):
    """Some have the same parameters, and answer otherwise."""
    _, tensors, net = dit()
    with pytest.raises(ValueError, match=rf"`net\.{field}`: got {value!r}, expected .* published"):
        from_dit(tensors, net.clone(**{field: value}))


def test_learned_positions_of_a_dit():
    _, tensors, net = dit()
    moved = {**tensors, "pos_embed": tensors["pos_embed"] + 1}
    net = net.clone(positions="learned")
    np.testing.assert_allclose(from_dit(moved, net)["position"], moved["pos_embed"][0], rtol=1e-6)


@pytest.mark.parametrize(("classes", "conv"), [(0, True), (3, False)])
def test_uvit(classes, conv):
    reference, tensors, net = uvit(classes, conv)
    label, features = (2, 1) if classes else (None, 0)
    params, state = from_uvit(tensors, net, label, features), states(2)
    context = jnp.ones((3, 1)) if classes else None
    want = published(reference, state, STEPS, label)
    np.testing.assert_allclose(ours(net, params, state, context), want, atol=1e-5)
    assert want.std() > 0.1


@pytest.mark.parametrize(
    ("convert", "build"), [(from_dit, dit), (from_uvit, lambda: uvit(0, True))]
)
def test_a_network_that_scans_gets_stacked_layers(convert, build):
    _, tensors, net = build()
    scanning = net.clone(scan_layers=True)
    params = convert(tensors, scanning)
    inputs = jnp.zeros((1, *net.latent)), jnp.ones(1)
    shapes = jax.eval_shape(scanning.init, jax.random.key(0), *inputs)["params"]
    assert jax.tree.map(jnp.shape, params) == jax.tree.map(jnp.shape, shapes)
    chex.assert_trees_all_equal(unstack_layers(params), convert(tensors, net))


@pytest.mark.parametrize(
    ("classes", "new_order"), [pytest.param(0, True, marks=pytest.mark.long), (3, False)]
)
def test_adm(classes, new_order):
    reference, tensors, net = adm(classes, new_order)
    label = 1 if classes else None
    params = from_adm(tensors, net, label, new_attention_order=new_order)
    state = states(2)
    want = published(reference, state, [t - 1 for t in STEPS], label)
    np.testing.assert_allclose(ours(net, params, state), want, atol=1e-5)
    assert want.std() > 0.1


@pytest.mark.parametrize("build", [dit, lambda: uvit(0, True)])
def test_blocks_on_small_tokens(build):
    """Where the norms' epsilons are most of the variance."""
    reference, tensors, net = build()
    tokens, condition = 1e-3 * states(2).reshape(3, 8, 16), states(1)[:, :2].reshape(3, 16)
    if build is dit:
        params, block = from_dit(tensors, net)["blocks_0"], DiTBlock(2, 4)
        theirs, arguments = reference.blocks[0], (tokens, condition)
    else:
        params, block = from_uvit(tensors, net)["middle"], UViTBlock(2, 4)
        theirs, arguments = reference.mid_block, (tokens,)
    with torch.no_grad():
        want = theirs(*map(torch.tensor, arguments)).numpy()
    got = jax.jit(block.apply)({"params": params}, *arguments)
    np.testing.assert_allclose(got, want, atol=1e-5)


def changed(tensors, name, value):
    rest = {key: tensor for key, tensor in tensors.items() if key != name}
    return rest if value is None else {**rest, name: value}


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("blocks.1.attn.proj.bias", None, "got nothing named 'blocks.1.attn.proj.bias'"),
        ("blocks.2.mlp.fc1.bias", np.zeros(64), "'blocks.2.mlp.fc1.bias', which nothing takes"),
        ("blocks.0.mlp.fc1.weight", np.zeros((32, 16)), r"blocks_0/hidden/kernel the shape \(16, "),
        (
            "blocks.0.attn.qkv.weight",
            np.zeros((47, 16)),
            r"of shape \(47, 16\), expected rows in 3",
        ),
        ("x_embedder.proj.weight", np.zeros((16, 8)), "expected 4 axes"),
        ("pos_embed", np.zeros((1, 16, 16)), "'pos_embed'.*expected the fixed positions"),
        ("y_embedder.embedding_table.weight", np.zeros((4, 8)), "expected rows of 16"),
    ],
)
def test_a_checkpoint_that_does_not_fit(name, value, words):
    _, tensors, net = dit()
    with pytest.raises(ValueError, match=words):
        from_dit(changed(tensors, name, value), net)


def test_a_missing_skip_is_seen():
    _, tensors, net = adm(0, True)
    for leaf in ("weight", "bias"):
        tensors = changed(tensors, f"output_blocks.0.0.skip_connection.{leaf}", None)
    with pytest.raises(ValueError, match="nothing for the parameter up_1_0/skip/"):
        from_adm(tensors, net)


def test_a_skip_of_another_kind_is_seen():
    _, tensors, net = adm(0, True)
    name = "output_blocks.0.0.skip_connection.weight"
    wide = changed(tensors, name, np.zeros((*tensors[name].shape[:2], 3, 3)))
    with pytest.raises(ValueError, match=rf"'{name}' of shape .*expected a kernel of 1"):
        from_adm(wide, net)


@pytest.mark.parametrize(
    ("convert", "build", "options", "words"),
    [
        (from_dit, dit, {"label": 4}, r"`label`: got 4, expected a class in 0 … 3"),
        (from_adm, lambda: adm(3, False), {}, r"`label`: got None, expected a class in 0 … 2"),
        (from_adm, lambda: adm(0, True), {"label": 1}, "`label`: got 1, expected none"),
        (from_uvit, lambda: uvit(0, True), {"label": 1}, "`label`: got 1, expected none"),
        (from_uvit, lambda: uvit(3, False), {"label": 1}, "`context_features`: got 0, expected at"),
        (from_uvit, lambda: uvit(0, True), {"context_features": 1}, "got 1, expected 0 without"),
    ],
)
def test_labels_and_contexts(convert, build, options, words):
    _, tensors, net = build()
    with pytest.raises(ValueError, match=words):
        convert(tensors, net, **options)
