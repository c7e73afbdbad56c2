"""Checkpoints that come back, are kept, damaged, emptied or lost."""

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
    restored = restore(folder)
    assert (restored.step, restored.position) == (3, {"next_example": 3})
    np.testing.assert_array_equal(restored.state["w"], state(3)["w"])
    assert restored.state["half"].dtype == jnp.bfloat16
    assert bool(
        (jax.random.key_data(restored.state["key"]) == jax.random.key_data(state(3)["key"])).all()
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


@pytest.mark.parametrize(
    ("options", "kept"), [({"keep": 2}, [4, 5]), ({"keep": 1, "keep_every": 2}, [2, 4, 5])]
)
def test_the_newest_stay_and_those_that_are_kept_for_good(tmp_path, options, kept):
    with training.Checkpoints(tmp_path, **options) as checkpoints:
        for step in range(1, 6):
            checkpoints.save(step, state(step), {"next_example": 16 * step})
        checkpoints.wait()
        assert checkpoints.newest_position() == (5, {"next_example": 80})
    with training.Checkpoints(tmp_path, read_only=True) as checkpoints:
        assert checkpoints.steps() == kept
    digests = sorted(int(file.stem) for file in (tmp_path / "digests").iterdir())
    assert set(kept) <= set(digests)


@pytest.mark.parametrize("keep", [0, 1, 2, 3, 5])
def test_the_newest_stay_where_others_are_deleted(folder, keep):
    with training.Checkpoints(folder) as checkpoints:
        checkpoints.trim(keep)
        assert checkpoints.steps() == [1, 2, 3][max(0, 3 - keep) :]


def test_the_state_may_be_given_away_right_after_a_save(tmp_path):
    give_away = jax.jit(lambda tree: jax.tree.map(lambda x: x * 0, tree), donate_argnums=0)
    with training.Checkpoints(tmp_path) as checkpoints:
        held = {"w": jnp.arange(1e6)}
        checkpoints.save(1, held, {})
        give_away(held)
        restored = checkpoints.restore({"w": jax.ShapeDtypeStruct((10**6,), jnp.float32)})
    np.testing.assert_array_equal(restored.state["w"], np.arange(1e6, dtype=np.float32))


@pytest.mark.parametrize(
    ("step", "state", "position", "argument"),
    [
        (-1, {"w": jnp.zeros(2)}, {}, "step"),
        (1, {"w": 2.0}, {}, "state"),
        (1, {"w": jnp.zeros(2)}, {"next": (1, 2)}, "position"),
        (1, {"w": jnp.zeros(2)}, {1: 2}, "position"),
        (1, {"w": jnp.zeros(2)}, {"next": jnp.zeros(())}, "position"),
    ],
)
def test_what_cannot_be_saved(tmp_path, step, state, position, argument):
    with training.Checkpoints(tmp_path) as checkpoints:
        with pytest.raises(ValueError, match=f"^`{argument}"):
            checkpoints.save(step, state, position)
        assert checkpoints.steps() == []


def test_bad_options_and_folders_that_are_not_open(folder):
    for options, argument in (({"keep": 0}, "keep"), ({"keep_every": -1}, "keep_every")):
        with pytest.raises(ValueError, match=f"^`{argument}`: got"):
            training.Checkpoints(folder, **options)
    with (
        training.Checkpoints(folder, read_only=True) as checkpoints,
        pytest.raises(ValueError, match=r"^`read_only`: got True"),
    ):
        checkpoints.save(9, state(9), {})
    for late in (lambda: checkpoints.save(9, state(9), {}), lambda: checkpoints.restore(state(0))):
        with pytest.raises(ValueError, match=r"^`checkpoints`: got a closed manager"):
            late()


def test_reading_makes_and_moves_nothing(tmp_path):
    assert restore(tmp_path / "none", read_only=True) is None
    assert list(tmp_path.iterdir()) == []
