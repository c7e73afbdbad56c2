"""Ancestral sampling in one scan: jointly, or any modality given others."""

from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp

from mmdiffusion_jax import errors
from mmdiffusion_jax.process import (
    ModalityWeights,
    ModelFunctions,
    Prediction,
    Schedule,
    belief,
    check_model,
    estimate_encodings,
    marginal,
    posterior,
    reverse_variance,
)

ESTIMATES = ("mean", "draw")
"""How the encoding of an unknown modality is estimated from its head."""

UNKNOWNS = ("absent", "estimated")
"""What the re-drawn state carries of an unknown modality while the primary is known."""


def sample(
    key: jax.Array,
    schedule: Schedule,
    weights: ModalityWeights,
    model: ModelFunctions,
    shape: tuple[int, ...],
    given: Mapping[str, jax.Array] | None = None,
    estimate: str = "mean",
    clip: tuple[float, float] | None = None,
    unknown: str = "absent",
) -> dict[str, jax.Array]:
    """Generates every modality that is not given, by the reverse process from t = T to 1.

    At each t the model's own belief ẑ_0 is read with its own estimates Ê_i of all encodings; only
    then do the known encodings E_i(x_i) enter, in the posterior q(z_{t−1} | z_t, ẑ_0, ·). (Put into
    the noise form directly, a known encoding would leave w̄_t (Ê_i − E_i) inside ẑ_0.) Where the
    primary modality is given, z_t is drawn anew from the marginal of its z_0 at every t.
    An unknown modality is then either "absent" from those states, so that its head cannot read its
    own guess back (it must have been trained with modality dropout), or "estimated": its current
    Ê_i drives the next state and is refined from t to t, which confirms an early wrong guess as
    readily as a right one where the drift is strong. The heads of all t are pooled,
    Σ_t log p(x_i | z_t) / T, as in the bound's L2.

    Args:
        key: a typed key.
        schedule: the noise schedule.
        weights: the modality weights.
        model: the model as plain functions.
        shape: (num_samples, *latent).
        given: {name: x (num_samples, …)}, the known modalities; left out, all are generated.
        estimate: "mean" takes the expected encoding of an unknown modality, "draw" the encoding
            of a draw from its head.
        clip: bounds that ẑ_0 is kept within; left out, none.
        unknown: with a known primary only, "absent" or "estimated".

    Returns:
        {name: x} for every modality, the given ones as they came. Generated ones are the most
        likely values under the heads at t = 1, or under the pooled heads with a known primary.

    Raises:
        ValueError: an unknown modality or estimate, a given array of another batch size, or
            nothing left to generate.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> from mmdiffusion_jax import process, sampling
        >>> pixels = process.ModalityFunctions(
        ...     encode=lambda x: x,
        ...     log_prob=lambda mean, x: mean[:, 0],
        ...     most_likely=lambda mean: mean,
        ... )
        >>> model = process.ModelFunctions(
        ...     denoise=lambda z_t, t: process.Prediction(jnp.full_like(z_t, 0.5), {}),
        ...     modalities={"pixels": pixels}, primary="pixels", target="z_0",
        ... )
        >>> schedule = process.cosine_schedule(8)
        >>> weights = process.modality_weights(schedule, {})
        >>> sampling.sample(jax.random.key(0), schedule, weights, model, (1, 2))["pixels"].tolist()
        [[0.5, 0.5]]
    """
    given = dict(given or {})
    _check(weights, model, shape, given, estimate, unknown)
    known = {name: model.modalities[name].encode(x) for name, x in given.items()}
    start_key, steps_key = jax.random.split(key)
    start = jax.random.normal(start_key, shape)

    def complete(estimates: Mapping[str, jax.Array]) -> dict[str, jax.Array]:
        return {name: known.get(name, estimates[name]) for name in model.secondaries}

    def ask(
        t: jax.Array, z_t: jax.Array, draw_key: jax.Array
    ) -> tuple[Prediction, dict[str, jax.Array], jax.Array]:
        prediction = model.ask(z_t, t)
        estimates = estimate_encodings(model, prediction, draw_key if estimate == "draw" else None)
        z_0 = belief(schedule, weights, model, t, z_t, prediction, estimates).z_0
        return prediction, estimates, z_0 if clip is None else jnp.clip(z_0, *clip)

    def mix_in_known(z_0: jax.Array, estimates: Mapping[str, jax.Array]) -> jax.Array:
        own = {**estimates, model.primary: model.primary_encoding(z_0, estimates)}
        return model.clean_state({**own, **known})

    def step_back(z_t: jax.Array, t: jax.Array) -> tuple[jax.Array, None]:
        draw_key, noise_key = jax.random.split(jax.random.fold_in(steps_key, t))
        times = jnp.full(shape[:1], t, jnp.int32)
        prediction, estimates, z_0 = ask(times, z_t, draw_key)
        mean = posterior(
            schedule, weights, times, z_t, mix_in_known(z_0, estimates), complete(estimates)
        ).mean
        variance = reverse_variance(schedule, times, z_t, model.variance, prediction.variance_mix)
        noise = jax.random.normal(noise_key, shape, z_t.dtype)
        return mean + jnp.sqrt(variance) * noise, None

    def refine(
        estimates: dict[str, jax.Array], t: jax.Array
    ) -> tuple[dict[str, jax.Array], dict[str, Any]]:
        draw_key, noise_key = jax.random.split(jax.random.fold_in(steps_key, t))
        times = jnp.full(shape[:1], t, jnp.int32)
        drift = complete(estimates)
        z_0 = model.clean_state({**drift, model.primary: known[model.primary]})
        z_t = marginal(schedule, weights, times, z_0, drift).sample(noise_key)
        carried = {name: jnp.zeros(shape[:1]) for name in left_out}
        prediction = model.ask(z_t, times, carried)
        refined = estimate_encodings(model, prediction, draw_key if estimate == "draw" else None)
        heads = {name: prediction.heads[name] for name in model.secondaries}
        return {**refined, **{name: jnp.zeros_like(start) for name in left_out}}, heads

    down = jnp.arange(schedule.num_steps, 0, -1, dtype=jnp.int32)
    if model.primary in known:
        hidden = [name for name in model.secondaries if name not in known]
        left_out = hidden if unknown == "absent" else []
        nothing = {name: jnp.zeros_like(start) for name in model.secondaries}
        _, heads = jax.lax.scan(refine, nothing, down)
        return {**given, **{name: _pooled(model, name, heads[name]) for name in hidden}}
    z_1, _ = jax.lax.scan(step_back, start, down[:-1])
    last = jnp.ones(shape[:1], jnp.int32)
    prediction, estimates, z_0 = ask(last, z_1, jax.random.fold_in(steps_key, 0))
    return _read(model, prediction, complete(estimates), z_0, given)


