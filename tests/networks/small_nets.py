"""The three backbones as small as they get, as tests compile for long, and parameters for them."""

import functools

import jax
import jax.numpy as jnp
import numpy as np

from mmdiffusion_jax.networks import DiT, UNet, UViT
from tests.params import drawn

LATENT, CONTEXT = (8, 8, 2), 3
KINDS = ("dit", "uvit", "unet")


def small(kind, **options):
    if kind == "unet":
        fields = {"width": 16, "channel_mults": (1,), "num_res_blocks": 1}
        fields |= {"num_groups": 4, "num_head_channels": 8}
        return UNet(LATENT, 2, 10, **{**fields, **options})
    network, depth = (DiT, 2) if kind == "dit" else (UViT, 3)
    return network(LATENT, 2, 10, **{"width": 16, "depth": depth, "num_heads": 2, **options})


def arguments(net, batch=3):
    """z_t, t and the context, drawn."""
    draw = np.random.default_rng(0).normal
    z, context = draw(size=(batch, *net.latent)), draw(size=(batch, CONTEXT))
    return jnp.float32(z), jnp.arange(1, batch + 1), jnp.float32(context)


def shapes(net):
    """The parameters' shapes."""
    return jax.eval_shape(net.init, jax.random.key(0), *arguments(net))["params"]


def parameters(net):
    """Drawn parameters, none of them stacked."""
    return drawn(shapes(net), seed=1)


def answer(net, params, *rest):
    """All that comes out of the network."""
    features, prediction = net.apply({"params": params}, *rest)
    return features.grid, features.condition, prediction


def step(net):
    """(parameters, z_t, t, context) → (the gradient of a loss, the answer)."""

    def loss(params, *rest):
        parts = answer(net, params, *rest)
        return sum(jnp.mean((part - 0.5) ** 2) for part in parts), parts

    return jax.grad(loss, has_aux=True)


@functools.cache
def plain_step(kind, **options):
    """Parameters of the plain network, its gradient and its answer."""
    net = small(kind, **options)
    params = parameters(net)
    return params, *jax.jit(step(net))(params, *arguments(net))
