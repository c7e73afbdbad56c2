"""The optimisers: AdamW, and Muon beside it."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax

from mmdiffusion_jax.training.options import TrainingOptions

_MUON_RMS = 0.2
_NEWTON_SCHULZ_STEPS = 5
# Layers of backbones that are not within: their inputs and outputs, and what modulates norms.
_OUTER = frozenset(
    {"patches", "input", "time_1", "time_2", "condition", "context", "context_tokens", "shown"}
    | {"shown_summary", "shown_places", "modulation", "bottleneck", "prediction", "final"}
    | {"skip_filters", "skip_weights"}
)


def make_optimiser(options: TrainingOptions, frozen: Any = None) -> optax.GradientTransformation:
    """AdamW behind a clip of the global gradient norm, or Muon beside it.

    The learning rate rises linearly over `warmup_steps` and falls along a cosine to zero at
    `num_steps`. The decay of weights is decoupled, and of matrices alone: biases and norms are left
    out.

    Muon (Jordan et al. 2024) makes the momentum of a matrix orthogonal. It is for the matrices
    within the backbone: what comes in or goes out (patches, times, contexts, predictions), what
    modulates norms, encoders and heads stay with AdamW. Its steps have the size of AdamW's, RMS
    0.2 (Liu et al. 2025), so that both have one learning rate. A convolution is the matrix of its
    taps and channels; of blocks in a scan each has its own.

    Args:
        options: the kind, the learning rate's peak, warm-up, number of steps, weight decay and
            clip.
        frozen: a pytree of booleans like the parameters, which of them stay as they are; the state
            is the same with it and without.

    Example:
        >>> optimiser = make_optimiser(TrainingOptions(learning_rate=1e-3, num_steps=100))
        >>> state = optimiser.init({"w": jnp.zeros((2, 2))})
    """
    warmup_steps = min(options.warmup_steps, options.num_steps - 1)
    schedule = optax.warmup_cosine_decay_schedule(
        0.0, options.learning_rate, warmup_steps, options.num_steps
    )
    inner = optax.adamw(schedule, weight_decay=options.weight_decay, mask=_matrices)
    if options.optimiser == "muon":
        muon = optax.contrib.muon(
            schedule,
            weight_decay=options.weight_decay,
            muon_weight_dimension_numbers=lambda params: jax.tree.map(_as_matrix, params),
            ns_steps=_NEWTON_SCHULZ_STEPS,
            consistent_rms=_MUON_RMS,
        )
        inner = optax.partition({True: _looped(muon), False: inner}, _within)
    optimiser = optax.chain(optax.clip_by_global_norm(options.gradient_clip), inner)
    if frozen is None:
        return optimiser

    def update(gradients: Any, state: Any, params: Any = None) -> tuple[Any, Any]:
        updates, state = optimiser.update(gradients, state, params)
        kept = jax.tree.map(lambda u, stays: jnp.zeros_like(u) if stays else u, updates, frozen)
        return kept, state

    return optax.GradientTransformation(optimiser.init, update)


def _looped(muon: optax.GradientTransformation) -> optax.GradientTransformation:
    """Muon with the same state, whose Newton–Schulz steps are one body that is gone through often.

    Optax writes them out where all have the same coefficients, and a network of dozens of matrices
    then takes seconds longer to trace and to load.
    """

    def with_coefficients(state: Any, change: Callable[[jax.Array], jax.Array]) -> Any:
        is_muon = lambda x: isinstance(x, optax.contrib.MuonState)  # noqa: E731
        one = lambda x: x._replace(ns_coeffs=change(x.ns_coeffs)) if is_muon(x) else x  # noqa: E731
        return jax.tree.map(one, state, is_leaf=is_muon)

    def update(updates: Any, state: Any, params: Any = None) -> tuple[Any, Any]:
        each = with_coefficients(state, lambda x: jnp.tile(x, (_NEWTON_SCHULZ_STEPS, 1)))
        updates, state = muon.update(updates, each, params)
        return updates, with_coefficients(state, lambda x: x[0])

    return optax.GradientTransformation(muon.init, update)


def _matrices(params: Any) -> Any:
    """All but biases and norms, of which a scan has one more axis."""

    def one(path: Any, leaf: jax.Array) -> bool:
        return leaf.ndim > 1 and _names(path)[-1:] not in (["bias"], ["scale"])

    return jax.tree_util.tree_map_with_path(one, params)


def _within(params: Any) -> Any:
    """Which parameters are matrices within a backbone."""

    def one(path: Any, leaf: jax.Array) -> bool:
        names = _names(path)
        outer = names[0].startswith("modalities_") or not _OUTER.isdisjoint(names)
        return names[-1] == "kernel" and leaf.ndim > 1 and not outer

    return jax.tree_util.tree_map_with_path(one, params)


def _names(path: Any) -> list[str]:
    return [str(getattr(part, "key", part)) for part in path]


def _as_matrix(leaf: jax.Array) -> optax.contrib.MuonDimensionNumbers:
    """Of three axes, the first counts the blocks of a scan; of four, three are inputs."""
    first = 1 if leaf.ndim == 3 else 0
    ins = tuple(range(first, leaf.ndim - 1))
    return optax.contrib.MuonDimensionNumbers(reduction_axis=ins, output_axis=leaf.ndim - 1)
