"""Draws of t by their noise level."""

import jax
import numpy as np
import pytest
from scipy import stats

from mmdiffusion_jax import process


@pytest.mark.parametrize("schedule", [process.cosine_schedule(1000), process.linear_schedule(1000)])
def test_levels_are_logit_normal_within_the_schedule(schedule):
    """σ / sqrt(ᾱ) = s / (1 − s) with a logit-normal s, told from others of its kind."""
    draw = process.logit_normal_timesteps
    t = np.asarray(draw(jax.random.key(0), 4000, schedule, -0.8, 0.6))
    share = 1 / (1 + np.sqrt(np.asarray(schedule.snr)[t]))
    levels = np.log(share / (1 - share))
    assert stats.kstest(levels, stats.norm(-0.8, 0.6).cdf).statistic < 0.03
    assert stats.kstest(levels, stats.norm(-0.7, 0.6).cdf).statistic > 0.04


def test_levels_beyond_the_schedule_are_its_ends():
    schedule = process.cosine_schedule(10)
    t = process.logit_normal_timesteps(jax.random.key(0), 500, schedule, 0.0, 100.0)
    assert set(np.unique(t)) >= {1, 10}
    assert int(t.min()) == 1
    assert int(t.max()) == 10
