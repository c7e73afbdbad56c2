"""Positive-congruent decoders: what the deployed model gets right stays right."""

import functools
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from benchmarks.graceful_worlds.worlds import (
    NUM_CLASSES,
    Mlp,
    World,
    cross_entropy,
    draw_rows,
    fit,
    keys_of,
    worlds,
)
from mmdiffusion_jax import graceful

OLD, NEW = Mlp((64, NUM_CLASSES)), Mlp((256, NUM_CLASSES))
MEMBERS = 4
WEIGHT = 0.02
"""λ (α + β) of focal distillation: what a decision weighs that the deployed model gets right.
Unless it is said otherwise (α, β) is (1, 5)."""
SPLITS = 3
"""Splits of the data a seed: a single one has only a handful of flips."""
_fit = functools.partial(fit, num_steps=500, learning_rate=1e-3)


class Arm(NamedTuple):
    """One way to train a successor; numbers alone, so that all arms are one compiled loop.

    Attributes:
        alpha: λ α of focal distillation.
        beta: λ β of focal distillation.
        heavier: how much heavier an example counts in the cross-entropy where the deployed model is
            right.
        ensemble: 1 where the teacher is the mean of successors, 0 where it is the deployed model.
    """

    alpha: float = 0.0
    beta: float = 0.0
    heavier: float = 0.0
    ensemble: float = 0.0


ARMS: Mapping[str, Arm] = {
    "free": Arm(),
    "focal": Arm(WEIGHT / 6, 5 * WEIGHT / 6),
    "focal_0_1": Arm(0.0, WEIGHT),
    "plain": Arm(WEIGHT, 0.0),
    "strong_1_5": Arm(1.0, 5.0),
    "inverted": Arm(WEIGHT, -WEIGHT),
    "reweighted": Arm(heavier=1.0),
    "ensemble": Arm(WEIGHT, 0.0, ensemble=1.0),
}
WARM_ARMS: Mapping[str, Arm] = {"warm": Arm(), "warm_focal": ARMS["focal"]}
"""These begin with the deployed parameters, in the deployed architecture."""


def _train(
    net: Mlp, arm: Arm, start: Any, key: jax.Array, world: World, old: Any, members: Any = None
) -> Any:
    """A successor's parameters."""
    x, y = world["x_new"], world["y_new"]

    def loss(params: Any, key: jax.Array) -> jax.Array:
        rows = draw_rows(key, len(x))
        logits, teacher = net.of(params, x[rows]), OLD.of(old, x[rows])
        weights = graceful.focal_weights(teacher, y[rows], 1.0, arm.heavier)
        nats = optax.softmax_cross_entropy_with_integer_labels(logits, y[rows])
        # Who is right is asked of the deployed model, whoever teaches.
        filtered = graceful.focal_weights(teacher, y[rows], arm.alpha, arm.beta)
        if members is not None:
            each = jax.vmap(lambda p: NEW.of(p, x[rows]))(members)
            mean = graceful.ensemble_logits(each)
            teacher = teacher + arm.ensemble * (mean - teacher)
        apart = graceful.focal_distillation(logits, teacher, y[rows], 1.0, 0.0)
        return jnp.mean(weights * nats + filtered * apart)

    return _fit(loss, start, key)


def _update(
    arms: Mapping[str, Arm], warm_arms: Mapping[str, Arm], key: jax.Array, world: World
) -> dict[str, jax.Array]:
    """One seed: the decisions of what was deployed and of every arm, on test examples."""
    old_key, batch_key, new_key, train_key, member_key = jax.random.split(key, 5)
    x, y = world["x_old"], world["y_old"]

    def loss(params: Any, key: jax.Array) -> jax.Array:
        rows = draw_rows(key, len(x))
        return cross_entropy(OLD.of(params, x[rows]), y[rows])

    old = _fit(loss, OLD.init(old_key, x[:1]), batch_key)

    def member(key: jax.Array) -> Any:
        start, batches = jax.random.split(key)
        return _train(NEW, Arm(), NEW.init(start, x[:1]), batches, world, old)

    members = jax.vmap(member)(jax.random.split(member_key, MEMBERS))
    # The same start and batches for all arms: what differs is what they are held to.
    start = NEW.init(new_key, x[:1])
    decisions = {"old": jnp.argmax(OLD.of(old, world["x_test"]), axis=-1)}
    for net, some, begin, teachers in ((NEW, arms, start, members), (OLD, warm_arms, old, None)):
        if not some:
            continue
        numbers = jax.tree.map(lambda *x: jnp.array(x), *some.values())
        params = jax.vmap(
            lambda arm, net=net, begin=begin, teachers=teachers: _train(
                net, arm, begin, train_key, world, old, teachers
            )
        )(numbers)
        logits = jax.vmap(lambda p, net=net: net.of(p, world["x_test"]))(params)
        decisions |= dict(zip(some, jnp.argmax(logits, axis=-1), strict=True))
    return decisions


def flip_rows(seeds: Sequence[int]) -> dict[str, np.ndarray]:
    """Negative flips and errors of every arm; one value a seed.

    Args:
        seeds: fresh ones.
    """
    rows = arm_rows(seeds, ARMS, WARM_ARMS)
    rows["negative_flip_cut"] = rows["negative_flip_cut_focal"]
    rows["error_increase"] = rows["error_increase_focal"]
    return rows


def arm_rows(
    seeds: Sequence[int], arms: Mapping[str, Arm], warm_arms: Mapping[str, Arm]
) -> dict[str, np.ndarray]:
    """Negative flips and errors of some arms; one value a seed.

    Args:
        seeds: fresh ones.
        arms: by name; "free" is among them.
        warm_arms: those that begin with the deployed parameters.
    """
    split_seeds = [seed * SPLITS + number for seed in seeds for number in range(SPLITS)]
    world = worlds(split_seeds)
    decided = jax.device_get(
        jax.jit(jax.vmap(functools.partial(_update, arms, warm_arms)))(keys_of(split_seeds), world)
    )
    names = (*arms, *warm_arms)
    figures: dict[str, list[float]] = {}
    for name in names:
        every = [
            graceful.flips(old, new, right)
            for old, new, right in zip(
                decided["old"], decided[name], np.asarray(world["y_test"]), strict=True
            )
        ]
        figures[f"negative_flips_{name}"] = [flip.negative for flip in every]
        figures[f"error_{name}"] = [flip.new_error for flip in every]
        figures[f"relative_negative_flips_{name}"] = [flip.relative_negative for flip in every]
        figures["error_old"] = [flip.old_error for flip in every]
    rows = {name: np.reshape(x, (len(seeds), SPLITS)).mean(axis=1) for name, x in figures.items()}
    for name in names:
        # Of the sum over seeds, as flips are few.
        cut = 1 - rows[f"negative_flips_{name}"].sum() / rows["negative_flips_free"].sum()
        rows[f"negative_flip_cut_{name}"] = np.full(len(seeds), cut)
        rows[f"error_increase_{name}"] = rows[f"error_{name}"] - rows["error_free"]
    return rows
