"""What launch scripts say: help, stops, and flags that are wrong, each in one line."""

import subprocess
import sys

import pytest

from tests.apps.small import ROOT, launch

STOPPED = """
import sys
from mmdiffusion_jax import apps
def main(argv):
    raise KeyboardInterrupt(*argv[1:])
apps.start(main)
"""


@pytest.mark.parametrize(("arguments", "words"), [([], "Ctrl-C"), (["SIGTERM"], "SIGTERM")])
def test_a_stop_is_named(arguments, words):
    command = [sys.executable, "-c", STOPPED, *arguments]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 75
    assert done.stderr.splitlines()[-1] == f"stopped by {words}; run again to go on"


@pytest.mark.parametrize(
    ("script", "names"),
    [
        ("sample", ["sampler", "guidance", "guidance_interval", "checkpoint", "workdir"]),
        ("evaluate", ["sampler", "checkpoint"]),
        ("train", ["config", "coordinator", "num_processes", "process_id"]),
    ],
)
def test_help_has_every_flag_of_the_script_and_none_of_the_libraries(script, names):
    shown = launch(script, "--help").stdout
    for name in names:
        assert f"\n  --{name}: " in shown.replace("--[no]", "--"), name
    for name in ("alsologtostderr", "tfds_debug", "chex_assert_multiple_cpu_devices"):
        assert name not in shown


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--config=configs/none.py"], "`config`: got 'configs/none.py', where there is no file"),
        (["--config=configs/common.py"], "without a function get_config"),
        (["--config=configs/smoke.py", "--config.seed=x"], "flag --config.seed=x: invalid"),
        (["--config=configs/smoke.py", "--config.backbone.precision=1"], "did you mean 'dtype'?"),
        (["--config=configs/smoke.py", "--profil=1"], "Did you mean: profile"),
        (["--config=gs://b/c.py"], "`config`: got 'gs://b/c.py', expected a path"),
        ([], "flag --config=None: Flag --config must have a value"),
    ],
)
def test_a_bad_flag_is_one_line(tmp_path, arguments, words):
    done = launch("train", *arguments, f"--workdir={tmp_path / 'w'}")
    assert done.returncode == 1
    assert words in done.stderr.splitlines()[-1]
    assert done.stderr.splitlines()[-1].startswith("error: ")
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "w").exists()
