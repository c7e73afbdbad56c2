"""What an accelerator can do at most, and whether it computes what the CPU does."""

import functools
import math
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.speed.ours import config_of
from benchmarks.speed.worker import Arms
from mmdiffusion_jax import experiment


def parity(sizes: Mapping[str, Mapping[str, Any]]) -> Arms:
    """How far networks' predictions and gradients are from those of the CPU in float32.

    Parameters and states are the same on both. A distance is the norm of the difference over that
    of the CPU's.

    Args:
        sizes: {name: of a network}.
    """
    return {name: functools.partial(_distances, size) for name, size in sizes.items()}


def _distances(size: Mapping[str, Any], _: int) -> dict[str, dict[str, float]]:
    """{dtype on the device: {"prediction" or "gradient": distance}}."""
    shape = (size["batch"], *size["latent"])
    draws = np.random.default_rng(0)
    z, target = (draws.normal(size=shape).astype(np.float32) for _ in range(2))
    t = draws.integers(1, 1000, shape[:1])
    built = {x: experiment.build(config_of({**size, "dtype": x})) for x in ("float32", "bfloat16")}
    cpu, device = jax.devices("cpu")[0], jax.devices()[0]
    with jax.default_device(cpu):
        params = _without_zeros(built["float32"].init(jax.random.key(0)), draws)

    def run(dtype: str, place: jax.Device) -> dict[str, np.ndarray]:
        def error(params: Any) -> tuple[jax.Array, jax.Array]:
            functions = built[dtype].model.functions(params)
            guess = functions.predict(jnp.asarray(z), jnp.asarray(t)).value
            return jnp.mean((guess - target) ** 2), guess

        with jax.default_device(place), jax.default_matmul_precision("highest"):
            (_, guess), gradient = jax.jit(jax.value_and_grad(error, has_aux=True))(
                jax.device_put(params, place)
            )
        leaves = [np.ravel(leaf) for leaf in jax.tree.leaves(gradient)]
        return {"prediction": np.ravel(guess), "gradient": np.concatenate(leaves)}

    want = run("float32", cpu)
    got = {dtype: run(dtype, device) for dtype in built}
    return {
        dtype: {
            name: float(np.linalg.norm(values[name] - want[name]) / np.linalg.norm(want[name]))
            for name in want
        }
        for dtype, values in got.items()
    }


def _without_zeros(params: Any, draws: np.random.Generator) -> Any:
    """Parameters none of which starts at zero, so that every layer has a part in the result."""

    def fill(leaf: jax.Array) -> np.ndarray:
        scale = 0.5 / math.sqrt(leaf[..., 0].size) if leaf.ndim > 1 else 0.1
        return np.asarray(leaf) + scale * draws.normal(size=leaf.shape).astype(np.float32)

    return jax.tree.map(fill, params)


def ceilings(side: int, values: int) -> Arms:
    """Products of bfloat16 matrices and copies in float32, as fast as the compiler has them.

    Args:
        side: of the square matrices.
        values: that are copied.
    """
    rows = jax.random.normal(jax.random.key(0), (side, side), jnp.bfloat16) / side**0.5
    long = jnp.zeros(values, jnp.float32)
    multiply = jax.jit(lambda a, b: a @ b)
    move = jax.jit(lambda x: x + 1, donate_argnums=0)

    def products(count: int) -> None:
        product = rows
        for _ in range(count):
            product = multiply(product, rows)
        jax.block_until_ready(product)

    def copies(count: int) -> None:
        nonlocal long
        for _ in range(count):
            long = move(long)
        jax.block_until_ready(long)

    return {
        "products": products,
        "copies": copies,
        "device": lambda _: jax.devices()[0].device_kind,
    }
