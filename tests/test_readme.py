"""The README's examples run as they stand, and do what it says of them."""

import re
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from mmdiffusion_jax import objective, sampling

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


@pytest.fixture(scope="module")
def params(names):
    """Trained for 6,000 steps of Adam."""
    optimizer = optax.adam(3e-3)

    def step(state, key):
        params, moments = state
        of_batch, of_loss = jax.random.split(key)
        gradient = jax.grad(names["loss"])(params, of_loss, clusters(of_batch, 256))
        updates, moments = optimizer.update(gradient, moments)
        return (optax.apply_updates(params, updates), moments), None

    first = names["init"](jax.random.key(0))
    keys = jax.random.split(jax.random.key(1), 6000)
    return jax.jit(lambda s: jax.lax.scan(step, s, keys))((first, optimizer.init(first)))[0][0]


def test_points_of_labels_are_of_these_labels(names, params):
    labels = jnp.arange(2000) % 10
    points = jax.jit(names["points_of"])(params, jax.random.key(0), labels)
    distances = jnp.linalg.norm(points[:, None] - CENTRES, axis=-1)
    assert float((distances.argmin(axis=1) == labels).mean()) >= 0.97
    true = clusters(jax.random.key(2), 2000)
    own = jnp.median(jnp.linalg.norm(true["point"] - CENTRES[true["label"]], axis=-1))
    assert jnp.median(distances[jnp.arange(2000), labels]) < 2 * own


def test_joint_samples_agree_and_labels_are_read(names, params):
    diffusion, key = names["diffusion"](params), jax.random.key(3)
    method = sampling.Method(sampling.DPMSolverPP(), sampling.karras_grid(names["schedule"], 15))
    both = sampling.sample(key, diffusion, (2000, 2), method=method)
    nearest = jnp.linalg.norm(both["point"][:, None] - CENTRES, axis=-1).argmin(axis=1)
    assert float((nearest == both["label"]).mean()) >= 0.97
    counts = np.bincount(np.asarray(both["label"]), minlength=10)
    assert 120 < counts.min() <= counts.max() < 280
    true = clusters(key, 2000)
    read = sampling.sample(key, diffusion, (2000, 2), {"point": true["point"]}, method)["label"]
    assert float((read == true["label"]).mean()) >= 0.99


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
