"""Whole runs in processes of their own: resuming bit for bit, and eight devices."""

import json
import shutil
from pathlib import Path

import chex
import jax
import numpy as np
import pytest

from mmdiffusion_jax import apps, experiment, training
from tests.apps.small import SMALL, launch


def restored(workdir):
    built = experiment.build(experiment.read_config(workdir))
    template = experiment.abstract_state(built, training.make_mesh())
    with training.Checkpoints(Path(workdir) / "checkpoints", read_only=True) as checkpoints:
        restored = checkpoints.restore(template)
    state = restored.state
    return (
        restored.step,
        restored.position,
        jax.device_get((state.params, state.ema, state.opt_state)),
    )


def lines_of(workdir):
    """The metrics without what depends on the machine."""
    lines = [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]
    return [{k: v for k, v in line.items() if not k.startswith("speed/")} for line in lines]


def test_metrics_name_every_modality(finished):
    lines = lines_of(finished)
    assert [line["step"] for line in lines if "train/loss" in line] == [2, 4, 6, 8]
    assert [line["step"] for line in lines if "eval/loss" in line] == [4, 8]
    for name in ("train/image/loss", "train/label/loss", "train/image/squared_error"):
        assert name in lines[0]


def test_resuming_is_the_uninterrupted_run_bit_for_bit(finished, tmp_path):
    cut = tmp_path / "w"
    shutil.copytree(finished, cut)
    for step in (6, 8):
        shutil.rmtree(cut / "checkpoints" / str(step))
        (cut / "checkpoints" / "digests" / f"{step}.json").unlink()
    folder = f"--config.data.folder={finished.parent}"
    done = launch("train", *SMALL, f"--workdir={cut}", folder)
    assert done.returncode == 0, done.stderr
    assert "Resuming from step 4" in done.stderr
    step, position, state = restored(cut)
    want_step, want_position, want = restored(finished)
    assert (step, position) == (want_step, want_position) == (8, {"next_example": 8 * 64})
    chex.assert_trees_all_equal(state, want)
    assert lines_of(cut) == lines_of(finished)


@pytest.mark.long
def test_eight_devices_take_the_same_steps(finished, tmp_path):
    folder = f"--config.data.folder={finished.parent}"
    done = launch("train", *SMALL, f"--workdir={tmp_path / 'w'}", folder, devices=8)
    assert done.returncode == 0, done.stderr
    assert "8 devices" in done.stderr
    chex.assert_trees_all_close(
        restored(tmp_path / "w")[2], restored(finished)[2], rtol=2e-3, atol=2e-4
    )
    names = ("train/loss", "train/label/loss", "train/image/squared_error")
    for ours, theirs in zip(lines_of(tmp_path / "w"), lines_of(finished), strict=True):
        for name in names:
            if name in theirs:
                np.testing.assert_allclose(ours[name], theirs[name], rtol=1e-3)


def test_a_run_from_before_an_option_has_its_default(finished, tmp_path):
    values = json.loads((finished / "config.json").read_text())
    del values["sampling"]["grid"], values["evaluation"]["num_scored"]
    (tmp_path / "config.json").write_text(json.dumps(values))
    config = experiment.read_config(tmp_path)
    assert config.sampling.grid == experiment.default_config().sampling.grid
    assert experiment.build(config).evaluation.num_scored > 0


def test_parameters_are_read_without_the_rest_of_the_state(finished, monkeypatch):
    """A device need not have room for what training holds beside them."""
    *_, (_, ema, _) = restored(finished)

    def refuse(*arguments):
        raise AssertionError("the whole state is read")

    monkeypatch.setattr(training.Checkpoints, "restore", refuse)
    _, _, params = apps.load(str(finished))
    chex.assert_trees_all_equal(jax.device_get(params), ema)
    assert {x.sharding.device_set.pop() for x in jax.tree.leaves(params)} == {jax.devices()[0]}
