"""Bad flags end in one line and touch nothing."""

import pytest

from tests.run.small import SMALL, launch


@pytest.mark.parametrize(
    ("script", "arguments", "words"),
    [
        ("train", ["--config.seed=5"], "holds an experiment that differs in seed"),
        ("train", ["--config.training.num_step=5"], "did you mean 'num_steps'"),
        ("train", ["--config.process.schedule=cosin"], "did you mean 'cosine'"),
        ("train", ["--config.loss.timesteps=unifrm"], "did you mean 'uniform'"),
        ("sample", ["--given=labl=3"], "did you mean 'label'"),
        ("sample", ["--given=label=10"], "got label 10, expected labels in 0 … 9"),
        ("sample", ["--given=label=x"], "expected a whole number; for a file write label@x"),
        ("sample", ["--given=image@missing.npz"], "missing.npz"),
        ("sample", ["--sampler=dpm_solver"], "did you mean 'dpm_solver_pp'"),
        ("sample", ["--num_steps=9"], "expected a whole number in 1 … 8"),
        ("sample", ["--guidance=label"], "`guidance`: got 'label', expected name:scale"),
        ("sample", ["--guidance=labl:2"], "did you mean 'label'"),
        ("sample", ["--given=label=3", "--decoder_guidance=image:2"], "got 'image'"),
        ("compare_samplers", ["--samplers=dimm"], "did you mean 'ddim'"),
        ("compare_samplers", ["--steps=0"], "got 0, expected 1 or more"),
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
