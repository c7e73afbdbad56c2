"""The rival formulation's loss against a joint Gaussian world, and where it counts nothing."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mmdiffusion_jax import baselines, objective, process
from mmdiffusion_jax.baselines import SeparateFunctions
from tests.gaussian_pair import CORRELATION, optimal_model, pairs

SCHEDULE = process.cosine_schedule(8)


def test_the_optimum_pays_the_posterior_variances():
    """E‖ε − ε_θ‖² is then SNR_t · Var[x | z^x_t, z^y_s], averaged over t ≥ 1 and s ≥ 0."""
    batch = pairs(jax.random.key(0), 50_000)
    model = optimal_model(SCHEDULE)
    run = jax.jit(lambda key: baselines.separate_loss_terms(key, SCHEDULE, model, batch).means())
    means = run(jax.random.key(1))
    signal = np.sqrt(np.asarray(SCHEDULE.alpha_bar, np.float64))
    variance = 1 - signal**2
    truth, nats = [], []
    for t in range(9):
        for s in range(9):
            covariance = np.array([[1, CORRELATION], [CORRELATION, 1]])
            gain = np.diag([signal[t], signal[s]])
            seen = gain @ covariance @ gain + np.diag([variance[t], variance[s]])
            if (t, s) == (0, 0):
                seen += 1e-9 * np.eye(2)
            left = covariance - covariance @ gain @ np.linalg.solve(seen, gain @ covariance)
            if t:
                truth.append(signal[t] ** 2 / variance[t] * left[0, 0])
            if s:
                nats.append(0.5 * np.log(2 * np.pi * left[1, 1]) + 0.5)
    np.testing.assert_allclose(means["x/squared_error"].value, np.mean(truth), rtol=0.02)
    np.testing.assert_allclose(means["y/loss"].value, np.mean(nats), rtol=0.02)


def test_absent_modalities_are_pure_noise_and_cost_nothing():
    batch = pairs(jax.random.key(0), 64)
    seen = {}

    def denoise(states, times):
        seen.update(times)
        return optimal_model(SCHEDULE).denoise(states, times)

    model = SeparateFunctions(denoise, optimal_model(SCHEDULE).modalities, "x", "z_0")
    presence = {"y": jnp.zeros(64)}

    def loss_of(batch):
        key = jax.random.key(1)
        return baselines.separate_loss_terms(key, SCHEDULE, model, batch, presence).reduce()

    loss, scalars = loss_of(batch)
    assert set(seen["y"].tolist()) == {8}
    assert set(seen["x"].tolist()) == set(range(9))
    assert float(scalars["y/loss"].value) == 0
    moved, _ = loss_of({**batch, "y": batch["y"] + 5})
    assert float(loss) == pytest.approx(float(moved), rel=1e-6)


def test_unknown_names():
    model = optimal_model(SCHEDULE)
    with pytest.raises(ValueError, match="`modality_scales`: got 'z'"):
        baselines.separate_loss_terms(
            jax.random.key(0), SCHEDULE, model, pairs(jax.random.key(0), 2),
            options=objective.LossOptions({"z": 1.0}),
        )  # fmt: skip
    with pytest.raises(ValueError, match="`primary`: got 'z'"):
        SeparateFunctions(model.denoise, model.modalities, "z")
    with pytest.raises(ValueError, match="`target`: got 'eps'"):
        SeparateFunctions(model.denoise, model.modalities, "x", "eps")
