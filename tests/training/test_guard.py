"""Steps that are not finite are left out, counted and explained; spikes are counted."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from mmdiffusion_jax import training
from mmdiffusion_jax.training.guard import fresh_guard, watch


def loss(params, key, batch):
    del key
    value = jnp.mean((batch["x"] @ params["w"]) ** 2)
    return value, {"loss": value, "x/loss": value, "worst_t": jnp.float32(3)}


def make(tmp_path=None):
    mesh = training.make_mesh()
    optimiser = optax.adam(0.1)
    init = lambda key: {"w": jax.random.normal(key, (4,))}  # noqa: E731
    state = training.create_state(jax.random.key(0), init, optimiser, mesh)
    layout = training.state_sharding(mesh, state)
    return state, training.make_step(loss, optimiser, 0.9, layout, training.batch_sharding(mesh, 2))


def batch(value):
    return {"x": jnp.full((2, 4), value, jnp.float32)}


def learned(state):
    return jax.device_get((state.params, state.ema, state.opt_state))


def test_a_bad_step_changes_nothing_but_the_count():
    state, step = make()
    state, _ = step(state, batch(1.0))
    before = learned(state)
    state, report = step(state, batch(jnp.nan))
    assert (int(state.step), int(report.verdict.skipped), int(report.finite["x"])) == (2, 1, 0)
    chex.assert_trees_all_equal(learned(state), before)
    # The gradient alone overflows: the square of 1e25 does, its loss in between.
    state, report = step(state, batch(1e25))
    assert int(report.verdict.in_row) == 2
    state, report = step(state, batch(1.0))
    assert (int(report.verdict.in_row), int(state.guard.skipped)) == (0, 2)
    assert not np.array_equal(state.params["w"], before[0]["w"])


def run(tmp_path, values, **options):
    state, step = make()
    options = training.TrainingOptions(
        num_steps=len(values), batch_size=2, log_every=2, eval_every=0, sample_every=0,
        checkpoint_every=2, **options,
    )  # fmt: skip
    return training.train(
        options,
        tmp_path,
        state,
        step,
        lambda start: iter([batch(value) for value in values[start // 2 :]]),
        training.Monitor(
            lambda params: {"loss": 0.0}, lambda params: np.zeros((2, 2, 3), np.uint8)
        ),
    )


def test_a_run_ends_with_a_diagnosis_and_its_last_good_checkpoint(tmp_path):
    nan = float("nan")
    with pytest.raises(FloatingPointError) as caught:
        run(tmp_path, [1.0, 1.0, 1.0, nan, nan, nan, nan, 1.0], max_skipped=3)
    for words in ("3 steps in a row", "at step 6", "in the data: 'x'", "'x/loss'", "at t = 3"):
        assert words in str(caught.value)
    state, _ = make()
    with training.Checkpoints(tmp_path / "checkpoints") as checkpoints:
        restored = checkpoints.restore(state)
    assert restored.step == 4
    chex.assert_tree_all_finite(restored.state.params)
    lines = training.read_metrics(tmp_path / "metrics.jsonl")
    assert [line["train/skipped_steps"] for line in lines] == [0, 1, 2]
    assert np.isfinite(lines[1]["train/loss"])


def test_a_run_goes_on_after_a_few_bad_steps(tmp_path):
    nan = float("nan")
    state = run(tmp_path, [1.0, nan, nan, 1.0, nan, 1.0], max_skipped=3)
    assert (int(state.step), int(state.guard.skipped)) == (6, 3)
    assert np.isfinite(state.params["w"]).all()


def test_spikes_are_what_lies_six_deviations_above():
    """Against the mean and the deviation of the law that the losses are drawn from."""
    rng = np.random.default_rng(0)
    guard, spikes = fresh_guard(), []
    values = rng.normal(5.0, 0.5, 600).astype(np.float32)
    values[[400, 401, 500]] = 5.0 + 0.5 * 12
    values[300] = 5.0 + 0.5 * 3
    follow = jax.jit(lambda guard, value: watch(guard, value, jnp.isfinite(value)))
    for index, value in enumerate(values):
        guard, verdict = follow(guard, value)
        if verdict.spike:
            spikes.append(index)
    assert spikes == [400, 401, 500]
    assert abs(float(guard.mean) - 5.0) < 0.3
