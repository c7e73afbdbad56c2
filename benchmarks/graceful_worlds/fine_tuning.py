"""Linear quadratic fine-tuning: few examples of another domain, in closed form."""

import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.flatten_util import ravel_pytree

from benchmarks.graceful_worlds.worlds import (
    NUM_CLASSES,
    Mlp,
    World,
    accuracy,
    cross_entropy,
    digits,
    draw_rows,
    fit,
    keys_of,
    stacked,
)
from mmdiffusion_jax import graceful

LEAKY, PLAIN = Mlp((64, 64, NUM_CLASSES), slope=0.2), Mlp((64, 64, NUM_CLASSES))
SHOTS = (1, 5, 20)
ALPHA, WEIGHT_DECAY = 15.0, 30.0
STEP_WEIGHT_DECAY = 1.0
"""A quadratic that is harder to descend."""
_NUM_STEPS, _MOMENTUM = 100, 0.9
_NUM_BEFORE, _MOST_SHOTS, _NUM_TEST = 900, 25, 600

DOMAINS: Mapping[str, Callable[[np.ndarray], np.ndarray]] = {
    "inverted": lambda images: -images,
    "shifted": lambda images: np.roll(images, 1, axis=2),
}
"""What becomes of the images (n, 8, 8) that the network is tuned to: dark on light, or one pixel to
the right."""


def _task(seed: int, shots: int, domain: str) -> dict[str, np.ndarray]:
    """Examples for pretraining; a few and a test split of others, in another domain."""
    x, y = digits()
    order = np.random.default_rng(seed).permutation(len(x))
    before, rest = order[:_NUM_BEFORE], order[_NUM_BEFORE:]
    by_class = [rest[y[rest] == label] for label in range(NUM_CLASSES)]
    few = np.concatenate([rows[:shots] for rows in by_class])
    test = np.concatenate([rows[_MOST_SHOTS:] for rows in by_class])[:_NUM_TEST]
    moved = DOMAINS[domain](x.reshape(-1, 8, 8)).reshape(x.shape)
    return {
        "x_before": x[before],
        "y_before": y[before],
        "x": moved[few],
        "y": y[few],
        "x_test": moved[test],
        "y_test": y[test],
    }


def _pretrained(net: Mlp, key: jax.Array, task: World) -> Any:
    """w_0: trained on images of the domain before."""
    start, batches = jax.random.split(key)
    x, y = task["x_before"], task["y_before"]

    def loss(params: Any, key: jax.Array) -> jax.Array:
        rows = draw_rows(key, len(x))
        return cross_entropy(net.of(params, x[rows]), y[rows])

    return fit(loss, net.init(start, x[:1]), batches, 500, 2e-3)


def _tuned(
    apply: Callable[[Any, jax.Array], jax.Array], start: Any, key: jax.Array, task: World
) -> jax.Array:
    """Cross-entropy on all few examples in every step: accuracy on the test split."""
    tuned = fit(
        lambda params, _: cross_entropy(apply(params, task["x"]), task["y"]),
        start, key, 300, 3e-3, 0.0,
    )  # fmt: skip
    return accuracy(apply(tuned, task["x_test"]), task["y_test"])


def _by_steps(key: jax.Array, task: World) -> dict[str, Any]:
    """One seed: accuracies after tuning by steps, and the network that is to be linearised."""
    first, second, steps = jax.random.split(key, 3)
    leaky, plain = _pretrained(LEAKY, first, task), _pretrained(PLAIN, second, task)
    zeros = jax.tree.map(jnp.zeros_like, plain)
    return {
        "start": leaky,
        "nonlinear": _tuned(PLAIN.of, plain, steps, task),
        "naive": _tuned(graceful.linearised(PLAIN.of, plain), zeros, steps, task),
    }


