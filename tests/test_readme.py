"""The README's example runs as it stands."""

import re
from pathlib import Path

import jax
import jax.numpy as jnp


def test_the_losses_in_somebody_elses_code():
    text = (Path(__file__).resolve().parents[1] / "README.md").read_text(encoding="utf-8")
    code = next(c for c in re.findall(r"```python\n(.*?)```", text, re.S) if "simple_loss" in c)
    names: dict = {}
    exec(code, names)
    shapes = {"in": (2, 16), "time": (101, 16), "noise": (16, 2), "label": (16, 10)}
    params = {
        name: 0.1 * jax.random.normal(jax.random.key(i), shape)
        for i, (name, shape) in enumerate(shapes.items())
    }
    batch = {"point": jnp.ones((8, 2)), "label": jnp.arange(8)}
    gradient = jax.grad(names["loss"])(params, jax.random.key(0), batch)
    assert all(bool(jnp.isfinite(leaf).all()) for leaf in jax.tree.leaves(gradient))
    assert all(float(jnp.abs(leaf).max()) > 0 for leaf in jax.tree.leaves(gradient))
