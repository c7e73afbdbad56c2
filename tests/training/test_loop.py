"""What the loop keeps where an evaluation or a picture fails, and what an interval of 0 means."""

import gc
import os
import time
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from mmdiffusion_jax import training
from mmdiffusion_jax.training import loop
from mmdiffusion_jax.training.step_folders import StepFolders

PICTURE = np.zeros((2, 2, 3), np.uint8)


def begin(widths=()):
    """The first state of a model of one vector, and its optimiser."""
    optimiser = optax.adam(0.1)
    init = lambda key: {"w": jax.random.normal(key, (4,))}  # noqa: E731
    mesh = training.make_mesh()
    key = jax.random.key(0)
    return training.create_state(key, init, optimiser, mesh, widths=widths), optimiser


def ones(start):
    return iter([{"x": jnp.ones((2, 4))}] * 4)


def train(
    folder,
    evaluate=lambda params: {"loss": 0.0},
    picture=lambda params: PICTURE,
    open_batches=ones,
    written=None,
    **options,
):
    """Four steps of the model, and what is left in the folder."""

    def loss(params, key, batch):
        value = ((batch["x"] @ params["w"]) ** 2).mean()
        return value, {"loss": value}

    mesh = training.make_mesh()
    state, optimiser = begin(options.get("ema_widths", ()))
    layout = training.state_sharding(mesh, state)
    step = training.make_step(loss, optimiser, 0.9, layout, training.batch_sharding(mesh, 2))
    given = {"num_steps": 4, "eval_every": 2, "sample_every": 2, "checkpoint_every": 2}
    given |= {"batch_size": 2, **options}
    return training.train(
        training.TrainingOptions(log_every=2, **given),
        folder,
        state,
        step,
        open_batches,
        training.Monitor(evaluate, picture, written=written),
    )


def kept(folder):
    with training.Checkpoints(folder / "checkpoints", read_only=True) as checkpoints:
        return checkpoints.steps()


def pictures(folder):
    return sorted(path.name for path in folder.glob("samples/*.png"))


@pytest.mark.parametrize("error", [ValueError("two channels"), KeyError("x"), TypeError()])
def test_a_picture_that_fails_is_a_warning(tmp_path, caplog, error):
    def fail(params):
        raise error

    state = train(tmp_path, picture=fail)
    assert int(state.step) == 4
    assert kept(tmp_path) == [2, 4]
    assert pictures(tmp_path) == []
    assert caplog.text.count("The picture of step 2 is left out") == 1
    assert caplog.text.count("The picture of step 4 is left out") == 1


def test_the_checkpoint_of_a_step_is_there_when_it_is_drawn(tmp_path):
    class Killed(BaseException):
        pass

    def killed(params):
        raise Killed

    with pytest.raises(Killed):
        train(tmp_path, picture=killed)
    assert kept(tmp_path) == [2]
    # Going on draws what is missing, of the parameters of that step.
    drawn = []
    train(tmp_path, picture=lambda params: drawn.append(np.asarray(params["w"])) or PICTURE)
    assert pictures(tmp_path) == ["samples_00000002.png", "samples_00000004.png"]
    assert not np.array_equal(drawn[0], drawn[1])
    (tmp_path / "samples" / "samples_00000004.png").unlink()
    train(tmp_path, picture=lambda params: drawn.append(np.asarray(params["w"])) or PICTURE)
    np.testing.assert_array_equal(drawn[1], drawn[2])


def test_an_evaluation_that_fails_ends_the_run_after_its_checkpoint(tmp_path):
    def fail(params):
        raise ValueError("no example")

    with pytest.raises(ValueError, match="no example"):
        train(tmp_path, evaluate=fail)
    assert kept(tmp_path) == [2]


