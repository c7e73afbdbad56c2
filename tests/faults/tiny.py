"""An experiment whose model is one matrix: all that a whole run does and writes, in a second."""

import jax
import jax.numpy as jnp
import numpy as np

from mmdiffusion_jax import data, training
from tests.faults import outcomes

STEPS, BATCH, WIDTH = 16, 8, 6


def examples():
    rng = np.random.default_rng(0)
    return {"x": rng.normal(size=(5 * BATCH, WIDTH)).astype(np.float32)}


def loss(params, key, batch):
    noise = jax.random.normal(key, batch["x"].shape)
    value = jnp.mean((jnp.tanh((batch["x"] + 0.1 * noise) @ params["w"]) - batch["x"]) ** 2)
    return value, {"loss": value, "x/loss": value}


def build(mesh):
    options = training.TrainingOptions(num_steps=STEPS, learning_rate=0.05, warmup_steps=2)
    optimiser = training.make_optimiser(options)

    def init(key):
        return {"w": jax.random.normal(key, (WIDTH, WIDTH))}

    state = training.create_state(jax.random.key(3), init, optimiser, mesh)
    layout = training.state_sharding(mesh, state)
    step = training.make_step(loss, optimiser, 0.9, layout, training.batch_sharding(mesh, BATCH))
    return state, step


def train(workdir, source, keep):
    """Saves, logs, evaluates and draws at intervals that do not fall together."""
    mesh = training.make_mesh()
    split = training.batch_sharding(mesh, BATCH)
    rows = training.local_rows(split, BATCH)
    state, step = build(mesh)
    test = {"x": examples()["x"][:BATCH]}

    def open_batches(start):
        read = data.train_batches(source, batch_size=BATCH, seed=1, start_example=start, rows=rows)
        return data.to_device(read, split, BATCH, rows)

    def evaluate(params):
        return {"loss": float(loss(params, jax.random.key(0), test)[0])}

    def picture(params):
        return np.asarray(255 / (1 + jnp.exp(-params["w"][..., None].repeat(3, 2)))).astype(
            np.uint8
        )

    options = training.TrainingOptions(
        num_steps=STEPS, batch_size=BATCH, log_every=3, eval_every=4, sample_every=6,
        checkpoint_every=2, keep=keep, best_metric="loss",
    )  # fmt: skip
    monitor = training.Monitor(evaluate, picture)
    return training.train(options, workdir, state, step, open_batches, monitor)


def outcome(workdir):
    """What a tiny run left behind."""
    return outcomes.outcome(workdir, build(training.make_mesh())[0])
