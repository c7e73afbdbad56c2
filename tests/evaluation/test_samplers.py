"""Samplers side by side: figures against those of real examples, and the table of several runs."""

import dataclasses

import numpy as np
import pytest

from mmdiffusion_jax import data, evaluation
from mmdiffusion_jax.evaluation import compare_samplers, sampler_table
from mmdiffusion_jax.evaluation.samplers import REFERENCE, Figures


def test_every_sampler_is_measured_against_the_reference(built, digits, monkeypatch):
    """Where the samples are test examples the distance is none and the labels go with images."""
    experiment, _ = built
    columns = {name: digits[0][name] for name in ("image", "label")}
    train, test = (
        data.ArraySource({name: x[rows] for name, x in columns.items()})
        for rows in (slice(400), slice(400, None))
    )
    few = dataclasses.replace(experiment.evaluation, num_samples=200)
    experiment = dataclasses.replace(
        experiment, settings=dataclasses.replace(experiment.settings, evaluation=few)
    )
    asked = []

    def generator(self, options):
        asked.append((options.sampler["kind"], options.num_steps))
        return lambda key, params, count: test.take(np.arange(count))

    monkeypatch.setattr(type(experiment), "generator", generator)
    rows = list(compare_samplers(experiment, None, train, test, ["ddim", "heun"], [2, 4]))
    assert asked == [("ancestral", None), ("ddim", 2), ("ddim", 4), ("heun", 2), ("heun", 4)]
    assert [row.sampler for row in rows] == [REFERENCE, "ddim", "ddim", "heun", "heun"]
    assert [row.num_steps for row in rows] == [8, 2, 4, 2, 4]
    for row in rows:
        assert row.frechet == pytest.approx(0, abs=1e-6)
        assert row.agreement > 0.8
    asked.clear()
    with pytest.raises(ValueError, match="`num_steps`: got 9"):
        next(compare_samplers(experiment, None, train, test, ["ddim"], [9]))
    assert asked == []


def test_a_table_has_means_and_spreads_over_runs():
    runs = [
        [Figures(REFERENCE, 8, x, None, 1.0, 1.0), Figures("ddim", 2, 2 * x, 0.5, 0.2, 0.2)]
        for x in (1.0, 3.0)
    ]
    lines = sampler_table(runs).splitlines()
    assert lines[2].startswith(f"| {REFERENCE} | 8 | 2.00 ± 1.41 | 1.00 ± 0.00 | – |")
    assert lines[3].startswith("| ddim | 2 | 4.00 ± 2.83 | 2.00 ± 0.00 | 0.500 ± 0.000 |")
    assert lines[3].endswith("× 0.20 |")


def test_a_plot_is_drawn(tmp_path):
    rows = [Figures(REFERENCE, 8, 1.0, 0.9, 1.0, 1.0), Figures("ddim", 2, 2.0, 0.5, 0.2, 0.2)]
    evaluation.plot_samplers([rows], tmp_path / "samplers.png")
    assert (tmp_path / "samplers.png").stat().st_size > 1000