@pytest.mark.parametrize("failing", [2, 4])
def test_an_evaluation_that_failed_is_made_up_for(tmp_path, failing):
    """The run ends as one whose evaluations went well, also where the last step's failed."""

    def evaluate(params):
        return {"loss": float(jnp.abs(params["w"]).sum())}

    options = {"best_metric": "loss", "best_mode": "max"}
    train(tmp_path / "well", evaluate, **options)
    calls = []

    def fails_once(params):
        calls.append(params)
        if len(calls) == failing // 2:
            raise MemoryError
        return evaluate(params)

    with pytest.raises(MemoryError):
        train(tmp_path / "failed", fails_once, **options)
    train(tmp_path / "failed", fails_once, **options)
    assert len(calls) == 3
    train(tmp_path / "failed", fails_once, **options)
    assert len(calls) == 3
    for folder in ("well", "failed"):
        lines = training.read_metrics(tmp_path / folder / "metrics.jsonl")
        losses = {line["step"]: line["eval/loss"] for line in lines if "eval/loss" in line}
        assert sorted(losses) == [2, 4]
        with training.Checkpoints(tmp_path / folder / "best", read_only=True) as best:
            assert best.steps() == [max(losses, key=losses.__getitem__)]


def test_an_evaluation_that_was_to_choose_an_average_is_repeated_with_its_steps(tmp_path):
    def fail(params):
        raise MemoryError

    options = {"ema_widths": (0.1,), "eval_every": 4}
    with pytest.raises(MemoryError):
        train(tmp_path, fail, **options)
    assert kept(tmp_path) == [2]
    train(tmp_path, **options)
    with training.Checkpoints(tmp_path / "checkpoints", read_only=True) as checkpoints:
        step, position = checkpoints.newest_position()
    assert (step, position["average"]) == (4, "")


def test_an_interval_of_zero_is_off_at_the_end_too(tmp_path):
    def never(params):
        raise AssertionError

    train(tmp_path, evaluate=never, picture=never, eval_every=0, sample_every=0, checkpoint_every=0)
    assert kept(tmp_path) == [4]
    assert pictures(tmp_path) == []
    lines = training.read_metrics(tmp_path / "metrics.jsonl")
    assert all(not name.startswith("eval/") for line in lines for name in line)


def test_the_average_of_the_lowest_loss_is_what_a_finished_run_shows(tmp_path):
    """Here the loss is the distance to the last parameters, which the narrowest is nearest to."""
    widths = (0.28, 0.01, 0.1)
    last = train(tmp_path / "plain", eval_every=0, sample_every=0).params["w"]
    drawn = []

    def distance(params):
        return {"loss": float(jnp.abs(params["w"] - last).sum())}

    def draw(params):
        drawn.append(np.asarray(params["w"]))
        return PICTURE

    folder = tmp_path / "several"
    state = train(folder, distance, draw, ema_widths=widths, best_metric="loss")
    np.testing.assert_array_equal(state.params["w"], last)
    chosen = np.asarray(state.averages["0.01"]["w"])
    for name in ("checkpoints", "best"):
        with training.Checkpoints(folder / name, read_only=True) as checkpoints:
            restored = checkpoints.restore(begin(widths)[0])
        shown = restored.state.averaged(restored.position)["w"]
        np.testing.assert_array_equal(shown, chosen)
    np.testing.assert_array_equal(drawn[-1], chosen)
    lines = training.read_metrics(folder / "metrics.jsonl")
    losses = {k: v for line in lines for k, v in line.items() if k.startswith("average/")}
    order = ["0.01", "0.1", "0.28", "ema"]
    assert sorted(losses, key=losses.__getitem__)[:1] == ["average/0.01/loss"]
    assert sorted(losses) == [f"average/{width}/loss" for width in order]
    # The step before is not the last: what is shown there is the average of always.
    assert not np.array_equal(drawn[0], chosen)
    # A finished run that lacks its picture draws it of the same average.
    (folder / "samples" / "samples_00000004.png").unlink()
    train(folder, distance, draw, ema_widths=widths, best_metric="loss")
    np.testing.assert_array_equal(drawn[-1], chosen)


