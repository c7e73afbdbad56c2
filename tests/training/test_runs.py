"""Whole runs in processes of their own: resuming bit for bit, eight devices, and bad input."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

ROOT = Path(__file__).resolve().parents[2]
SMALL = (
    "--config=configs/smoke.py",
    "--config.backbone.width=16",
    "--config.backbone.depth=1",
    "--config.process.num_steps=8",
    "--config.training.num_steps=8",
    "--config.training.warmup_steps=2",
    "--config.training.log_every=2",
    "--config.training.eval_every=4",
    "--config.training.sample_every=0",
    "--config.training.checkpoint_every=2",
    "--config.training.keep=9",
    "--config.evaluation.num_samples=20",
)


def launch(script, *arguments, **environment):
    return subprocess.run(
        [sys.executable, f"launch/{script}.py", *map(str, arguments)],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT), "PYTHONWARNINGS": "", **environment},
        capture_output=True,
        text=True,
    )


def restored(workdir):
    from mmdiffusion_jax import experiment, run, training

    built = experiment.build(experiment.read_config(workdir))
    whole = training.replicated(training.make_mesh())
    _, template = run.make_step_and_state(built, whole, whole)
    with training.Checkpoints(Path(workdir) / "checkpoints", read_only=True) as checkpoints:
        found = checkpoints.restore(template)
    import jax

    leaves = jax.tree.leaves((found.state.params, found.state.ema, found.state.opt_state))
    return found.step, found.position, [np.asarray(leaf) for leaf in leaves]


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    folder = tmp_path_factory.mktemp("run")
    done = launch("train", *SMALL, f"--workdir={folder / 'w'}", f"--config.data.folder={folder}")
    assert done.returncode == 0, done.stderr
    return folder / "w"


def lines_of(workdir, *left_out):
    lines = [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]
    return [{k: v for k, v in line.items() if k not in left_out} for line in lines]


def test_metrics_name_every_modality(finished):
    lines = lines_of(finished)
    assert [line["step"] for line in lines if "train/loss" in line] == [2, 4, 6, 8]
    assert [line["step"] for line in lines if "eval/loss" in line] == [4, 8]
    for name in ("train/image/loss", "train/label/loss", "train/image/squared_error"):
        assert name in lines[0]


def test_resuming_is_the_uninterrupted_run_bit_for_bit(finished, tmp_path):
    import shutil

    cut = tmp_path / "w"
    shutil.copytree(finished, cut)
    for step in (6, 8):
        shutil.rmtree(cut / "checkpoints" / str(step))
        (cut / "checkpoints" / "digests" / f"{step}.json").unlink()
    folder = f"--config.data.folder={finished.parent}"
    done = launch("train", *SMALL, f"--workdir={cut}", folder)
    assert done.returncode == 0, done.stderr
    assert "Resuming from step 4" in done.stderr
    step, position, leaves = restored(cut)
    want_step, want_position, want = restored(finished)
    assert (step, position) == (want_step, want_position) == (8, {"next_example": 8 * 64})
    for ours, theirs in zip(leaves, want, strict=True):
        np.testing.assert_array_equal(ours, theirs)
    speed = "train/steps_per_second"
    assert lines_of(cut, speed) == lines_of(finished, speed)


def test_eight_devices_take_the_same_steps(finished, tmp_path):
    flags = "--xla_force_host_platform_device_count=8"
    folder = f"--config.data.folder={finished.parent}"
    done = launch("train", *SMALL, f"--workdir={tmp_path / 'w'}", folder, XLA_FLAGS=flags)
    assert done.returncode == 0, done.stderr
    assert "8 devices" in done.stderr
    for ours, theirs in zip(restored(tmp_path / "w")[2], restored(finished)[2], strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=2e-3, atol=2e-4)
    names = ("train/loss", "train/label/loss", "train/image/squared_error")
    for ours, theirs in zip(lines_of(tmp_path / "w"), lines_of(finished), strict=True):
        for name in names:
            if name in theirs:
                np.testing.assert_allclose(ours[name], theirs[name], rtol=1e-3)


def test_samples_in_data_units(finished, tmp_path):
    done = launch(
        "sample", f"--workdir={finished}", "--num_samples=7", f"--out={tmp_path}", "--given=label=3"
    )
    assert done.returncode == 0, done.stderr
    with np.load(tmp_path / "samples.npz") as samples:
        assert samples["image"].shape == (7, 8, 8, 1)
        assert samples["image"].dtype == np.uint8
        assert samples["label"].tolist() == [3] * 7
    with Image.open(tmp_path / "samples.png") as sheet:
        assert sheet.size[0] > 100
    given = tmp_path / "given.npz"
    np.savez(given, image=np.zeros((7, 8, 8, 1), np.uint8))
    done = launch(
        "sample", f"--workdir={finished}", "--num_samples=7", f"--out={tmp_path}/b",
        f"--given=image={given}",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    with np.load(tmp_path / "b" / "samples.npz") as samples:
        assert set(samples["label"].tolist()) <= set(range(10))


def test_evaluation_writes_its_table(finished):
    done = launch("evaluate", f"--workdir={finished}")
    assert done.returncode == 0, done.stderr
    figures = json.loads((finished / "metrics.json").read_text())
    total = sum(figures[f"bound/{x}"] for x in ("prior", "posterior", "recovery", "reconstruction"))
    np.testing.assert_allclose(figures["bound/total"], total)
    np.testing.assert_allclose(figures["bits_per_dim"], total / (65 * np.log(2)))
    assert "label/joint_agreement" in done.stdout
    assert figures["label/judge_accuracy"] > 0.97
    assert figures["joint/frechet_floor"] > 0


@pytest.mark.parametrize(
    ("script", "arguments", "words"),
    [
        ("train", ["--config.seed=5"], "holds an experiment that differs in seed"),
        ("train", ["--config.training.num_step=5"], "did you mean 'num_steps'"),
        ("train", ["--config.process.schedule=cosin"], "did you mean 'cosine'"),
        ("train", ["--config.loss.timesteps=unifrm"], "did you mean 'uniform'"),
        ("sample", ["--given=labl=3"], "did you mean 'label'"),
        ("sample", ["--given=label=10"], "got label 10, expected labels in 0 … 9"),
        ("sample", ["--given=label=x"], "expected a whole number or a .npz"),
        ("sample", ["--num_samples=0"], "`num_samples`: got 0"),
    ],
)
def test_bad_flags_end_in_one_line_and_touch_nothing(finished, tmp_path, script, arguments, words):
    def listing():
        return sorted((p, p.stat().st_mtime_ns) for p in finished.rglob("*") if p.is_file())

    before = listing()
    common = [f"--workdir={finished}"]
    if script == "train":
        common += [*SMALL, f"--config.data.folder={finished.parent}"]
    else:
        common += [f"--out={tmp_path / 'out'}"]
    done = launch(script, *common, *arguments)
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1].startswith("error: "), done.stderr
    assert words in done.stderr
    assert "Traceback" not in done.stderr
    assert listing() == before
    assert not (tmp_path / "out").exists()
