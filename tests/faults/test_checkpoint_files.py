"""Each file of a checkpoint, harmed in each way: it is named, and an older step is read."""

import gc
import random
import shutil

import jax
import pytest

from mmdiffusion_jax import training
from tests.faults import harms, outcomes, tiny


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """Two steps that differ, in the order they were saved in."""
    folder = tmp_path_factory.mktemp("saved") / "checkpoints"
    mesh = training.make_mesh()
    state, step = tiny.build(mesh)
    batch = {"x": jax.numpy.asarray(tiny.examples()["x"][: tiny.BATCH])}
    states = []
    with training.Checkpoints(folder) as checkpoints:
        for number in (1, 2):
            state, _ = step(state, batch)
            checkpoints.save(number, state, {"next_example": number})
            states.append(jax.tree.map(lambda x: x.copy(), state))
    return folder, states


def files_of(folder):
    return sorted(x.relative_to(folder) for x in (folder / "2").rglob("*") if x.is_file())


def restore(folder, template):
    with training.Checkpoints(folder) as checkpoints:
        return checkpoints.restore(template)


def check_same(restored, states):
    assert restored.position == {"next_example": restored.step}
    pairs = zip(jax.tree.leaves(restored.state), jax.tree.leaves(states[restored.step - 1]))
    assert all(outcomes.as_bytes(ours) == outcomes.as_bytes(theirs) for ours, theirs in pairs)


@pytest.mark.parametrize("harm", harms.HARMS)
def test_every_harmed_file_is_named_and_the_older_step_read(saved, tmp_path, caplog, harm):
    folder, states = saved
    files = files_of(folder)
    assert len(files) > 10
    draw = random.Random(harm)
    for index, file in enumerate(files):
        copy = shutil.copytree(folder, tmp_path / str(index))
        harms.apply(harm, copy / file, draw)
        caplog.clear()
        restored = restore(copy, states[0])
        assert restored.step == 1, file
        check_same(restored, states)
        name = file.relative_to("2").as_posix()
        assert f"checkpoint of step 2 is skipped: its file {name} " in caplog.text
        assert "step 1 is tried instead" in caplog.text
        assert (copy / "damaged" / "2").is_dir()


@pytest.mark.parametrize("harm", harms.HARMS)
def test_a_harmed_digest_file_condemns_its_step_and_a_lost_one_does_not(
    saved, tmp_path, caplog, harm
):
    folder, states = saved
    for seed in range(1 if harm == "remove" else 5):
        copy = shutil.copytree(folder, tmp_path / str(seed))
        harms.apply(harm, copy / "digests" / "2.json", random.Random(seed))
        caplog.clear()
        restored = restore(copy, states[0])
        check_same(restored, states)
        if harm == "remove":
            assert restored.step == 2
            assert "checkpoint of step 2: it was never sealed" in caplog.text
            # From then on it is.
            harms.flip(harms.largest(copy / "2"))
            assert restore(copy, states[0]).step == 1
        else:
            assert restored.step == 1
            assert "checkpoint of step 2 is skipped: its " in caplog.text


# TensorStore goes on with reads whose event loop is gone.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_without_a_digest_a_harmed_file_is_read_right_or_not_at_all(saved, tmp_path):
    """Not so for every bit: what no digest covers, nothing can vouch for."""
    folder, states = saved
    steps = []
    for harm in ("truncate", "empty", "remove"):
        for file in files_of(folder):
            copy = shutil.copytree(folder, tmp_path / str(len(steps)))
            (copy / "digests" / "2.json").unlink()
            harms.apply(harm, copy / file, random.Random(0))
            restored = restore(copy, states[0])
            check_same(restored, states)
            steps.append(restored.step)
    assert set(steps) == {1, 2}
    # Has asyncio say now what it says of tasks that nobody waits for any more.
    gc.collect()
