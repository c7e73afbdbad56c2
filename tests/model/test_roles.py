"""Roles: what is present, what states carry, and who sees it."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mmdiffusion_jax import model, sampling
from tests import plain_model

MODEL = plain_model.shared()
BATCH = {"x": jnp.zeros((4000, 2)), "y": jnp.ones((4000, 2))}


def test_dropout_takes_its_share_and_leaves_what_is_present():
    """Dropping is independent of presence: carried with probability presence · (1 − rate)."""
    presence = {"y": jnp.arange(4000) % 2}
    roles = model.training_roles(MODEL, BATCH, presence, {"y": 0.25}, jax.random.key(0))
    present, carried = np.asarray(roles.present("y")), np.asarray(roles.carried("y"))
    np.testing.assert_array_equal(present, np.arange(4000) % 2 == 1)
    assert not (carried & ~present).any()
    error = (0.75 * 0.25 / 2000) ** 0.5
    assert abs(carried[present].mean() - 0.75) < 4 * error
    assert np.asarray(roles.carried("x")).all()


@pytest.mark.parametrize("rate", [0.0, 1.0])
def test_rates_at_the_ends(rate):
    roles = model.training_roles(MODEL, BATCH, None, {"y": rate}, jax.random.key(1))
    assert (np.asarray(roles.carried("y")) == (rate == 0)).all()
    assert np.asarray(roles.present("y")).all()


def test_a_query_carries_what_is_given_and_estimated():
    roles = model.query_roles(["x", "y", "z"], 2, given=["y"], carried=["x", "y"])
    carried = {name: bool(roles.carried(name).all()) for name in roles.values}
    present = {name: bool(roles.present(name).all()) for name in roles.values}
    assert carried == {"x": True, "y": True, "z": False}
    assert present == {"x": False, "y": True, "z": False}


def test_a_denoiser_that_sees_roles_gets_those_of_its_query():
    """Each use of a model hands on what its states carry, and what guidance takes out of them."""
    seen = []

    def denoise(z_t, t, roles):
        seen.append(bool(roles.carried("y").all()))
        return model.Prediction(0.5 * z_t, {"y": z_t})

    functions = plain_model.shared(denoise, sees_roles=True)
    diffusion = model.Diffusion(plain_model.PROCESS, functions)
    guide = sampling.classifier_free_guidance("y", 2.0)
    with jax.disable_jit():
        given = {"y": jnp.ones((1, 2))}
        method = sampling.Method("ddim", [6, 1], [guide])
        sampling.sample(jax.random.key(0), diffusion, (1, 2), given, method)
        assert set(seen) == {True, False}
        seen.clear()
        given = {"x": jnp.ones((1, 2))}
        method = sampling.Method("ddim", [6, 1])
        sampling.sample(jax.random.key(0), diffusion, (1, 2), given, method)
        assert set(seen) == {False}


def test_an_estimate_is_told_to_be_clear_where_a_known_value_would_be_noisy():
    roles = model.query_roles(["image"], 3, given=["image"], shown=["image"])
    levels = {"image": jnp.array([0.0, 0.5, 0.75])}
    roles = dataclasses.replace(roles, encodings={"image": jnp.ones((3, 2))}, levels=levels)
    rows = jnp.array([False, False, True])
    seen = roles.with_estimate("image", rows, jnp.full((3, 2), 5.0))
    assert seen.clarity("image").tolist() == [1.0, 0.5, 1.0]
    assert seen.shown("image", jnp.zeros((3, 2)))[:, 0].tolist() == [1.0, 1.0, 5.0]


def test_roles_go_through_compiled_functions():
    roles = model.all_carried(["x"], 3)
    through = jax.jit(lambda roles: roles.without("x"))(roles)
    assert not np.asarray(through.carried("x")).any()
    assert np.asarray(through.present("x")).all()