@jax.jit
def _in_closed_form(params: Any, task: World, alpha: jax.Array) -> jax.Array:
    """One seed: accuracy of linear quadratic fine-tuning. Not for `jax.vmap`, see `closed_form`."""
    wanted = graceful.targets(task["y"], NUM_CLASSES, alpha)
    solution = graceful.closed_form(LEAKY.of, params, task["x"], wanted, WEIGHT_DECAY)
    f_lin = graceful.linearised(LEAKY.of, params)
    delta = ravel_pytree(params)[1](solution.delta)
    return accuracy(f_lin(delta, task["x_test"]), task["y_test"])


def fine_tuning_rows(seeds: Sequence[int]) -> dict[str, np.ndarray]:
    """Accuracies by domain and shots, and gaps; one value a seed.

    Args:
        seeds: fresh ones.
    """
    figures: dict[str, np.ndarray] = {}
    for domain, shots in [*(("inverted", shots) for shots in SHOTS), ("shifted", 5)]:
        tasks = stacked([_task(seed, shots, domain) for seed in seeds])
        rows = jax.device_get(jax.jit(jax.vmap(_by_steps))(keys_of(seeds), tasks))
        start = rows.pop("start")
        for name, alpha in (("lqf", ALPHA), ("alpha_1", 1.0)):
            each = [
                _in_closed_form(*jax.tree.map(lambda leaf, i=i: leaf[i], (start, tasks)), alpha)
                for i in range(len(seeds))
            ]
            rows[name] = np.array(each)
        tail = f"{domain}_{shots}_shots"
        figures |= {f"accuracy_{name}_{tail}": values for name, values in rows.items()}
        figures[f"lqf_gap_{tail}"] = rows["nonlinear"] - rows["lqf"]
        figures[f"lqf_over_naive_{tail}"] = rows["lqf"] - rows["naive"]
        figures[f"alpha_1_loss_{tail}"] = rows["lqf"] - rows["alpha_1"]
    # The worst of the numbers of shots, by the mean over seeds.
    for name, worst in (("lqf_gap", np.argmax), ("lqf_over_naive", np.argmin)):
        every = [figures[f"{name}_inverted_{shots}_shots"] for shots in SHOTS]
        figures[name] = every[int(worst([values.mean() for values in every]))]
    return figures


def exactness_rows(seeds: Sequence[int]) -> dict[str, np.ndarray]:
    """Closed forms against refits, in float64; one value a seed.

    Args:
        seeds: fresh ones.
    """
    with jax.enable_x64(True):
        closed = jax.jit(functools.partial(graceful.closed_form, _apply, weight_decay=WEIGHT_DECAY))
        worst = [_leave_one_out_error(closed, *_problem(seed, 5)) for seed in seeds]
    return {"leave_one_out_error": np.array(worst)}


def preconditioning_rows(seeds: Sequence[int], shots: int = 20) -> dict[str, np.ndarray]:
    """How far from the minimum descent is after 100 steps, with and without preconditioning.

    Each way has the best of a ladder of rates, and the same momentum; in float64.

    Args:
        seeds: fresh ones.
        shots: examples a class.
    """
    with jax.enable_x64(True):
        run = jax.jit(_suboptimality)
        every = [jax.device_get(run(*_problem(seed, shots))) for seed in seeds]
    rows = {name: np.array([row[name] for row in every]) for name in every[0]}
    plain = rows["suboptimality_sgd"]
    return rows | {
        "kronecker_suboptimality_ratio": plain / rows["suboptimality_kronecker"],
        "diagonal_suboptimality_ratio": plain / rows["suboptimality_diagonal"],
    }


def _apply(params: Any, x: jax.Array) -> jax.Array:
    return LEAKY.of({"params": params}, x)


def _problem(seed: int, shots: int) -> tuple[Any, jax.Array, jax.Array]:
    """Pretrained parameters, few examples and their targets, in float64."""
    task = {name: jnp.asarray(x) for name, x in _task(seed, shots, "inverted").items()}
    start = jax.jit(functools.partial(_pretrained, LEAKY))(jax.random.key(seed), task)
    wanted = graceful.targets(task["y"], NUM_CLASSES, ALPHA)
    return jax.tree.map(lambda leaf: leaf.astype(jnp.float64), (start["params"], task["x"], wanted))


