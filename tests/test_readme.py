"""The README's examples run as they stand, and do what it says of them."""

import dataclasses
import re
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from mmdiffusion_jax import model, objective, sampling
from tests import xla

TEXT = (Path(__file__).resolve().parents[1] / "README.md").read_text(encoding="utf-8")
ANGLES = 2 * jnp.pi * jnp.arange(10) / 10
CENTRES = 1.5 * jnp.stack([jnp.cos(ANGLES), jnp.sin(ANGLES)], axis=-1)
SPREAD = 0.08


@pytest.fixture(scope="module")
def names():
    """What the README's own code defines, in its order."""
    namespace: dict = {}
    for code in re.findall(r"```python\n(.*?)```", TEXT, re.S):
        if "import" in code:
            exec(code, namespace)
    return namespace


def clusters(key, count):
    """Ten clusters on a circle, so far apart that a point's own is the nearest."""
    of_label, of_point = jax.random.split(key)
    label = jax.random.randint(of_label, (count,), 0, 10)
    return {
        "label": label,
        "point": CENTRES[label] + SPREAD * jax.random.normal(of_point, (count, 2)),
    }


def trained(loss, first):
    """The parameters after 6,000 steps of Adam, whose learning rate falls to zero."""
    optimizer = optax.adam(optax.cosine_decay_schedule(3e-3, 6000))

    def step(state, key):
        params, moments = state
        of_batch, of_loss = jax.random.split(key)
        gradient = jax.grad(loss)(params, of_loss, clusters(of_batch, 256))
        updates, moments = optimizer.update(gradient, moments)
        return (optax.apply_updates(params, updates), moments), None

    keys = jax.random.split(jax.random.key(1), 6000)
    run = jax.jit(lambda s: jax.lax.scan(step, s, keys)[0][0], compiler_options=xla.OPTIMISED)
    return run((first, optimizer.init(first)))


@pytest.fixture(scope="module")
def params(names):
    return trained(names["loss"], names["init"](jax.random.key(0)))


def share_of_their_label(points, labels):
    nearest = jnp.linalg.norm(points[:, None] - CENTRES, axis=-1).argmin(axis=1)
    return float((nearest == labels).mean())


def test_points_of_labels_are_of_these_labels(names, params):
    labels = jnp.arange(2000) % 10
    points = jax.jit(names["points_of"])(params, jax.random.key(0), labels)
    assert share_of_their_label(points, labels) >= 0.97
    true = clusters(jax.random.key(2), 2000)
    spread = jnp.median(jnp.linalg.norm(true["point"] - CENTRES[true["label"]], axis=-1))
    assert jnp.median(jnp.linalg.norm(points - CENTRES[labels], axis=-1)) < 2 * spread


def test_joint_samples_agree_and_labels_are_read(names, params):
    diffusion, key = names["diffusion"](params), jax.random.key(3)
    method = sampling.Method(sampling.DPMSolverPP(), sampling.karras_grid(names["schedule"], 15))
    both = sampling.sample(key, diffusion, (2000, 2), method=method)
    assert share_of_their_label(both["point"], both["label"]) >= 0.97
    counts = np.bincount(np.asarray(both["label"]), minlength=10)
    assert 120 < counts.min() <= counts.max() < 280
    true = clusters(key, 2000)
    read = sampling.sample(key, diffusion, (2000, 2), {"point": true["point"]}, method)["label"]
    assert float((read == true["label"]).mean()) >= 0.99


@pytest.mark.long
def test_a_drift_alone_is_chance_and_bayes_mends_it(names):
    """docs/sampling.md: what a network is not shown drives its states, and its head corrects."""

    def diffusion(params):
        whole = names["diffusion"](params)
        functions = dataclasses.replace(whole.model, shows=())
        return model.Diffusion(whole.process, functions)

    def loss(params, key, batch):
        options = objective.LossOptions(weighting=objective.v_weighting())
        return objective.simple_loss(key, diffusion(params), batch, options=options)[0]

    params = trained(loss, names["init"](jax.random.key(0)))
    labels, times = jnp.arange(2000) % 10, sampling.karras_grid(names["schedule"], 20)
    shares = {}
    for decorators in ((), None):
        method = sampling.Method(sampling.DPMSolverPP(), times, decorators)
        samples = sampling.sample(
            jax.random.key(1), diffusion(params), (2000, 2), {"label": labels}, method
        )
        shares[decorators] = share_of_their_label(samples["point"], labels)
    assert shares[()] < 0.3
    assert shares[None] > 0.9


def test_the_other_functions_that_it_names(names, params):
    diffusion, batch = names["diffusion"](params), clusters(jax.random.key(4), 64)

    joint = objective.bound(jax.random.key(0), diffusion, batch).total
    given = objective.bound(jax.random.key(0), diffusion, batch, given=["label"]).total
    # One of ten labels is known then.
    assert float(given.mean()) < float(joint.mean()) - 1
    assert objective.flow_bound(jax.random.key(0), diffusion, batch).shape == (64,)
    scores = objective.candidate_log_probs(
        jax.random.key(0), diffusion, batch, "label", jnp.arange(10), times=[1, 30, 60, 100]
    )
    assert scores.shape == (64, 10)
