"""Linear quadratic fine-tuning: few examples of new classes, in closed form."""

import functools
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree

from mmdiffusion_jax import graceful
from mmdiffusion_jax.run.graceful_table.worlds import (
    NUM_CLASSES,
    Mlp,
    World,
    accuracy,
    cross_entropy,
    digits,
    draw_rows,
    fit,
    stacked,
)

NUM_WAYS = NUM_CLASSES // 2
LEAKY, PLAIN = Mlp((128, 128, NUM_WAYS), slope=0.2), Mlp((128, 128, NUM_WAYS))
SHOTS = (1, 5, 20)
ALPHA, WEIGHT_DECAY = 15.0, 1.0
_NUM_TEST = 640
_MOST_SHOTS = 40


def _task(seed: int, shots: int) -> dict[str, np.ndarray]:
    """Pretraining on digits 0 … 4; a few examples and a test split of digits 5 … 9."""
    x, y = digits()
    order = np.random.default_rng(seed).permutation(np.flatnonzero(y >= NUM_WAYS))
    by_class = [order[y[order] == label] for label in range(NUM_WAYS, NUM_CLASSES)]
    few = np.concatenate([rows[:shots] for rows in by_class])
    test = np.concatenate([rows[_MOST_SHOTS:] for rows in by_class])[:_NUM_TEST]
    before = y < NUM_WAYS
    return {
        "x_before": x[before],
        "y_before": y[before],
        "x": x[few],
        "y": y[few] - NUM_WAYS,
        "x_test": x[test],
        "y_test": y[test] - NUM_WAYS,
    }


def _pretrained(net: Mlp, key: jax.Array, task: World) -> Any:
    """w_0: trained on the digits before, with a fresh, small last layer."""
    start, batches, last = jax.random.split(key, 3)
    x, y = task["x_before"], task["y_before"]

    def loss(params: Any, key: jax.Array) -> jax.Array:
        rows = draw_rows(key, len(x))
        return cross_entropy(net.apply(params, x[rows]), y[rows])

    params = fit(loss, net.init(start, x[:1]), batches, 1000, 2e-3)["params"]
    name = f"Dense_{len(net.widths) - 1}"
    fresh = net.init(last, x[:1])["params"][name]
    return {"params": {**params, name: jax.tree.map(lambda leaf: 0.1 * leaf, fresh)}}


def _tuned(
    apply: Callable[[Any, jax.Array], jax.Array], start: Any, key: jax.Array, task: World
) -> jax.Array:
    """Cross-entropy on all few examples in every step: accuracy on the test split."""
    tuned = fit(
        lambda params, _: cross_entropy(apply(params, task["x"]), task["y"]),
        start, key, 300, 2e-3, 0.0,
    )  # fmt: skip
    return accuracy(apply(tuned, task["x_test"]), task["y_test"])


def _fine_tune(key: jax.Array, task: World) -> dict[str, jax.Array]:
    """One seed: accuracies after fine-tuning in four ways."""
    first, second, steps = jax.random.split(key, 3)
    leaky, plain = _pretrained(LEAKY, first, task), _pretrained(PLAIN, second, task)
    _, unravel = ravel_pytree(leaky)

    def quadratic(alpha: float) -> jax.Array:
        wanted = graceful.targets(task["y"], NUM_WAYS, alpha)
        found = graceful.closed_form(LEAKY.apply, leaky, task["x"], wanted, WEIGHT_DECAY)
        f_lin = graceful.linearised(LEAKY.apply, leaky)
        return accuracy(f_lin(unravel(found.delta), task["x_test"]), task["y_test"])

    zeros = jax.tree.map(jnp.zeros_like, plain)
    return {
        "lqf": quadratic(ALPHA),
        "alpha_1": quadratic(1.0),
        "nonlinear": _tuned(PLAIN.apply, plain, steps, task),
        "naive": _tuned(graceful.linearised(PLAIN.apply, plain), zeros, steps, task),
    }


def fine_tuning_rows(seeds: Sequence[int]) -> dict[str, np.ndarray]:
    """Accuracies by shots, gaps, and how exact the closed forms are; one value a seed.

    Args:
        seeds: fresh ones.
    """
    keys = jax.vmap(jax.random.key)(jnp.asarray(seeds))
    found: dict[str, np.ndarray] = {}
    for shots in SHOTS:
        tasks = stacked([_task(seed, shots) for seed in seeds])
        rows = jax.device_get(jax.jit(jax.vmap(_fine_tune))(keys, tasks))
        found |= {f"accuracy_{name}_{shots}_shots": values for name, values in rows.items()}
        found[f"lqf_gap_{shots}_shots"] = rows["nonlinear"] - rows["lqf"]
        found[f"lqf_over_naive_{shots}_shots"] = rows["lqf"] - rows["naive"]
    # The worst of the numbers of shots, by the mean over seeds.
    for name, worst in (("lqf_gap", np.argmax), ("lqf_over_naive", np.argmin)):
        every = [found[f"{name}_{shots}_shots"] for shots in SHOTS]
        found[name] = every[int(worst([values.mean() for values in every]))]
    found["alpha_1_loss_5_shots"] = (
        found["accuracy_lqf_5_shots"] - found["accuracy_alpha_1_5_shots"]
    )
    return found


