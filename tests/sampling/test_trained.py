"""A network that is trained, not optimal, where every conditional law is known exactly.

Three linear Gaussian modalities, any of them from any others, each diffused where it is asked for.
"""

import dataclasses
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from mmdiffusion_jax import model, objective, sampling
from tests import xla
from tests.shown_world import DIMS, ShownWorld, against_the_law

NUM, STEPS, WIDTH = 2000, 3000, 128
WORLD = ShownWorld(2, 100, log_snr=(9.0, -9.0))
EVERYONE = WORLD.everyone
CONDITIONS = [subset for size in range(3) for subset in itertools.combinations(EVERYONE, size)]


def init(key):
    shapes = {"z": DIMS, "t": 101, "role": 3 * len(EVERYONE), "hidden": WIDTH, "deep": WIDTH}
    shapes |= dict.fromkeys(EVERYONE, DIMS)
    keys = jax.random.split(key, len(shapes) + 2)
    params = {
        name: jax.random.normal(k, (size, WIDTH)) / size**0.5
        for k, (name, size) in zip(keys[:-2], shapes.items(), strict=True)
    }
    params["v"] = jnp.zeros((WIDTH, DIMS))
    params["heads"] = jnp.zeros((WIDTH, 2 * DIMS * len(EVERYONE)))
    return params


def diffusion(params, shows=EVERYONE):
    exact = WORLD.model()

    def denoise(z_t, t, roles):
        said = [
            has(name) for name in EVERYONE for has in (roles.known, roles.carried, roles.diffused)
        ]
        h = (
            z_t @ params["z"]
            + params["t"][t]
            + jnp.stack(said, -1).astype(z_t.dtype) @ (params["role"])
        )
        for name in EVERYONE:
            h += roles.shown(name, z_t) @ params[name]
        h = jax.nn.silu(h)
        h = h + jax.nn.silu(h @ params["hidden"])
        h = h + jax.nn.silu(h @ params["deep"])
        parts = jnp.split(h @ params["heads"], len(EVERYONE), axis=-1)
        heads = {name: jnp.split(x, 2, axis=-1) for name, x in zip(EVERYONE, parts, strict=True)}
        return model.Prediction(h @ params["v"], heads)

    def modality(name):
        given = exact.modalities[name]
        inverse = jnp.asarray(np.linalg.inv(WORLD.codes[name]))
        return model.ModalityFunctions(
            encode=given.encode,
            log_prob=lambda head, x: model.gaussian_log_prob(head[0], head[1], x),
            expected_encoding=lambda head: given.encode(head[0]),
            most_likely=lambda head: head[0],
            reconstruct=lambda z_0, head: [z_0 @ inverse.T, head[1]],
            num_dims=DIMS,
        )

    functions = model.ModelFunctions(
        denoise,
        {name: modality(name) for name in EVERYONE},
        "p",
        "v",
        sees_roles=True,
        shows=shows,
        diffusable=("x0", "x1"),
    )
    return model.Diffusion(WORLD.process, functions)


@pytest.fixture(scope="module")
def params():
    tasks = model.default_tasks(EVERYONE, "p", diffused=("x0", "x1"))
    options = objective.LossOptions(
        weighting=objective.v_weighting(),
        tasks=tasks,
        dropout=dict.fromkeys(EVERYONE, 0.1),
        modality_scales=dict.fromkeys(EVERYONE, 0.01),
    )
    optimiser = optax.adam(optax.warmup_cosine_decay_schedule(0.0, 8e-3, 200, STEPS))
    root = jnp.asarray(np.linalg.cholesky(WORLD.covariance + 1e-9 * np.eye(6)))

    def step(carry, key):
        params, state = carry
        data_key, loss_key = jax.random.split(key)
        u = jnp.asarray(WORLD.mean) + jax.random.normal(data_key, (256, 6)) @ root.T
        batch = dict(zip(EVERYONE, jnp.split(u, 3, axis=1), strict=True))

        def loss(params):
            return objective.simple_loss(loss_key, diffusion(params), batch, options=options)[0]

        updates, state = optimiser.update(jax.grad(loss)(params), state)
        return (optax.apply_updates(params, updates), state), None

    first = init(jax.random.key(0))
    keys = jax.random.split(jax.random.key(1), STEPS)
    run = jax.jit(lambda c: jax.lax.scan(step, c, keys)[0][0], compiler_options=xla.OPTIMISED)
    return run((first, optimiser.init(first)))


def distances(params, known, shows=EVERYONE, **options):
    """Kolmogorov's distances of whitened samples from the exact conditional law."""
    batch, _ = WORLD.draw(NUM, seed=5)
    given = {name: batch[name] for name in known}
    grid = sampling.karras_grid(WORLD.schedule, 40)
    method = sampling.Method(sampling.DPMSolverPP(), grid, order=("p", "x0", "x1"), **options)
    if shows != EVERYONE:
        method = dataclasses.replace(method, order=("p, x0, x1",))
    samples = jax.jit(
        lambda key: sampling.sample(key, diffusion(params, shows), (NUM, DIMS), given, method)
    )(jax.random.key(0))
    return [test.statistic for test in against_the_law(WORLD, batch, samples, known)]


@pytest.mark.parametrize("known", CONDITIONS, ids="-".join)
def test_every_conditional_is_learned(params, known):
    assert max(distances(params, known)) < 0.08


def test_a_network_that_is_not_shown_what_is_given_has_not_that_law(params):
    """The same parameters: the drift of x_0 alone does not make p(p | x_0)."""
    assert max(distances(params, ("x0",), shows=("p", "x1"), decorators=())) > 0.15