@pytest.mark.parametrize(
    ("size", "first", "last"), [(2, 8, 16), (4, 8, 24), (3, 9, 21), (16, 16, 80)]
)
def test_a_run_that_goes_on_with_other_batches_leaves_out_none_but_a_part_of_one(
    tmp_path, size, first, last
):
    """Four steps of two examples, then four of another number: where these begin and end."""
    starts = []

    def open_batches(start):
        starts.append(start)
        return iter([{"x": jnp.ones((2, 4))}] * 8)

    train(tmp_path, open_batches=open_batches)
    train(tmp_path, open_batches=open_batches, num_steps=8, batch_size=size)
    train(tmp_path, open_batches=open_batches, num_steps=9, batch_size=size)
    assert starts == [0, first, last]


def test_what_is_written_is_told_when_it_is_there(tmp_path):
    """Once a step that has an evaluation, a picture or a checkpoint, after all of them."""
    seen = []

    def written(step):
        lines = training.read_metrics(tmp_path / "metrics.jsonl")
        evaluated = [line["step"] for line in lines if "eval/loss" in line]
        seen.append((step, evaluated, len(pictures(tmp_path))))

    train(tmp_path, written=written, eval_every=3, sample_every=4, checkpoint_every=2)
    assert seen == [(2, [], 0), (3, [3], 0), (4, [3, 4], 1)]


def test_a_run_that_goes_on_holds_no_more_than_one_that_begins(tmp_path):
    """What is restored takes the place of the fresh state on the devices."""
    held = []

    def written(step):
        gc.collect()
        held.append(sum(x.shape == (4,) for x in jax.live_arrays()))

    train(tmp_path / "whole", written=written)
    train(tmp_path / "cut", num_steps=2)
    train(tmp_path / "cut", written=written)
    # Parameters, their average and two moments, beside what other tests have left.
    assert held[-1] <= held[1]


def test_the_best_checkpoint_is_there_before_one_that_a_run_goes_on_from(tmp_path, monkeypatch):
    """So that no evaluation whose checkpoint was lost counts as offered."""
    commit = os.rename
    seen = []

    def slow(source, target, **options):
        if "best" in Path(target).parts:
            time.sleep(0.3)
        commit(source, target, **options)

    class Watched(training.Checkpoints):
        def save(self, step, state, position):
            if self._folder.name == "checkpoints":
                seen.append((step, StepFolders(tmp_path / "best").committed()))
            super().save(step, state, position)

    monkeypatch.setattr(os, "rename", slow)
    monkeypatch.setattr(loop, "Checkpoints", Watched)
    losses = iter([3.0, 1.0, 2.0, 2.0])
    options = {"best_metric": "loss", "eval_every": 1, "checkpoint_every": 1}
    train(tmp_path, lambda params: {"loss": next(losses)}, **options)
    assert seen == [(1, [1]), (2, [2]), (3, [2]), (4, [2])]


def test_a_signal_leaves_what_is_due_to_the_run_that_goes_on(tmp_path, monkeypatch):
    calls = []

    def evaluate(params):
        calls.append(np.asarray(params["w"]))
        return {"loss": float(np.abs(calls[-1]).sum())}

    train(tmp_path / "whole", evaluate)
    at_once, calls = calls, []
    with monkeypatch.context() as patched:
        patched.setattr(loop.StopSignal, "requested", lambda self, step: step == 2)
        train(tmp_path / "stopped", evaluate)
    assert kept(tmp_path / "stopped") == [2]
    assert (calls, pictures(tmp_path / "stopped")) == ([], [])
    train(tmp_path / "stopped", evaluate)
    np.testing.assert_array_equal(calls, at_once)
    assert pictures(tmp_path / "stopped") == pictures(tmp_path / "whole")


def test_a_late_evaluation_is_of_the_average_that_was_chosen(tmp_path):
    widths = (0.28, 0.01)

    def size(params):
        return {"loss": float(jnp.abs(params["w"]).sum())}

    train(tmp_path, size, ema_widths=widths, eval_every=0)
    train(tmp_path, size, ema_widths=widths, eval_every=4)
    lines = training.read_metrics(tmp_path / "metrics.jsonl")
    figures = {name: value for line in lines for name, value in line.items()}
    losses = [figures[f"average/{width}/loss"] for width in ("ema", *widths)]
    assert figures["eval/loss"] == min(losses) != figures["average/ema/loss"]
