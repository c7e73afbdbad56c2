"""Contenders train, draw and are judged alike; what is measured is kept; the table adds up."""

import dataclasses
import json
import os
import statistics

import numpy as np
import pytest

from benchmarks.rivals import conduct, ddpm, judge
from benchmarks.rivals.conduct import DDPM, HACKABLE, OURS, Options, compare, reason_against
from benchmarks.rivals.job import GIVEN, IMAGE, JOINT, LABEL
from benchmarks.rivals.table import Run, table_of
from benchmarks.speed.harness import Pace
from configs import digits
from mmdiffusion_jax import experiment

PYTHON = os.environ.get("MMDIFFUSION_RIVALS_PYTHON", "")
PACE = Pace(rounds=1, count=1)


def tiny(tmp_path):
    config = digits.get_config()
    config.backbone.width, config.backbone.depth, config.backbone.num_heads = 16, 1, 2
    config.training.num_steps, config.training.batch_size = 3, 8
    config.sampling.num_steps = 2
    config.evaluation.num_samples = 24
    config.data.folder = str(tmp_path / "digits")
    return config


def options(*contenders, **fields):
    return Options(**{"seeds": (0,), "contenders": contenders, "pace": PACE, "more": 2, **fields})


def write_costs(folder, **seconds):
    """What a step takes, so that it is not measured."""
    folder.mkdir()
    costs = {
        name: {"flops": 0.0, "seconds": time, "num_parameters": 1} for name, time in seconds.items()
    }
    (folder / "costs.json").write_text(json.dumps(costs))


def run_of(contender, seed, frechet, **fields):
    figures = {"15": {"joint/frechet": frechet, **fields}}
    return Run(contender, seed, 100, 5.0, 1000 + seed, "a 1", figures, {"15": 0.5})


def rows_of(table):
    cells = [line.strip("|").split("|") for line in table.splitlines() if line.startswith("| ")]
    return {row[0].strip(): [cell.strip() for cell in row[1:]] for row in cells}


def test_the_table_has_means_spreads_and_ratios():
    frechets = {"ours": (2.0, 3.0, 4.0), "other": (6.0, 6.0, 9.0)}
    runs = [
        run_of(name, seed, values[seed], **({"joint/recall": 0.5} if name == "ours" else {}))
        for seed in range(3)
        for name, values in frechets.items()
    ]
    rows = rows_of(table_of(runs, {"ours": 0.01, "other": 0.03}, "steps"))
    assert rows["figure"] == ["ours, 15 calls", "other, 15 calls"]
    spread = statistics.stdev(frechets["other"])
    assert rows["joint/frechet ↓"] == ["3.000 ± 1.000", f"7.000 ± {spread:.3f} (× 2.33)"]
    assert rows["joint/recall ↑"] == ["0.500", "–"]
    assert rows["seconds a step of training"] == ["0.01", "0.03 (× 3.00)"]
    assert rows["steps of training"] == ["100", "100 (× 1.00)"]


@pytest.mark.long
def test_a_run_is_kept_and_read_again(tmp_path, monkeypatch, caplog):
    """Of ours and diffusers, with hackable-diffusion left out for one reason."""
    pytest.importorskip("diffusers")
    asked = options(DDPM, HACKABLE, python=str(tmp_path / "nowhere"))
    write_costs(tmp_path / "w", **{OURS: 0.1, DDPM: 0.1})
    table = compare(tiny(tmp_path), tmp_path / "w", asked)
    rows = rows_of(table)
    assert rows["figure"] == [f"{name}, {n} calls" for n in (2, 4) for name in (OURS, DDPM)]
    assert rows["joint/image_label/agreement ↑"][1] == "–"
    assert "–" not in rows["joint/frechet ↓"]
    assert f"{HACKABLE} is left out: --python: got {tmp_path}/nowhere, which cannot be" in table
    for name in (OURS, DDPM):
        folder = tmp_path / "w" / f"{name}-3-seed0"
        figures = json.loads((folder / "figures.json").read_text())["run"]["figures"]
        assert figures["2"]["joint/frechet"] > 0
        with np.load(folder / "joint-2.npz") as samples:
            assert samples[IMAGE].shape == (24, 8, 8, 1)
            assert set(np.unique(samples[IMAGE])) <= set(np.round(np.arange(17) * 255 / 16))
            assert samples[IMAGE].std() > 0

    def refuse(*arguments):
        raise AssertionError("it is measured again")

    monkeypatch.setattr(conduct.Comparison, "_start", refuse)
    assert compare(tiny(tmp_path), tmp_path / "w", asked) == table
    (tmp_path / "w" / f"{DDPM}-3-seed0" / "figures.json").unlink()
    with pytest.raises(AssertionError, match="measured again"):
        compare(tiny(tmp_path), tmp_path / "w", asked)


