"""Checkpoints that were damaged, emptied or lost, and metrics that were cut off."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mmdiffusion_jax import training


def state(value):
    return {
        "w": jnp.full((40, 40), value, jnp.float32),
        "half": jnp.full((3,), value, jnp.bfloat16),
        "key": jax.random.key(int(value)),
    }


@pytest.fixture
def folder(tmp_path):
    with training.Checkpoints(tmp_path / "checkpoints") as checkpoints:
        for step in (1, 2, 3):
            checkpoints.save(step, state(step), {"next_example": step})
    return tmp_path / "checkpoints"


def flip_largest(folder):
    file = max((f for f in folder.rglob("*") if f.is_file()), key=lambda f: f.stat().st_size)
    whole = file.read_bytes()
    middle = len(whole) // 2
    file.write_bytes(whole[:middle] + bytes([whole[middle] ^ 1]) + whole[middle + 1 :])


def empty(folder):
    for file in sorted(folder.rglob("*"), reverse=True):
        file.unlink() if file.is_file() else file.rmdir()


def restore(folder, **options):
    with training.Checkpoints(folder, **options) as checkpoints:
        return checkpoints.restore(state(0))


def test_everything_comes_back_bit_for_bit(folder):
    found = restore(folder)
    assert (found.step, found.position) == (3, {"next_example": 3})
    np.testing.assert_array_equal(found.state["w"], state(3)["w"])
    assert found.state["half"].dtype == jnp.bfloat16
    assert bool(
        (jax.random.key_data(found.state["key"]) == jax.random.key_data(state(3)["key"])).all()
    )


@pytest.mark.parametrize("harm", [flip_largest, empty])
def test_a_damaged_step_is_skipped_kept_aside_and_saved_anew(folder, harm):
    harm(folder / "3")
    assert restore(folder, read_only=True).step == 2
    assert (folder / "3").exists()
    with training.Checkpoints(folder) as checkpoints:
        assert checkpoints.restore(state(0)).step == 2
        checkpoints.save(3, state(7), {})
    assert (folder / "damaged" / "3").exists()
    np.testing.assert_array_equal(restore(folder).state["w"], state(7)["w"])


def test_no_usable_step_is_an_error_not_a_new_start(folder):
    for step in (1, 2, 3):
        flip_largest(folder / str(step))
    with pytest.raises(ValueError, match=r"without a usable checkpoint .*step 3: .*step 1: "):
        restore(folder)


def test_a_step_that_exists_and_another_template_are_errors(folder):
    with training.Checkpoints(folder) as checkpoints:
        with pytest.raises(ValueError, match="`step`: got 3, expected a step above 3"):
            checkpoints.save(3, state(3), {})
        with pytest.raises(ValueError, match="w"):
            checkpoints.restore({**state(0), "w": jnp.zeros(5)})


def test_metrics_resume_without_the_lines_that_will_come_again(tmp_path):
    with training.MetricWriter(tmp_path) as writer:
        for step in (1, 2, 3):
            writer.write(step, {"train/loss": step / 2, "train/bad": float("nan")})
    path = tmp_path / "metrics.jsonl"
    path.write_text(path.read_text() + '{"step": 4, "tra')
    with training.MetricWriter(tmp_path, resume_step=2) as writer:
        writer.write(3, {"train/loss": 9.0})
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    assert [line["step"] for line in lines] == [1, 2, 3]
    assert lines[-1]["train/loss"] == 9.0
    assert np.isnan(training.read_metrics(path)[0]["train/bad"])
    assert list((tmp_path / "tensorboard").iterdir())