def _leave_one_out_error(
    closed: Callable[..., graceful.ClosedForm], params: Any, x: jax.Array, wanted: jax.Array
) -> float:
    """The greatest difference between the closed form and fits that never saw an example."""
    predicted = closed(params, x, wanted).leave_one_out()
    f_lin, (_, unravel) = graceful.linearised(_apply, params), ravel_pytree(params)
    worst = 0.0
    for index in range(0, len(wanted), 10):
        rest = np.delete(np.arange(len(wanted)), index)
        refit = closed(params, x[rest], wanted[rest])
        truth = f_lin(unravel(refit.delta), x[index : index + 1])[0]
        worst = max(worst, float(jnp.max(jnp.abs(predicted[index] - truth))))
    return worst


def _suboptimality(params: Any, x: jax.Array, wanted: jax.Array) -> dict[str, jax.Array]:
    """(loss after the steps − least loss) / (loss at first − least loss), of one seed."""
    solution = graceful.closed_form(_apply, params, x, wanted, STEP_WEIGHT_DECAY)
    f_lin, (_, unravel) = graceful.linearised(_apply, params), ravel_pytree(params)
    loss = functools.partial(
        graceful.quadratic_loss, f_lin, x=x, wanted=wanted, weight_decay=STEP_WEIGHT_DECAY
    )
    zeros = jax.tree.map(jnp.zeros_like, params)
    least, most = loss(unravel(solution.delta)), loss(zeros)
    factors = graceful.kronecker_factors(LEAKY, params, x)
    kronecker = graceful.kronecker_preconditioner(factors, STEP_WEIGHT_DECAY)
    curvature = unravel(jnp.sum(solution.jacobian**2, axis=(0, 1)) + STEP_WEIGHT_DECAY)

    def after(precondition: Callable[[Any], Any]) -> jax.Array:
        rates = _rates(loss, precondition, zeros)
        losses = jax.vmap(lambda rate: _descent(loss, precondition, zeros, rate))(rates)
        return (jnp.nanmin(losses) - least) / (most - least)

    _, losses = graceful.solve(_apply, params, x, wanted, STEP_WEIGHT_DECAY, _NUM_STEPS, kronecker)
    return {
        "suboptimality_sgd": after(lambda gradient: gradient),
        "suboptimality_diagonal": after(lambda g: jax.tree.map(jnp.divide, g, curvature)),
        "suboptimality_kronecker": after(kronecker),
        "suboptimality_kronecker_cg": (losses[-1] - least) / (most - least),
    }


def _rates(loss: Callable[[Any], jax.Array], precondition: Any, zeros: Any) -> jax.Array:
    """Rates up to twice the stable one, from the greatest curvature by power iteration."""
    gradient = jax.grad(loss)
    offset = gradient(zeros)

    def curved(v: Any) -> Any:
        return precondition(optax.tree.sub(gradient(v), offset))

    def step(v: Any, _: None) -> tuple[Any, jax.Array]:
        new = curved(v)
        norm = optax.tree.norm(new)
        return optax.tree.scale(1 / norm, new), norm

    begin = precondition(offset)
    _, norms = jax.lax.scan(step, begin, length=30)
    return jnp.geomspace(0.1, 3.6, 8) / norms[-1]


def _descent(loss: Any, precondition: Any, zeros: Any, rate: jax.Array) -> jax.Array:
    """The loss after steps of gradient descent with momentum."""
    optimiser = optax.sgd(rate, _MOMENTUM)

    def step(carry: Any, _: None) -> tuple[Any, None]:
        delta, state = carry
        updates, state = optimiser.update(precondition(jax.grad(loss)(delta)), state)
        return (optax.apply_updates(delta, updates), state), None

    (delta, _), _ = jax.lax.scan(step, (zeros, optimiser.init(zeros)), length=_NUM_STEPS)
    return loss(delta)
