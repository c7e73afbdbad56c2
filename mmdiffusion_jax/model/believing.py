"""What a model believes of values that training examples lack."""

import dataclasses
import functools
from collections.abc import Collection

import jax
import jax.numpy as jnp

from mmdiffusion_jax.model.absence import choose_rows
from mmdiffusion_jax.model.calls import call_modality, draw, head_of
from mmdiffusion_jax.model.diffusion import Diffusion
from mmdiffusion_jax.model.roles import Role, Roles
from mmdiffusion_jax.process.checks import expect_name


def with_beliefs(
    key: jax.Array, diffusion: Diffusion, roles: Roles, names: Collection[str]
) -> Roles:
    """The roles with what is believed drawn and shown, x̂_i ~ p_θ(x_i | what the example has).

    The heads answer one call that sees, without noise, all else that the example's task has. No
    gradient goes through it. It is the expectation step of a Monte Carlo EM algorithm (Wei &
    Tanner 1990), whose maximisation step is the training of p(x_asked | x̂_i, …).

    Args:
        key: a typed key.
        diffusion: the process and the model.
        roles: with encodings, and with marks of what is to be believed.
        names: of what some examples are to believe.

    Raises:
        ValueError: a name that the network is not shown.
    """
    for name in names:
        expect_name("believed", name, roles.encodings, none="the network is shown nothing")
    for index, name in enumerate(sorted(names)):
        rows, known = roles.believed(name), roles.encodings[name]
        believe = functools.partial(
            _drawn, jax.random.fold_in(key, index), diffusion, roles, name, known
        )
        # Batches whose examples all have it need no call.
        drawn = jax.lax.cond(rows.any(), believe, functools.partial(jnp.zeros_like, known))
        value = jnp.where(rows, roles.values[name] | int(Role.KNOWN), roles.values[name])
        roles = dataclasses.replace(
            roles,
            values={**roles.values, name: value},
            encodings={**roles.encodings, name: choose_rows(rows, drawn, known)},
        )
    return roles


def _drawn(
    key: jax.Array, diffusion: Diffusion, roles: Roles, name: str, like: jax.Array
) -> jax.Array:
    """The encodings (batch, *latent) of what the head draws in one call, without its gradient."""
    model = diffusion.model
    last = jnp.full(like.shape[:1], diffusion.num_steps, jnp.int32)
    prediction = model.predict(jnp.zeros_like(like), last, _as_known(roles, name))
    head = jax.lax.stop_gradient(head_of(prediction, name))
    x = draw(model, name, jax.random.split(key, len(like)), head)
    return call_modality(model, name, "encode", x, shape=like.shape, dtype=like.dtype)


def _as_known(roles: Roles, name: str) -> Roles:
    """The roles that know all that the task has but this modality, and carry nothing."""
    values = {}
    for other in roles.values:
        has = roles.carried(other) | roles.known(other) | roles.diffused(other)
        value = jnp.where(has, int(Role.PRESENT | Role.KNOWN), 0)
        values[other] = jnp.zeros_like(value) if other == name else value
    return dataclasses.replace(roles, values=values)
