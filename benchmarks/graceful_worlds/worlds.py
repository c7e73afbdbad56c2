"""Small worlds for all rows: scikit-learn's digits split by seed, and networks trained pooled.

What trains works on one seed and is meant for `jax.vmap`, so that all seeds train in one compiled
loop.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax

from mmdiffusion_jax import graceful

NUM_OLD, NUM_NEW = 150, 1000
"""Examples that the deployed model and its successor are trained on."""
NUM_PIXELS, NUM_CLASSES = 64, 10

World = Mapping[str, jax.Array]
"""{"x_old", "y_old", "x_new", "y_new", "x_test", "y_test"}; the old examples are among the new."""


class Mlp(nn.Module):
    """Dense layers with leaky rectifiers between them.

    Attributes:
        widths: of all layers, the outputs last.
        slope: of the rectifiers below zero.
    """

    widths: tuple[int, ...]
    slope: float = 0.0

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """(n, in) → (n, widths[-1])."""
        for width in self.widths[:-1]:
            x = nn.leaky_relu(nn.Dense(width)(x), self.slope)
        return nn.Dense(self.widths[-1])(x)

    def of(self, params: Any, x: jax.Array) -> jax.Array:
        """The outputs with these parameters, (n, widths[-1])."""
        return self.apply(params, x)  # type: ignore[return-value]


def digits() -> tuple[np.ndarray, np.ndarray]:
    """The pixels (1797, 64) in [−1, 1] and the labels."""
    from sklearn.datasets import load_digits

    x, y = load_digits(return_X_y=True)
    return (x / 8 - 1).astype(np.float32), y.astype(np.int32)


def worlds(seeds: Sequence[int]) -> World:
    """One split a seed, stacked: (seeds, n, …)."""
    x, y = digits()
    splits = []
    for seed in seeds:
        order = np.random.default_rng(seed).permutation(len(x))
        parts = {"old": order[:NUM_OLD], "new": order[:NUM_NEW], "test": order[NUM_NEW:]}
        splits.append(
            {f"{of}_{name}": values[rows] for name, rows in parts.items()
             for of, values in (("x", x), ("y", y))}
        )  # fmt: skip
    return stacked(splits)


def keys_of(seeds: Sequence[int]) -> jax.Array:
    """One typed key a seed."""
    return jax.vmap(jax.random.key)(jnp.asarray(seeds))


def stacked(items: Sequence[Mapping[str, Any]]) -> dict[str, jax.Array]:
    """Dictionaries of arrays, one a seed → one with a leading axis of seeds."""
    return {name: jnp.stack([jnp.asarray(item[name]) for item in items]) for name in items[0]}


def fit(
    loss: Callable[[Any, jax.Array], jax.Array],
    params: Any,
    key: jax.Array,
    num_steps: int = 1500,
    learning_rate: float = 3e-3,
    weight_decay: float = 1e-4,
) -> Any:
    """AdamW with a cosine schedule on (parameters, key) → loss."""
    optimiser = optax.adamw(
        optax.cosine_decay_schedule(learning_rate, num_steps), weight_decay=weight_decay
    )

    def step(carry: Any, key: jax.Array) -> tuple[Any, None]:
        params, state = carry
        updates, state = optimiser.update(jax.grad(loss)(params, key), state, params)
        return (optax.apply_updates(params, updates), state), None

    start = (params, optimiser.init(params))
    (params, _), _ = jax.lax.scan(step, start, jax.random.split(key, num_steps))
    return params


def draw_rows(key: jax.Array, count: int, batch_size: int = 128) -> jax.Array:
    """Rows of a batch, drawn with replacement."""
    return jax.random.randint(key, (min(batch_size, count),), 0, count)


def cross_entropy(logits: jax.Array, labels: jax.Array) -> jax.Array:
    """The mean over examples, in nats."""
    return optax.softmax_cross_entropy_with_integer_labels(logits, labels).mean()


def accuracy(logits: jax.Array, labels: jax.Array) -> jax.Array:
    """The share of examples whose largest logit is their label's."""
    return jnp.mean(jnp.argmax(logits, axis=-1) == labels)


def precision(queries: Any, gallery: Any, labels: Any) -> np.ndarray:
    """mAP of each seed: (seeds, n, d), (seeds, n, d'), (seeds, n) → (seeds,)."""
    return np.array(
        [
            graceful.retrieve(q, y, g, y, same_examples=True).mean_average_precision
            for q, g, y in zip(*(np.asarray(x) for x in (queries, gallery, labels)), strict=True)
        ]
    )
