"""Importing the package loads nothing; what is asked for is loaded then."""

import subprocess
import sys
from pathlib import Path

import pytest

import mmdiffusion_jax as mm
from mmdiffusion_jax import model, objective, process, sampling

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = (process, model, objective, sampling)
LOADED = "import sys; print(*{name.partition('.')[0] for name in sys.modules})"


def loaded_by(code):
    """The top-level modules that code loads, beside those of an interpreter that does nothing."""
    sets = []
    for before in ("", code):
        done = subprocess.run(
            [sys.executable, "-c", f"{before}\n{LOADED}"], capture_output=True, text=True, cwd=ROOT
        )
        assert done.returncode == 0, done.stderr
        sets.append({*done.stdout.splitlines()[-1].split()})
    return sets[1] - sets[0] - sys.stdlib_module_names


@pytest.mark.parametrize(
    "code",
    [
        "import mmdiffusion_jax",
        "import mmdiffusion_jax; dir(mmdiffusion_jax)",
        "from mmdiffusion_jax import console; console.main([])",
    ],
)
def test_importing_loads_nothing_else(code):
    assert loaded_by(code) == {"mmdiffusion_jax"}


def test_the_pure_side_loads_jax_alone():
    loaded = loaded_by("import mmdiffusion_jax as mm; mm.pure.cosine_schedule(10)")
    assert {"jax", "numpy"} <= loaded
    assert not loaded & {"flax", "optax", "orbax", "grain", "tensorflow_datasets", "PIL", "absl"}


def test_pure_names_all_that_the_four_packages_offer():
    names = [name for package in PACKAGES for name in package.__all__]
    assert sorted(mm.pure.__all__) == sorted(set(names)) == sorted(names)
    for package in PACKAGES:
        for name in package.__all__:
            assert getattr(mm.pure, name) is getattr(package, name)


def test_names_that_there_are_and_are_not():
    assert {"Model", "load", "pure", "untrained"} <= {*dir(mm)}
    assert all(getattr(mm, name) is not None for name in mm.__all__)
    with pytest.raises(AttributeError, match="has no attribute 'lod'"):
        _ = mm.lod
    with pytest.raises(ImportError):
        from mmdiffusion_jax import lod  # noqa: F401
