"""Which value of a modality fits the others: the bound as a classifier over candidates."""

import functools
from collections.abc import Mapping

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from mmdiffusion_jax import errors
from mmdiffusion_jax.model import Batch, Diffusion, ModelFunctions, Presence
from mmdiffusion_jax.model.batches import column
from mmdiffusion_jax.model.diffusion import expect_diffusion
from mmdiffusion_jax.objective.bound import bound_over
from mmdiffusion_jax.objective.stages import prepare_stages
from mmdiffusion_jax.process.checks import (
    as_array,
    as_key,
    as_table,
    described,
    expect_name,
    expect_names,
)


def candidate_log_probs(
    key: jax.Array,
    diffusion: Diffusion,
    batch: Batch,
    name: str,
    candidates: jax.Array,
    times: ArrayLike | None = None,
    presence: Presence | None = None,
) -> jax.Array:
    """log p(x_name = c_k | the other modalities) ≈ log softmax_k( −bound(X with x_name = c_k) ).

    The diffusion classifier (Li et al. 2023; Clark & Jaini 2023), for any modality, the primary
    included, and with the whole bound L0 + L1 + L2 + L3. A prior over the candidates is in the
    bound, as p(X) is of all modalities together; none is added. All candidates of an example have
    the same noise, which cancels most of its variance. It is an estimate: a difference of bounds is
    no bound of the difference. Where the network is shown all of them, the bound is that of a
    chain: the candidate by the head alone, which is the prior, the primary given it, then the
    others.

    With a subset of steps, L1 is T − 1 times its mean over those above 1 and L2 its mean over all
    of them, so steps spread evenly over 1 … T estimate the full sums; L3 is always taken, at
    t = 1. A step named twice is drawn twice. Candidates and steps are taken one after another:
    num_candidates · len(times) calls of the network on the batch, in the memory of one.

    Args:
        key: a typed key.
        diffusion: the process and the model.
        batch: {name: x (batch, …)} for every other modality; what it holds for `name` is not read.
        name: the modality of the candidates.
        candidates: (num_candidates, …) values of that modality, at least 2.
        times: integers in 1 … T, not traced; left out, every step.
        presence: {name: (batch,) of 0 or 1} for the others; left out, all is present. The
            candidates count as present.

    Returns:
        (batch, num_candidates), nats, whose exponentials sum to one over the candidates.

    Raises:
        ValueError: an unknown modality, fewer than two candidates, no other modality in the batch,
            bad times, masks or batches.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> from mmdiffusion_jax import model, process
        >>> pixels = model.ModalityFunctions(
        ...     encode=lambda x: x,
        ...     log_prob=lambda mean, x: model.gaussian_log_prob(mean, jnp.zeros_like(mean), x),
        ... )
        >>> point = model.ModelFunctions(  # all data at 1
        ...     lambda z_t, t: model.Prediction(jnp.ones_like(z_t), {}), {"x": pixels}, "x",
        ...     target="z_0",
        ... )
        >>> diffusion = model.Diffusion(process.Process(process.cosine_schedule(4)), point)
        >>> unused, values = {"x": jnp.zeros((1, 2))}, jnp.array([[1.0, 1.0], [-1.0, 1.0]])
        >>> scores = candidate_log_probs(jax.random.key(0), diffusion, unused, "x", values)
        >>> scores.shape, int(scores.argmax())
        ((1, 2), 0)
    """
    key = as_key("key", key)
    model = expect_diffusion(diffusion).model
    expect_name("name", name, model.modalities)
    candidates = as_array("candidates", candidates, "(num_candidates, …) values")
    if candidates.ndim < 1 or candidates.shape[0] < 2:
        raise errors.invalid(
            "candidates",
            f"shape {candidates.shape}",
            "at least 2 rows, one value each",
            "a single candidate has probability 1",
        )
    size = _batch_size(batch, name)
    steps, scales, pi = _plan(diffusion.num_steps, times)
    others = {} if presence is None else expect_names("presence", presence, "(batch,) of 0 or 1")
    masks = {**others, name: jnp.ones((size,), jnp.float32)}
    given, order = _chain(model, name)

    def fit(candidate: jax.Array) -> jax.Array:
        whole = {**batch, name: jnp.broadcast_to(candidate, (size, *candidate.shape))}
        fits = [
            -bound_over(key, stage, pi, steps, scales).total
            for stage in prepare_stages(diffusion, whole, masks, given, order)
        ]
        return functools.reduce(jnp.add, fits)

    return jax.nn.log_softmax(jax.lax.map(fit, candidates).T, axis=1)


def _chain(model: ModelFunctions, name: str) -> tuple[list[str], list[str] | None]:
    """What is given to all, and the order in which the bound goes on from a candidate.

    There is none where the network is not shown all of them, or where the primary has candidates.
    """
    names = model.modalities
    if name == model.primary or not set(names) <= set(model.shows):
        return [], None
    never = [other for other in names if names[other].drawn == "never" and other != name]
    rest = [other for other in model.secondaries if other != name and other not in never]
    return never, [name, model.primary, *rest]


def _batch_size(batch: Mapping[str, jax.Array], name: str) -> int:
    """How many examples there are; the column of `name` counts where there is no other."""
    for other in expect_names("batch", batch, "x (batch, …)"):
        if other != name or len(batch) == 1:
            return column(batch, other).shape[0]
    raise errors.invalid(
        "batch", "no modality at all", "the modalities to score against", "pass the others"
    )


def _plan(
    num_steps: int, times: ArrayLike | None
) -> tuple[jax.Array, tuple[jax.Array, jax.Array, jax.Array], jax.Array]:
    """The steps to take, the factors of L1, L2 and L3 at each, and the uniform π."""
    chosen = np.arange(1, num_steps + 1) if times is None else as_table("times", times, None)
    if chosen.ndim != 1 or not chosen.size or not np.issubdtype(chosen.dtype, np.integer):
        raise errors.invalid(
            "times",
            described(chosen),
            "a list of integers, not empty",
            f"name steps in 1 … {num_steps}",
        )
    least, greatest = int(np.min(chosen)), int(np.max(chosen))
    if least < 1 or greatest > num_steps:
        raise errors.invalid(
            "times",
            str(least if least < 1 else greatest),
            f"values in 1 … {num_steps}",
            "t = 0 is the clean state and has no step",
        )
    if greatest == 1 < num_steps:
        raise errors.invalid(
            "times", "1 alone", "a t above 1 too", "name more: the steps from t > 1 are L1"
        )
    # L3 needs t = 1 whatever was chosen; added here, it counts for L3 alone.
    steps = chosen if (chosen == 1).any() else np.append(chosen, 1)
    is_chosen = np.arange(len(steps)) < len(chosen)
    later, first = steps > 1, steps == 1
    # A one-t estimate has the factor T already (with π uniform, L2's T π_t is 1).
    posterior = later * (num_steps - 1) / num_steps / max(int(np.sum(later)), 1)
    recovery = is_chosen / len(chosen)
    reconstruction = first / num_steps / first.sum()
    scales = tuple(jnp.asarray(scale) for scale in (posterior, recovery, reconstruction))
    pi = jnp.full((num_steps,), 1 / num_steps)
    return jnp.asarray(steps, jnp.int32), (scales[0], scales[1], scales[2]), pi