@pytest.mark.skipif(
    bool(reason_against(PYTHON)) if PYTHON else True,
    reason="MMDIFFUSION_RIVALS_PYTHON names no interpreter that has hackable-diffusion",
)
def test_hackable_diffusion_draws_in_each_direction(tmp_path):
    table = compare(tiny(tmp_path), tmp_path / "w", options(HACKABLE, python=PYTHON))
    rows = rows_of(table)
    assert rows["figure"][1] == f"{HACKABLE}, 2 calls"
    assert all("–" not in row for row in rows.values())
    folder = tmp_path / "w" / f"{HACKABLE}-3-seed0"
    config = tiny(tmp_path)
    test = experiment.open_data(config)[1].take(np.arange(24))
    with np.load(folder / "image_given_label-2.npz") as samples:
        np.testing.assert_array_equal(samples[LABEL], np.arange(24) % 10)
    with np.load(folder / "label_given_image-2.npz") as samples:
        np.testing.assert_array_equal(samples[IMAGE], test[IMAGE])
        assert samples[LABEL].max() < 10
    assert {JOINT, *GIVEN} <= {file.stem.partition("-")[0] for file in folder.glob("*.npz")}


@pytest.mark.long
def test_a_step_is_measured_in_turns_once(tmp_path, monkeypatch):
    """Also that of a contender that comes later, beside ours."""
    keep = lambda self, name, seed, num_steps: run_of(name, seed, 1.0)  # noqa: E731
    monkeypatch.setattr(conduct.Comparison, "_run", keep)
    folder = tmp_path / "w"
    compare(tiny(tmp_path), folder, options())
    first = json.loads((folder / "costs.json").read_text())
    assert list(first) == [OURS]
    assert first[OURS]["seconds"] > 0
    compare(tiny(tmp_path), folder, options(DDPM))
    both = json.loads((folder / "costs.json").read_text())
    assert both[OURS] == first[OURS]
    assert both[DDPM]["seconds"] > 0


def test_equal_time_gives_the_slower_fewer_steps(tmp_path):
    config = tiny(tmp_path)
    folder = tmp_path / "w"
    write_costs(folder, **{OURS: 0.1, DDPM: 0.3})
    taken = {}

    def keep(self, name, seed, num_steps):
        taken[name] = num_steps
        return dataclasses.replace(run_of(name, seed, 1.0), steps=num_steps)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(conduct.Comparison, "_run", keep)
        config.training.num_steps = 300
        compare(config, folder, options(DDPM, budget="time"))
    assert taken == {OURS: 300, DDPM: 100}


def test_the_rate_is_that_of_optax():
    import optax

    schedule = optax.warmup_cosine_decay_schedule(0.0, 1.0, 20, 100)
    ours = [ddpm.rate_of(step, 20, 100) for step in range(101)]
    np.testing.assert_allclose(ours, [schedule(step) for step in range(101)], atol=1e-6)


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"budget": "money"}, "`budget`: got 'money'"),
        ({"seeds": ()}, r"`seeds`: got \(\), expected one or more"),
        ({"seeds": (1, 1)}, r"`seeds`: got \(1, 1\)"),
        ({"contenders": ("theirs",)}, "`contenders`: got 'theirs'"),
        ({"more": 1}, "`more`: got 1"),
    ],
)
def test_wrong_options_are_named(fields, words):
    with pytest.raises(ValueError, match=words):
        Options(**fields)


def test_other_modalities_are_refused(tmp_path):
    config = tiny(tmp_path)
    del config.modalities["label"]
    config.process.weights = config.loss.scales = {}
    with pytest.raises(ValueError, match=r"`config\.modalities`: got \{'image': 'image'\}"):
        judge.check_modalities(experiment.build(config))
