"""Positive-congruent updates (Yan et al. 2021, "Positive-congruent training"): no new mistakes.

A negative flip is a decision that the old model got right and the new one gets wrong; a positive
flip is the reverse. Decisions may be labels (n,), pixels (n, height, width) or retrieved items
(n, k); every entry counts as one.
"""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import optax

from mmdiffusion_jax import errors, ranges

DISTANCES = ("kl", "squared")
"""What `focal_distillation` measures between new and old logits."""


@dataclasses.dataclass(frozen=True)
class Flips:
    """How the decisions of two models differ on the same examples; shares in [0, 1].

    Attributes:
        old_error: ER_old, of the old model's decisions.
        new_error: ER_new.
        negative: NFR, the share that was right and is wrong.
        positive: PFR, the share that was wrong and is right.
        broken: the indices of negative flips, rising, (flips, axes).
        count: the number of decisions.
    """

    old_error: float
    new_error: float
    negative: float
    positive: float
    broken: np.ndarray
    count: int

    @property
    def relative_negative(self) -> float:
        """NFR over that of an equally good model with independent errors.

        NFR / ((1 − ER_old) · ER_new): 1 where errors are independent, 0 where no decision became
        wrong or the new model makes no error at all.
        """
        independent = (1 - self.old_error) * self.new_error
        return self.negative / independent if independent else 0.0


def flips(
    old: np.ndarray, new: np.ndarray, truth: np.ndarray, known: np.ndarray | None = None
) -> Flips:
    """Compares the decisions of two models, which used the same noise if any.

    ER_new = ER_old + NFR − PFR, and NFR ≤ min(ER_new, 1 − ER_old).

    Args:
        old: decisions of the deployed model, of any shape.
        new: those of its successor.
        truth: the right decisions.
        known: whether the truth is known; shares are of these entries. Left out, all are.

    Raises:
        ValueError: shapes that differ, or nothing that is known.

    Example:
        >>> flipped = flips(np.array([1, 1, 0]), np.array([1, 0, 1]), np.array([1, 1, 1]))
        >>> round(flipped.negative, 3), round(flipped.positive, 3), flipped.broken.tolist()
        (0.333, 0.333, [[1]])
    """
    old, new, truth = (np.asarray(x) for x in (old, new, truth))
    known = np.ones(truth.shape, bool) if known is None else np.asarray(known, bool)
    for name, x in (("old", old), ("new", new), ("known", known)):
        if x.shape != truth.shape:
            raise errors.invalid(
                name, f"shape {x.shape}", f"{truth.shape}, as the truth", "pair the decisions"
            )
    if not known.any():
        raise errors.invalid("truth", "nothing that is known", "a decision or more", "pass some")
    was, now = old == truth, new == truth

    def share(which: np.ndarray) -> float:
        return float(np.sum(which & known) / np.sum(known))

    return Flips(
        old_error=share(~was),
        new_error=share(~now),
        negative=share(was & ~now),
        positive=share(~was & now),
        broken=np.argwhere(was & ~now & known),
        count=int(known.sum()),
    )


def focal_weights(
    old_logits: jax.Array, labels: jax.Array, alpha: float = 0.0, beta: float = 1.0
) -> jax.Array:
    """α + β · 1(ŷ_old = y), equation 4 of Yan et al.: logits (…, classes), labels (…) → (…).

    Raises:
        ValueError: labels of another shape than the logits without their last axis.

    Example:
        >>> logits = jnp.array([[2.0, 0.0], [2.0, 0.0]])
        >>> focal_weights(logits, jnp.array([0, 1]), alpha=1.0, beta=5.0).tolist()
        [6.0, 1.0]
    """
    shape = jnp.shape(labels)
    if shape != old_logits.shape[:-1]:
        raise errors.invalid(
            "labels",
            f"shape {shape}",
            f"{old_logits.shape[:-1]}, as the logits without their last axis",
            "give one class for each row of logits",
        )
    right = jnp.argmax(old_logits, axis=-1) == labels
    return alpha + beta * right.astype(old_logits.dtype)


def focal_distillation(
    new_logits: jax.Array,
    old_logits: jax.Array,
    labels: jax.Array,
    alpha: float = 0.0,
    beta: float = 1.0,
    distance: str = "squared",
    temperature: float = 1.0,
) -> jax.Array:
    """(α + β · 1(ŷ_old = y)) · D(new, old), each entry by itself: (…, classes) → (…).

    D is ½‖z_new − z_old‖² summed over classes, or τ² KL(softmax(z_old / τ) ‖ softmax(z_new / τ)) in
    nats; τ² keeps the size of the gradient (Hinton et al. 2015, section 2). With α = 1 and β = 0
    this is plain distillation; with α = 0 there is no gradient where the old model is wrong. No
    gradient flows into the old logits.

    Args:
        new_logits: (…, classes), of the model in training.
        old_logits: the same shape, of the deployed one.
        labels: (…), what is right.
        alpha: weight of every entry.
        beta: added where the old model is right.
        distance: one of `DISTANCES`.
        temperature: τ, for "kl".

    Raises:
        ValueError: shapes that do not fit, an unknown distance, or a temperature that is not
            positive.

    Example:
        >>> old, new = jnp.array([[2.0, 0.0]]), jnp.array([[1.0, 0.0]])
        >>> focal_distillation(new, old, jnp.array([0])).tolist()
        [0.5]
    """
    if new_logits.shape != old_logits.shape:
        raise errors.invalid(
            "old_logits",
            f"shape {old_logits.shape}",
            f"{new_logits.shape}, as new_logits",
            "compare the classes that both have",
        )
    ranges.check_one_of("distance", distance, DISTANCES)
    if not temperature > 0:
        raise errors.invalid("temperature", temperature, "above 0", "raise it")
    old_logits = jax.lax.stop_gradient(old_logits)
    if distance == "squared":
        apart = 0.5 * jnp.sum((new_logits - old_logits) ** 2, axis=-1)
    else:
        log_new, log_old = (
            jax.nn.log_softmax(x / temperature, axis=-1) for x in (new_logits, old_logits)
        )
        apart = temperature**2 * optax.losses.kl_divergence_with_log_targets(log_new, log_old)
    return focal_weights(old_logits, labels, alpha, beta) * apart


def ensemble_logits(members: jax.Array) -> jax.Array:
    """The mean of the logits of an ensemble: (members, …, classes) → (…, classes).

    Distilling each generation from an ensemble, instead of from its predecessor, lowers flips as
    members err less alike than single models do (Zhao et al. 2022, "ELODI"). Use it as the old
    logits of `focal_distillation` with α = 1 and β = 0.

    Example:
        >>> ensemble_logits(jnp.array([[1.0, 3.0], [3.0, 1.0]])).tolist()
        [2.0, 2.0]
    """
    return jnp.mean(members, axis=0)
