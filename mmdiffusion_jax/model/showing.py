"""Noise on what the network is shown: conditioning augmentation (Ho et al. 2022)."""

import dataclasses
import functools
from collections.abc import Collection, Mapping

import jax
import jax.numpy as jnp

from mmdiffusion_jax.model.roles import Roles
from mmdiffusion_jax.process import Schedule
from mmdiffusion_jax.process.checks import expect_name, expect_number
from mmdiffusion_jax.process.forward import root_at


def shown_at(
    keys: jax.Array, schedule: Schedule, roles: Roles, levels: Mapping[str, jax.Array]
) -> Roles:
    """The roles with noise in the encodings that are shown, and the network told how much.

    sqrt(ᾱ_s) E_i + sqrt(1 − ᾱ_s) ε, with ε ~ N(0, I) of its own for each modality.

    Args:
        keys: (batch,) typed keys, one an example.
        schedule: the noise schedule.
        roles: with encodings.
        levels: {name: (batch,) integers s in 0 … T}; 0 is no noise.

    Example:
        >>> from mmdiffusion_jax import model, process
        >>> roles = model.query_roles(["image"], 1, ["image"], shown=["image"])
        >>> roles = dataclasses.replace(roles, encodings={"image": jnp.ones((1, 2))})
        >>> keys, schedule = jax.random.split(jax.random.key(0), 1), process.cosine_schedule(10)
        >>> noisy = shown_at(keys, schedule, roles, {"image": jnp.array([5])})
        >>> noisy.clarity("image").tolist()
        [0.5]
    """
    encodings, shares = dict(roles.encodings), dict(roles.levels)
    for index, name in enumerate(sorted(roles.encodings)):
        if name in levels:
            clean, s = encodings[name], levels[name]
            noise = jax.vmap(functools.partial(_noise, index, clean[0]))(keys)
            signal = root_at(schedule.alpha_bar, s, clean) * clean
            encodings[name] = signal + root_at(schedule.noise_variance, s, clean) * noise
            shares[name] = (s / schedule.num_steps).astype(clean.dtype)
    return dataclasses.replace(roles, encodings=encodings, levels=shares)


def _noise(index: int, like: jax.Array, key: jax.Array) -> jax.Array:
    return jax.random.normal(jax.random.fold_in(key, index), like.shape, like.dtype)


def shown_at_random(
    key: jax.Array,
    schedule: Schedule,
    roles: Roles,
    rates: Mapping[str, float],
    views: Collection[str] = (),
) -> Roles:
    """The roles with noise at a level s, uniform in 1 … T − 1, in a share of what is shown.

    What is asked for and viewed all the same always has such noise.

    Args:
        key: a typed key.
        schedule: the noise schedule.
        roles: with encodings.
        rates: {name: share of the examples that know the modality}; a name left out is clean.
        views: the names of what some examples view.

    Raises:
        ValueError: an unknown name, or a share outside [0, 1].
    """
    for name, rate in rates.items():
        expect_name("shown_noise", name, roles.encodings, none="the network is shown nothing")
        number = f"shown_noise[{name!r}]"
        expect_number(number, rate, "a share in [0, 1]", lambda x: 0 <= x <= 1)
    names = sorted({*rates, *views})
    if not names:
        return roles
    levels = {}
    for index, name in enumerate(names):
        shape = roles.known(name).shape
        of_rate, of_level = jax.random.split(jax.random.fold_in(key, index))
        s = jax.random.randint(of_level, shape, 1, schedule.num_steps)
        noisy = jax.random.bernoulli(of_rate, rates.get(name, 0.0), shape) | roles.viewed(name)
        levels[name] = jnp.where(noisy, s, 0)
    keys = jax.random.split(jax.random.fold_in(key, len(names)), *shape)
    return shown_at(keys, schedule, roles, levels)
