"""The loop takes as many steps as a turn asks for, and does all else that it always does."""

import numpy as np
import pytest

from benchmarks.speed import loops, rival_loader
from mmdiffusion_jax import training


@pytest.mark.long
def test_a_turn_of_the_loop(tmp_path):
    def logged():
        return [line["step"] for line in training.read_metrics(tmp_path / "loop/metrics.jsonl")]

    small = {"width": 16, "depth": 1}
    take = loops.loop(str(tmp_path), backbone=small, log_every=2, checkpoint_every=4)["step"]
    take(5)
    assert logged() == [2, 4]
    take(5)
    assert logged() == [2, 4, 6, 8, 10]
    assert (tmp_path / "loop/checkpoints/4").is_dir()
    with pytest.raises(RuntimeError, match="the loop ended"):
        take(0)


@pytest.mark.parametrize("pipeline", [loops.pipeline, rival_loader.pipeline])
def test_both_pipelines_go_on_after_an_epoch(tmp_path, pipeline):
    path = tmp_path / "a.npz"
    np.savez(path, image=np.zeros((12, 2, 2, 1), np.uint8), label=np.arange(12))
    options = {"num_workers": 0} if pipeline is rival_loader.pipeline else {}
    take = pipeline(str(path), batch_size=4, **options)["batches"]
    seen = take(3) + take(4)
    assert sorted(np.concatenate(seen[:3])) == list(range(12))
    assert [len(labels) for labels in seen] == [4] * 7