def exactness_rows(seeds: Sequence[int], shots: int = _MOST_SHOTS) -> dict[str, np.ndarray]:
    """Closed forms against refits, and preconditioned steps against plain ones; in float64.

    Args:
        seeds: fresh ones.
        shots: examples a class.
    """
    with jax.enable_x64(True):
        rows = [_exactness(seed, shots) for seed in seeds]
    return {name: np.array([row[name] for row in rows]) for name in rows[0]}


def _exactness(seed: int, shots: int) -> dict[str, float]:
    task = {
        name: jnp.asarray(x, jnp.float64) if name.startswith("x") else jnp.asarray(x)
        for name, x in _task(seed, shots).items()
    }
    start = jax.jit(functools.partial(_pretrained, LEAKY))(jax.random.key(seed), task)
    params = jax.tree.map(lambda leaf: leaf.astype(jnp.float64), start["params"])
    wanted = graceful.targets(task["y"], NUM_WAYS, ALPHA).astype(jnp.float64)

    def apply(params: Any, x: jax.Array) -> jax.Array:
        return LEAKY.apply({"params": params}, x)

    closed = jax.jit(functools.partial(graceful.closed_form, apply, weight_decay=WEIGHT_DECAY))
    found = closed(params, task["x"], wanted)
    f_lin, (_, unravel) = graceful.linearised(apply, params), ravel_pytree(params)
    # Leave-one-out of a few examples against fits that never saw them.
    apart = []
    for index in range(0, len(wanted), len(wanted) // 4):
        rest = np.delete(np.arange(len(wanted)), index)
        refit = closed(params, task["x"][rest], wanted[rest])
        truth = f_lin(unravel(refit.delta), task["x"][index : index + 1])[0]
        apart.append(jnp.max(jnp.abs(found.leave_one_out()[index] - truth)))

    loss = functools.partial(
        graceful.quadratic_loss, f_lin, x=task["x"], wanted=wanted, weight_decay=WEIGHT_DECAY
    )
    zeros = jax.tree.map(jnp.zeros_like, params)
    least, most = loss(unravel(found.delta)), loss(zeros)
    factors = graceful.kronecker_factors(LEAKY, params, task["x"])
    kronecker = graceful.kronecker_preconditioner(factors, WEIGHT_DECAY)
    jacobian = found.jacobian.reshape(wanted.size, -1)
    curvature = unravel(jnp.sum(jacobian**2, axis=0) + WEIGHT_DECAY)

    def diagonal(gradient: Any) -> Any:
        return jax.tree.map(jnp.divide, gradient, curvature)

    # The greatest curvature of each, which bounds the step; then a ladder below it.
    def suboptimality(precondition: Callable[[Any], Any]) -> float:
        descend = jax.jit(
            jax.vmap(lambda rate: _descent(loss, precondition, zeros, rate)), static_argnums=()
        )
        losses = descend(_rates(loss, precondition, zeros))
        return float(jnp.nanmin(losses) - least) / float(most - least)

    plain, scaled, preconditioned = (
        suboptimality(f) for f in (lambda gradient: gradient, diagonal, kronecker)
    )
    _, losses = graceful.solve(
        apply, params, task["x"], wanted, WEIGHT_DECAY, _NUM_STEPS, kronecker
    )
    return {
        "leave_one_out_error": float(max(apart)),
        "suboptimality_sgd": plain,
        "suboptimality_diagonal": scaled,
        "suboptimality_kronecker": preconditioned,
        "suboptimality_kronecker_cg": float(losses[-1] - least) / float(most - least),
        "kronecker_suboptimality_ratio": plain / preconditioned,
        "diagonal_suboptimality_ratio": plain / scaled,
    }


_NUM_STEPS = 100
_MOMENTUM = 0.9


def _rates(loss: Callable[[Any], jax.Array], precondition: Any, zeros: Any) -> jax.Array:
    """Rates up to twice the stable one, from the greatest curvature by power iteration."""
    gradient = jax.grad(loss)
    offset = gradient(zeros)

    def curved(v: Any) -> Any:
        return precondition(jax.tree.map(jnp.subtract, gradient(v), offset))

    def step(v: Any, _: None) -> tuple[Any, jax.Array]:
        new = curved(v)
        norm = jnp.sqrt(sum(jnp.sum(leaf**2) for leaf in jax.tree.leaves(new)))
        return jax.tree.map(lambda leaf: leaf / norm, new), norm

    begin = precondition(offset)
    norm = jnp.sqrt(sum(jnp.sum(leaf**2) for leaf in jax.tree.leaves(begin)))
    _, norms = jax.lax.scan(step, jax.tree.map(lambda leaf: leaf / norm, begin), length=30)
    return jnp.geomspace(0.05, 4.0, 12) / norms[-1]


def _descent(loss: Any, precondition: Any, zeros: Any, rate: jax.Array) -> jax.Array:
    """The loss after steps of gradient descent with momentum."""

    def step(carry: Any, _: None) -> tuple[Any, None]:
        delta, velocity = carry
        gradient = precondition(jax.grad(loss)(delta))
        velocity = jax.tree.map(lambda v, g: _MOMENTUM * v + g, velocity, gradient)
        return (jax.tree.map(lambda d, v: d - rate * v, delta, velocity), velocity), None

    (delta, _), _ = jax.lax.scan(step, (zeros, zeros), length=_NUM_STEPS)
    return loss(delta)
