"""Importing the package loads nothing; what is asked for is loaded then."""

import re
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


BASE_ALONE = """
import importlib.abc, importlib.metadata as metadata, importlib.util, re, sys

needed, queue = set(), ["jax", "numpy"]
while queue:  # the distributions that jax and numpy bring
    name = queue.pop()
    if name not in needed:
        needed.add(name)
        for line in metadata.requires(name) or ():
            if "extra ==" not in line:
                queue.append(re.match("[A-Za-z0-9_.-]+", line)[0].lower().replace("_", "-"))
modules = metadata.packages_distributions()

class Block(importlib.abc.MetaPathFinder):
    def find_spec(self, fullname, path=None, target=None):
        brings = {x.lower().replace("_", "-") for x in modules.get(fullname.partition(".")[0], ())}
        if brings and not brings & (needed | {"mmdiffusion-jax"}):
            raise ModuleNotFoundError(f"No module named {fullname!r}", name=fullname)

sys.meta_path.insert(0, Block())
find_spec = importlib.util.find_spec
missing = ("absl", "flax", "optax")
importlib.util.find_spec = lambda name: None if name in missing else find_spec(name)
"""


def test_the_base_is_enough_for_the_losses_and_the_samplers():
    """The README's own code, where no package is importable but what jax and numpy bring."""
    code = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text("utf-8"), re.S)
    code = [block for block in code if "from mmdiffusion_jax import" in block]
    assert len(code) == 2
    use = """
params = init(jax.random.key(0))
batch = {"point": jnp.ones((4, 2)), "label": jnp.arange(4)}
assert jnp.isfinite(loss(params, jax.random.key(1), batch))
assert points_of(params, jax.random.key(2), batch["label"]).shape == (4, 2)
try:
    import flax
except ModuleNotFoundError:
    print("no flax")
"""
    done = subprocess.run(
        [sys.executable, "-c", "\n".join([BASE_ALONE, *code, use])],
        capture_output=True,
        text=True,
        cwd=ROOT,
    )
    assert done.stdout == "no flax\n", done.stderr


@pytest.mark.parametrize(
    ("code", "what"),
    [
        ("import mmdiffusion_jax as mm; mm.load", "mmdiffusion_jax.load"),
        ("from mmdiffusion_jax import console; console.main(['train'])", "mmdiffusion train"),
    ],
)
def test_what_needs_the_extra_says_so(code, what):
    done = subprocess.run(
        [sys.executable, "-c", f"{BASE_ALONE}\n{code}"], capture_output=True, text=True, cwd=ROOT
    )
    assert done.returncode == 1
    line = done.stderr.splitlines()[-1]
    assert f"`{what}`: got no package absl" in line
    assert 'pip install "mmdiffusion_jax[train]"' in line


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