def _pooled(model: ModelFunctions, name: str, heads: Any) -> jax.Array:
    """The most likely value under a modality's heads of all t, from T to 1."""
    functions = model.modalities[name]
    if functions.pool is None:
        head = jax.tree.map(lambda leaf: leaf[-1], heads)
    else:
        head = functions.pool(heads)
    return _most_likely(model, name)(head)


def _read(
    model: ModelFunctions,
    prediction: Prediction,
    encodings: Mapping[str, jax.Array],
    z_0: jax.Array,
    given: Mapping[str, jax.Array],
) -> dict[str, jax.Array]:
    """The values of all modalities from the answer at t = 1."""
    values = dict(given)
    for name, functions in model.modalities.items():
        if name in given:
            continue
        head = prediction.heads.get(name)
        if name == model.primary:
            head = functions.reconstruct(model.primary_encoding(z_0, encodings), head)
        values[name] = _most_likely(model, name)(head)
    return values


def _most_likely(model: ModelFunctions, name: str) -> Callable[[Any], jax.Array]:
    function = model.modalities[name].most_likely
    if function is None:
        raise ValueError(
            errors.message(f"modalities[{name!r}].most_likely", None, "a function", "give it one")
        )
    return function


def _check(
    weights: ModalityWeights,
    model: ModelFunctions,
    shape: tuple[int, ...],
    given: Mapping[str, jax.Array],
    estimate: str,
    unknown: str,
) -> None:
    check_model(weights, model)
    if estimate not in ESTIMATES:
        raise ValueError(errors.unknown("estimate", estimate, ESTIMATES))
    if unknown not in UNKNOWNS:
        raise ValueError(errors.unknown("unknown", unknown, UNKNOWNS))
    for name, x in given.items():
        if name not in model.modalities:
            raise ValueError(errors.unknown("given", name, model.modalities))
        if x.shape[:1] != shape[:1]:
            raise ValueError(
                errors.message(
                    f"given[{name!r}]",
                    f"shape {x.shape}",
                    f"{shape[0]} examples, as many as are asked for",
                    "give one value for each sample",
                )
            )
    if set(given) == set(model.modalities):
        raise ValueError(
            errors.message(
                "given",
                f"all of {sorted(given)}",
                "at least one modality left to generate",
                "leave one out",
            )
        )
