"""The likelihood by the probability flow: a differential equation with the process' marginals.

The state is z_t = a z_0 + Σ_i w̄_i E_i + σ ε with a = sqrt(ᾱ_t) and σ = sqrt(1 − ᾱ_t). So, given the
data, x̃ = z_t / a moves by ε d(σ/a) + Σ_i E_i d(w̄_i/a). The mean of that motion given z_t alone,

    dx̃ = ε̂(z_t, t) d(σ/a) + Σ_i Ê_i(z_t, t) d(w̄_i/a),

carries the same density from t to t (Song et al. 2021, section 4.3, for plain diffusions). It is
deterministic, so the density follows exactly, by its divergence.
"""

import functools
from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp

from mmdiffusion_jax import errors
from mmdiffusion_jax.model import (
    Batch,
    Diffusion,
    Presence,
    Roles,
    all_carried,
    denoise,
    gaussian_log_prob,
    observe,
    where_present,
)
from mmdiffusion_jax.model.diffusion import expect_diffusion
from mmdiffusion_jax.model.roles import expect_roles
from mmdiffusion_jax.objective.stages import EncodedBatch, answered, prepare_stages
from mmdiffusion_jax.objective.terms import reconstruction_term, recovery_terms
from mmdiffusion_jax.process import sum_per_example
from mmdiffusion_jax.process.checks import as_array, as_key, expect_whole

Field = Callable[[jax.Array], dict[str, jax.Array]]
_NOISE = "noise of the state"  # a key beside the modalities' names


def flow_bound(
    key: jax.Array,
    diffusion: Diffusion,
    batch: Batch,
    presence: Presence | None = None,
    num_probes: int | None = 1,
    order: Sequence[str] | None = None,
) -> jax.Array:
    """E_q [ log q(z_1 | X) − log p_flow(z_1) − Σ_i log p_θ(x_i | z_1) ], from one draw of z_1.

    A bound of −log p(X) like L0 + L1 + L2 + L3, but for another model with the same network, whose
    z_1 comes from the flow instead of the ancestral steps. The sum over i has the secondaries by
    their heads and the primary by its reconstruction. An example without its primary has no
    reconstruction; the rest bounds what it has, as its state carries that.

    Args:
        key: a typed key; splits into the draw of z_1 and the probes.
        diffusion: the process and the model.
        batch: {name: x (batch, …)} for every modality.
        presence: {name: (batch,) of 0 or 1}; left out, all is present.
        num_probes: as in `flow_log_density`.
        order: as in `bound`.

    Returns:
        (batch,), nats.

    Raises:
        ValueError: bad masks, batches or `num_probes`.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> from mmdiffusion_jax import model, process
        >>> pixels = model.ModalityFunctions(
        ...     encode=lambda x: x,
        ...     log_prob=lambda mean, x: gaussian_log_prob(mean, jnp.zeros_like(mean), x),
        ... )
        >>> functions = model.ModelFunctions(
        ...     lambda z_t, t: model.Prediction(jnp.zeros_like(z_t), {}), {"x": pixels}, "x"
        ... )
        >>> forward = process.Process(process.cosine_schedule(4))
        >>> diffusion = model.Diffusion(forward, functions)
        >>> flow_bound(jax.random.key(0), diffusion, {"x": jnp.zeros((3, 2))}).shape
        (3,)
    """
    key = as_key("key", key)
    parts = [
        _flow_bound(key, stage, num_probes)
        for stage in prepare_stages(diffusion, batch, presence, (), order)
    ]
    return functools.reduce(jnp.add, parts)


