"""A trained model taken up by another run, by the commands that a user types."""

import json
import shutil

import jax
import numpy as np
import orbax.checkpoint as ocp
import pytest

from configs import smoke
from mmdiffusion_jax import apps, evaluation, experiment, training
from tests.apps.small import SMALL, launch, prepare
from tests.processes import together

DEEPER = (*SMALL, "--config.backbone.depth=2", "--config.training.num_steps=4")


def stored(workdir, step):
    """The averages in a checkpoint, by Orbax alone, from however many processes it is."""
    place = workdir.absolute() / f"checkpoints/{step}/state"
    with ocp.Checkpointer(ocp.PyTreeCheckpointHandler()) as checkpointer:
        names = checkpointer.metadata(place).item_metadata.tree
        as_array = ocp.RestoreArgs(restore_type=np.ndarray)
        args = ocp.args.PyTreeRestore(restore_args=dict.fromkeys(names, as_array))
        leaves = checkpointer.restore(place, args=args)
    return {name: x for name, x in leaves.items() if name.startswith("ema/")}


@pytest.mark.long
def test_a_run_begins_from_another_and_goes_on_without_it(finished, tmp_path):
    place, workdir = tmp_path / "source", tmp_path / "w"
    shutil.copytree(finished, place)
    flags = (*DEEPER, f"--workdir={workdir}", f"--config.data.folder={finished.parent}")
    flags += (f"--config.init_from={place}",)
    done = launch("train", *flags)
    assert done.returncode == 0, done.stderr
    table = (workdir / "init_from.md").read_text()
    assert table.strip() in done.stderr
    assert done.stderr.count("else than in the source, by backbone.depth 2 (1 there).") == 1
    assert f"The averaged parameters (ema) of step 8 of {place}" in table
    assert "| backbone/blocks_0/… | " in table
    for line in table.splitlines():
        if line.startswith("| backbone/blocks_1/"):
            assert line.endswith("| new |")
    begun, theirs = stored(workdir, 0), stored(finished, 8)
    for name, x in theirs.items():
        np.testing.assert_array_equal(begun[name], x)

    shutil.rmtree(place)
    other = ("learning_rate=0.0001", "batch_size=128", "num_steps=6")
    done = launch("train", *flags, *(f"--config.training.{each}" for each in other))
    assert done.returncode == 0, done.stderr
    assert "Resuming from step 4" in done.stderr
    assert (
        "The run goes on with training.batch_size 128 (64 before), training.learning_rate 0.0001 "
        "(0.002 before), training.num_steps 6 (4 before); a run may go on with another"
    ) in done.stderr
    with training.Checkpoints(workdir / "checkpoints", read_only=True) as checkpoints:
        assert checkpoints.newest_position() == (6, {"next_example": 4 * 64 + 2 * 128})


def test_a_source_that_is_not_there_ends_in_one_line(tmp_path):
    flags = (f"--workdir={tmp_path / 'w'}", f"--config.init_from={tmp_path / 'nowhere'}")
    done = launch("train", *DEEPER, f"--config.data.folder={tmp_path}", *flags)
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1].startswith("error: `config.init_from`: got "), done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "w").exists()


@pytest.mark.long
def test_two_processes_begin_as_one(finished, tmp_path):
    workdir = tmp_path / "w"
    flags = (*DEEPER, f"--workdir={workdir}", f"--config.data.folder={finished.parent}")
    flags += (f"--config.init_from={finished}", "--config.sharding.fsdp=2")
    flags += ("--config.sharding.min_size=64",)
    forked = dict.fromkeys(range(2), (prepare, 1))
    for run in together(2, "launch/train.py", *flags, folder=tmp_path, prepare=forked):
        assert run.wait(600) == 0, run.said
    begun, theirs = stored(workdir, 0), stored(finished, 8)
    for name, x in theirs.items():
        np.testing.assert_array_equal(begun[name], x)


def digits(folder, num_steps, with_masked=True):
    """Images and labels, and images with a hidden square beside them."""
    config = smoke.get_config()
    config.data.folder = str(folder)
    config.training.update({"num_steps": num_steps, "warmup_steps": 20, "log_every": num_steps})
    config.training.update({"eval_every": num_steps, "sample_every": 0, "checkpoint_every": 0})
    config.evaluation.num_scored = 0
    if with_masked:
        config.modalities.masked = {"kind": "masked_image", "num_squares": 1, "square_size": 4}
        config.process.weights.masked = {"rule": "bump", "scale": 1.0}
    return config


def figures(workdir):
    """Those of the last evaluation."""
    lines = [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]
    return [line for line in lines if "eval/loss" in line][-1]


@pytest.mark.long
def test_a_new_modality_is_learned_from_a_trained_model(tmp_path):
    """It starts with the source's image loss, not that of the beginning, and keeps its labels."""
    apps.train(digits(tmp_path, 300, with_masked=False), str(tmp_path / "source"))
    tuned, scratch = digits(tmp_path, 40), digits(tmp_path, 40)
    tuned.init_from = str(tmp_path / "source")
    built = experiment.build(tuned)
    _, test = experiment.open_data(tuned)
    evaluate = evaluation.monitor(built, test).evaluate
    mesh = training.make_mesh()
    pretrained = experiment.open_pretrained(built, tmp_path / "tuned")
    first = evaluate(experiment.first_state(built, mesh, pretrained).params)
    fresh = evaluate(jax.jit(built.init)(jax.random.key(0)))
    source = figures(tmp_path / "source")
    for name, most in (("image/squared_error", 0.8), ("tasks/label_given_image", 0.5)):
        assert first[name] < most * fresh[name]
        assert first[name] < 1.2 * source[f"eval/{name}"]
    for name, config in (("tuned", tuned), ("scratch", scratch)):
        apps.train(config, str(tmp_path / name))
    ours, theirs = figures(tmp_path / "tuned"), figures(tmp_path / "scratch")
    for name in ("eval/loss", "eval/image/squared_error", "eval/tasks/image_given_masked"):
        assert ours[name] < 0.9 * theirs[name], name
