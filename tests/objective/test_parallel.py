"""Losses with `shard_map` and `pmap`, in a process of four simulated devices."""

from tests.apps.small import run_python


def test_devices_together_have_the_loss_of_the_whole_batch():
    done = run_python("tests/objective/parallel_worker.py", devices=4)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "equal"
