"""Verdicts against a simulation of seeds, budgets against counted operations, and the table."""

import dataclasses

import numpy as np
import pytest

from mmdiffusion_jax.baselines import ArmRun, Cost, arms_table, equal_steps, plot_arms
from mmdiffusion_jax.baselines.comparison import shown_figures, verdict
from mmdiffusion_jax.evaluation import HIGHER_IS_BETTER

COSTS = {
    "multi": {"joint": Cost(4e9, 0.2, 1000)},
    "single": {"generate": Cost(3e9, 0.1, 900), "predict": Cost(1e9, 0.1, 900)},
}


def runs():
    rows = []
    for seed in range(3):
        for arm, accuracy, frechet in (("multi", 0.9, 1.0), ("single", 0.8, 1.01)):
            figures = {
                "label_given_image/accuracy": accuracy + 0.01 * seed,
                "joint/frechet": frechet + 0.1 * seed,
                "judge/image_label/accuracy": 0.99,
                "bits_per_dim": 3.0,
            }
            if arm == "multi":
                figures["image_given_label/agreement"] = 0.7
            counts = {"label_given_image/accuracy": 180}
            rows.append(ArmRun("steps", arm, seed, dict.fromkeys(COSTS[arm], 10), figures, counts))
    return rows


def test_equal_operations():
    counts = equal_steps({**COSTS, "other": {"a": Cost(8e9, 1.0, 1)}}, "multi", 100)
    assert counts == {"multi": 100, "single": 100, "other": 50}
    for arm, parts in COSTS.items():
        assert sum(counts[arm] * cost.flops for cost in parts.values()) == pytest.approx(4e11)


def test_equal_time():
    counts = equal_steps({**COSTS, "other": {"a": Cost(8e9, 0.4, 1)}}, "multi", 100, "time")
    assert counts == {"multi": 100, "single": 100, "other": 50}


def test_a_verdict_needs_two_standard_errors():
    """Arms of one and the same law are told apart about as often as the t distribution says."""
    from scipy.stats import t

    rng = np.random.default_rng(0)
    draws = rng.normal(size=(4000, 2, 3))
    share = np.mean([verdict(a, b, True) != "no difference" for a, b in draws])
    # Welch's degrees of freedom lie between 2 and 4 for three seeds an arm.
    assert 2 * t.sf(2, 4) - 0.02 < share < 2 * t.sf(2, 2) + 0.02
    assert verdict([1.0, 1.1], [2.0, 2.1], higher_is_better=True) == "worse"
    assert verdict([1.0, 1.1], [2.0, 2.1], higher_is_better=False) == "better"
    assert verdict([1.0], [2.0, 2.1], higher_is_better=False) == "one seed"


def test_only_what_can_be_compared_is_shown():
    assert shown_figures(runs(), HIGHER_IS_BETTER) == [
        "label_given_image/accuracy",
        "joint/frechet",
    ]


def test_the_table():
    lines = arms_table(runs(), COSTS, "multi", HIGHER_IS_BETTER).splitlines()
    row = next(line for line in lines if line.startswith("| label_given_image/accuracy ↑"))
    assert row.split("|")[2:5] == [" 180 ", " 0.910 ± 0.010 ", " 0.810 ± 0.010 (better) "]
    row = next(line for line in lines if line.startswith("| joint/frechet ↓"))
    assert row.endswith("1.110 ± 0.100 (no difference) |")
    assert "| steps | | 10 | 10 + 10 |" in lines
    assert "| operations of training | | × 1.00 | × 1.00 |" in lines
    assert "| time of training | | × 1.00 | × 1.00 |" in lines
    assert "| multi/joint | 1,000 | 4 G (× 1.000) | × 1.00 |" in lines
    assert "| single/predict | 900 | 1 G (× 0.250) | × 0.50 |" in lines


def test_a_figure_that_goes_neither_way_has_no_verdict():
    name = "joint/image_embedding/cosine_of_strangers"
    rows = [dataclasses.replace(run, figures={name: 0.5 + run.seed}) for run in runs()]
    lines = arms_table(rows, COSTS, "multi", HIGHER_IS_BETTER).splitlines()
    row = next(line for line in lines if name in line)
    assert row.startswith(f"| {name} | – | ")
    assert "better" not in row
    assert "no difference" not in row


def test_the_plot(tmp_path):
    from PIL import Image

    plot_arms(runs(), list(COSTS), HIGHER_IS_BETTER, tmp_path / "arms.png")
    with Image.open(tmp_path / "arms.png") as picture:
        assert picture.size[0] > 400
        assert len(np.unique(np.asarray(picture))) > 20
