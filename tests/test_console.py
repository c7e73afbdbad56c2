"""The command `mmdiffusion`: the launch scripts by name, from a clone and from a wheel."""

import ast
import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from mmdiffusion_jax import console, experiment, shipped
from tests.apps.small import run_python

ROOT = Path(__file__).resolve().parents[1]


def run(*arguments, cwd=ROOT, path=ROOT):
    environment = {**os.environ, "PYTHONPATH": str(path)}
    return subprocess.run(
        [sys.executable, "-m", "mmdiffusion_jax", *arguments],
        capture_output=True,
        text=True,
        cwd=cwd,
        env=environment,
    )


@pytest.mark.parametrize("arguments", [[], ["--help"], ["help"]])
def test_the_commands_are_the_launch_scripts(capsys, arguments):
    console.main(arguments)
    lines = capsys.readouterr().out.splitlines()
    for file in (ROOT / "launch").glob("*.py"):
        text = ast.get_docstring(ast.parse(file.read_text())).splitlines()[0]
        assert any(line.split()[:1] == [file.stem] and line.endswith(text) for line in lines)


def test_an_unknown_command_is_one_line():
    done = run("trian", "--workdir=W")
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert line.startswith("error: `command`: got 'trian'")
    assert line.endswith("did you mean 'train'?")


def test_the_version(capsys):
    import mmdiffusion_jax

    console.main(["--version"])
    assert capsys.readouterr().out.strip() == mmdiffusion_jax.__version__


def test_a_shipped_config_by_its_name(tmp_path):
    done = run("sweep", "--config=smoke", "--workdir=W", "--print", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    (*_, line) = done.stdout.splitlines()
    assert f"--config={ROOT / 'configs' / 'smoke.py'} " in line
    assert f"{ROOT / 'launch' / 'train.py'} " in line


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--config=smok"], "`config`: got 'smok', expected one of 'digits', "),
        (["--config", "common"], "`config`: got 'common', expected one of 'digits', "),
        (["--config=image_label:smal"], "got 'smal', expected one of"),
        (["--config", "smoke", "--config.seed=x"], "flag --config.seed=x: invalid"),
    ],
)
def test_bad_configs_by_name_are_one_line(tmp_path, arguments, words):
    command = ("train", *arguments, f"--workdir={tmp_path / 'w'}")
    done = run_python("mmdiffusion_jax/__main__.py", *command)
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1].startswith("error: ")
    assert words in done.stderr.splitlines()[-1]
    assert "Traceback" not in done.stderr


def test_a_name_is_the_file_of_that_name(tmp_path, monkeypatch):
    by_name = experiment.read_config_file("image_label:small")
    by_path = experiment.read_config_file(str(ROOT / "configs" / "image_label.py:small"))
    assert by_name == by_path
    monkeypatch.chdir(tmp_path)
    assert experiment.read_config_file("digits").latent == (8, 8, 1)
    (tmp_path / "digits").mkdir()
    assert shipped.config_file("digits") == str(ROOT / "configs" / "digits.py")
    for place in ("./digits", "digits.py", "a b", "~/digits", "gs://b/c.py", "C:\\digits.py"):
        assert shipped.config_file(place) == place


@pytest.mark.long
def test_a_wheel_is_usable_without_a_clone(tmp_path):
    """Trained, sampled from and opened in a folder of its own, with the wheel alone on the path."""
    clone, target, elsewhere = (tmp_path / name for name in ("clone", "target", "elsewhere"))
    clone.mkdir()
    elsewhere.mkdir()
    for name in ("setup.py", "pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, clone)
    for name in ("mmdiffusion_jax", "configs", "launch"):
        shutil.copytree(ROOT / name, clone / name, ignore=shutil.ignore_patterns("__pycache__"))
    pip = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check"]
    built = ("--no-deps", "--no-build-isolation")
    subprocess.run([*pip, "wheel", *built, f"--wheel-dir={tmp_path}", str(clone)], check=True)
    (wheel,) = tmp_path.glob("*.whl")
    names = zipfile.ZipFile(wheel).namelist()
    assert "mmdiffusion_jax/_shipped/configs/digits.py" in names
    assert "mmdiffusion_jax/report/template/page.html" in names
    assert not [name for name in names if "benchmark" in name]
    assert {name.partition("/")[0].partition("-")[0] for name in names} == {"mmdiffusion_jax"}
    subprocess.run([*pip, "install", *built, f"--target={target}", str(wheel)], check=True)
    assert (target / "bin" / "mmdiffusion").is_file()

    small = ["--config.training.num_steps=2", "--config.training.warmup_steps=1"]
    small += ["--config.backbone.width=16", "--config.backbone.depth=1"]
    for arguments in (
        ("train", "--config=smoke", "--workdir=W", *small),
        ("sample", "--workdir=W", "--num_samples=2", "--num_steps=2", "--out=samples"),
        ("export", "--workdir=W", "--out=model.safetensors"),
    ):
        done = run(*arguments, cwd=elsewhere, path=target)
        assert done.returncode == 0, done.stderr
    code = (
        "import mmdiffusion_jax as mm, numpy as np\n"
        f"assert str(mm.__file__).startswith({str(target)!r})\n"
        "wanted = np.load('samples/samples-00000-of-00001.npz')['image']\n"
        "for place in ('W', 'model.safetensors'):\n"
        "    image = mm.load(place).sample(2, num_steps=2)['image']\n"
        "    np.testing.assert_array_equal(image, wanted)\n"
    )
    subprocess.run(
        [sys.executable, "-c", code],
        cwd=elsewhere,
        env={**os.environ, "PYTHONPATH": str(target)},
        check=True,
    )