def _flow_bound(key: jax.Array, encoded: EncodedBatch, num_probes: int | None) -> jax.Array:
    if not encoded.diffuses:
        return answered(encoded).total
    diffusion, batch, roles, clean = (
        encoded.diffusion, encoded.batch, encoded.roles, encoded.clean,
    )  # fmt: skip
    model = diffusion.model
    noise_key, probe_key = jax.random.split(key)
    noise = jax.random.normal(noise_key, clean.z_0.shape, clean.z_0.dtype)
    first = jnp.ones(clean.z_0.shape[:1], jnp.int32)
    state = observe(diffusion, clean, roles, first, noise)
    log_p = flow_log_density(probe_key, diffusion, state.z_t, roles, num_probes=num_probes)
    log_std = 0.5 * jnp.log(diffusion.process.schedule.noise_variance[1].astype(noise.dtype))
    log_q = gaussian_log_prob(jnp.zeros_like(noise), jnp.zeros_like(noise), noise)
    log_q = log_q - log_std * (noise.size // noise.shape[0])
    total = where_present(roles.carries_any(), log_q - log_p)
    for term in recovery_terms(model, batch, roles, state).values():
        total = total + term
    return total + reconstruction_term(model, batch, roles, state)


def flow_log_density(
    key: jax.Array,
    diffusion: Diffusion,
    z: jax.Array,
    roles: Roles | None = None,
    num_probes: int | None = 1,
) -> jax.Array:
    """log p_flow(z_1) = log N(z_T; 0, I) + log |∂z_T / ∂z_1|, z_T the end of the flow from z_1.

    Heun's method through t = 1, 2, …, T in one scan, second order in the step. The log-determinant
    is the integral of the field's divergence, each trace estimated by Rademacher probes vᵀ J v
    (Grathwohl et al. 2019). Its noise part is taken over log(σ/a), not σ/a: there the integrand is
    σ tr(∂ε̂/∂z), which settles at the latent's dimension where z_t is all noise, so that the long
    last steps of a cosine schedule cost nothing.

    Args:
        key: a typed key, for the probes; a new set every step.
        diffusion: the process and the model.
        z: (batch, *latent), the states z_1.
        roles: which modalities the states carry; left out, all of them.
        num_probes: probes a trace, at least 1; None takes the trace exactly, with as many
            directions as the latent has dimensions.

    Returns:
        (batch,), nats.

    Raises:
        ValueError: states without examples, roles of other modalities or another number of
            examples, or `num_probes` below 1.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> from mmdiffusion_jax import model, process
        >>> schedule = process.cosine_schedule(50)
        >>> point = model.ModelFunctions(  # all data at 0, so that z_1 ~ N(0, (1 − ᾱ_1) I)
        ...     lambda z_t, t: model.Prediction(jnp.zeros_like(z_t), {}),
        ...     {"x": model.ModalityFunctions(encode=lambda x: x, log_prob=lambda m, x: m)},
        ...     "x", target="z_0",
        ... )
        >>> z = 0.01 * jnp.ones((1, 2))
        >>> diffusion = model.Diffusion(process.Process(schedule), point)
        >>> log_p = flow_log_density(jax.random.key(0), diffusion, z)
        >>> truth = gaussian_log_prob(0 * z, 0.5 * jnp.log(schedule.noise_variance[1]), z)
        >>> bool(jnp.abs(log_p - truth)[0] < 0.01)
        True
    """
    key = as_key("key", key)
    process, model = expect_diffusion(diffusion).process, diffusion.model
    schedule, secondaries = process.schedule, model.secondaries
    if num_probes is not None:
        expect_whole("num_probes", num_probes, 1)
    z = as_array("z", z, "the states z_1, (batch, *latent)")
    if z.ndim < 2 or not z.size or not jnp.issubdtype(z.dtype, jnp.floating):
        raise errors.invalid(
            "z",
            f"shape {z.shape} and dtype {z.dtype}",
            "(batch, *latent) of a floating dtype, with at least one example",
            "pass the states z_1",
        )
    if roles is None:
        roles = all_carried(model.modalities, z.shape[0])
    expect_roles(roles, secondaries, z.shape[0])
    dims = z.size // z.shape[0]
    signal = jnp.sqrt(schedule.alpha_bar).astype(z.dtype)
    ratio = jnp.sqrt(schedule.noise_variance).astype(z.dtype) / signal
    # σ/a and each w̄_i/a: the motion is the sum of estimate · d(factor).
    factors = {
        name: process.weights.marginal[name].astype(z.dtype) / signal for name in secondaries
    }
    factors[_NOISE] = ratio

    def field_at(t: jax.Array) -> Field:
        times = jnp.full(z.shape[:1], t, jnp.int32)

        def field(scaled: jax.Array) -> dict[str, jax.Array]:
            state = denoise(diffusion, times, signal[t] * scaled, roles)
            return {**state.clean.encodings, _NOISE: state.noise}

        return field

    def step(
        carry: tuple[jax.Array, jax.Array], t: jax.Array
    ) -> tuple[tuple[jax.Array, jax.Array], None]:
        scaled, log_det = carry
        probe_key = jax.random.fold_in(key, t)
        change = {name: factor[t + 1] - factor[t] for name, factor in factors.items()}
        slope, traces = _with_traces(field_at(t), scaled, probe_key, num_probes)
        trial = scaled + sum_of(change, slope)
        next_slope, next_traces = _with_traces(field_at(t + 1), trial, probe_key, num_probes)
        moved = scaled + 0.5 * (sum_of(change, slope) + sum_of(change, next_slope))
        traces[_NOISE] = ratio[t] * traces[_NOISE]
        next_traces[_NOISE] = ratio[t + 1] * next_traces[_NOISE]
        change[_NOISE] = jnp.log(ratio[t + 1]) - jnp.log(ratio[t])
        growth = 0.5 * (sum_of(change, traces) + sum_of(change, next_traces))
        return (moved, log_det + growth), None

    def sum_of(change: dict[str, jax.Array], values: dict[str, jax.Array]) -> jax.Array:
        total = change[_NOISE] * values[_NOISE]
        for name in secondaries:
            total = total + change[name] * values[name]
        return total

    start = z / signal[1], jnp.zeros(z.shape[:1], z.dtype)
    (end, log_det), _ = jax.lax.scan(step, start, jnp.arange(1, schedule.num_steps))
    # The flow is of z / a: its log-determinant against z's has a at both ends.
    log_det = log_det + dims * (jnp.log(signal[-1]) - jnp.log(signal[1]))
    last = signal[-1] * end
    return gaussian_log_prob(jnp.zeros_like(last), jnp.zeros_like(last), last) + log_det


def _with_traces(
    field: Field, x: jax.Array, key: jax.Array, num_probes: int | None
) -> tuple[dict[str, jax.Array], dict[str, jax.Array]]:
    """The fields at x, and the trace of the derivative of each, (batch,)."""
    values, push = jax.linearize(field, x)
    dims = x.size // x.shape[0]

    def quadratic(index: jax.Array) -> dict[str, jax.Array]:
        if num_probes is None:
            direction = jax.nn.one_hot(index, dims, dtype=x.dtype).reshape(1, *x.shape[1:])
            probe = jnp.broadcast_to(direction, x.shape)
        else:
            probe = jax.random.rademacher(jax.random.fold_in(key, index), x.shape, x.dtype)
        return {name: sum_per_example(probe * out) for name, out in push(probe).items()}

    terms = jax.lax.map(quadratic, jnp.arange(dims if num_probes is None else num_probes))
    total = jnp.sum if num_probes is None else jnp.mean
    return values, {name: total(term, axis=0) for name, term in terms.items()}
