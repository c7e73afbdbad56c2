"""What a model believes of values that training examples lack."""

import dataclasses
import functools
import math
from collections.abc import Collection, Mapping
from typing import Any

import jax
import jax.numpy as jnp

from mmdiffusion_jax.model.absence import choose_rows
from mmdiffusion_jax.model.batches import Batch
from mmdiffusion_jax.model.calls import call_modality, draw, head_of
from mmdiffusion_jax.model.diffusion import Diffusion
from mmdiffusion_jax.model.roles import Role, Roles
from mmdiffusion_jax.process.checks import expect_name, expect_number


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


def with_lessons(
    diffusion: Diffusion, roles: Roles, batch: Batch, taught: Mapping[str, float]
) -> tuple[Roles, dict[str, jax.Array]]:
    """The roles and the batch with what is taught: what the model itself finds most likely.

    x̂_i = argmax p_θ(x_i | what the example has), by the heads in one call without noise and without
    gradient. It counts as the example's value where p_θ(x̂_i | …)^(1/dims) is as high as asked for,
    and is learned from a view under noise (`shown_at_random`), as FixMatch learns from distorted
    images (Sohn et al. 2020).

    Args:
        diffusion: the process and the model.
        roles: with encodings, and with marks of what is to be taught.
        batch: {name: x (batch, …)}.
        taught: {name: the least probability in (0, 1]}.

    Raises:
        ValueError: a name that the batch lacks, or a probability that is none.
    """
    columns = dict(batch)
    for name in sorted(taught):
        expect_name("taught", name, batch)
        expected = "a probability in (0, 1]"
        expect_number(f"taught[{name!r}]", taught[name], expected, lambda p: 0 < p <= 1)
        rows, x = roles.taught(name), jnp.asarray(columns[name])
        teach = functools.partial(_most_likely, diffusion, roles, name, taught[name], x)
        value, is_sure = jax.lax.cond(rows.any(), teach, lambda x=x: (x, jnp.zeros(len(x), bool)))
        rows = rows & is_sure
        marks = jnp.where(rows, roles.values[name] | int(Role.PRESENT), roles.values[name])
        roles = dataclasses.replace(roles, values={**roles.values, name: marks})
        columns[name] = choose_rows(rows, value, x)
    return roles, columns


def _most_likely(
    diffusion: Diffusion, roles: Roles, name: str, least: float, like: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """The most likely values (batch, …), and where they are as probable as that, (batch,)."""
    model = diffusion.model
    head = _head(diffusion, roles, name)
    x = call_modality(model, name, "most_likely", head, shape=like.shape).astype(like.dtype)
    nats = call_modality(model, name, "log_prob", head, x, shape=like.shape[:1])
    return x, nats >= math.log(least) * model.modalities[name].num_dims


def _head(diffusion: Diffusion, roles: Roles, name: str) -> Any:
    """The head of a modality, without gradient, by one call that sees all else the example has."""
    like = next(iter(roles.encodings.values()))
    last = jnp.full(like.shape[:1], diffusion.num_steps, jnp.int32)
    prediction = diffusion.model.predict(jnp.zeros_like(like), last, _as_known(roles, name))
    return jax.lax.stop_gradient(head_of(prediction, name))


def _drawn(
    key: jax.Array, diffusion: Diffusion, roles: Roles, name: str, like: jax.Array
) -> jax.Array:
    """The encodings (batch, *latent) of what the head draws."""
    model = diffusion.model
    head = _head(diffusion, roles, name)
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
