"""Clean and noisy states: the data in the diffusion space, and what a model estimates from z_t.

Losses, bounds, the probability flow and the samplers all call a model by `denoise`.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any, Protocol

import jax
import jax.numpy as jnp

from mmdiffusion_jax import errors
from mmdiffusion_jax.model.absence import choose_rows, where_present
from mmdiffusion_jax.model.batches import Batch, column
from mmdiffusion_jax.model.calls import encode_present, estimate_encodings
from mmdiffusion_jax.model.diffusion import Diffusion, expect_diffusion
from mmdiffusion_jax.model.functions import ModelFunctions, Prediction
from mmdiffusion_jax.model.roles import Roles, expect_roles
from mmdiffusion_jax.process import marginal, shift, to_pivot
from mmdiffusion_jax.process.checks import as_array, check_same_shape, expect, widest
from mmdiffusion_jax.process.forward import check_state


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class CleanState:
    """The parts of the signal in z_t = sqrt(ᾱ_t) z_0 + Σ_i w̄_t^(i) E_i + noise, or their estimates.

    As a pytree it also has the factors of the parts, or whatever else there is one of for each.

    Attributes:
        z_0: (batch, *latent), in float32 at least, whatever the encoder computes in.
        encodings: {secondary: E_i (batch, *latent)}, zero where the state does not carry it.

    Example:
        >>> clean = CleanState(z_0=jnp.ones((1, 2)), encodings={"label": jnp.zeros((1, 2))})
        >>> sorted(clean.encodings)
        ['label']
    """

    z_0: Any
    encodings: dict[str, Any]


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class NoisyState:
    """A state z_t and the estimates of its parts.

    Attributes:
        t: (batch,).
        z_t: (batch, *latent).
        clean: ẑ_0 and Ê_i, (batch, *latent) each.
        noise: ε̂ of the model, (batch, *latent).
        prediction: of the model, for its heads and its variance.
        encoding_variances: {secondary: variance of its encoding (batch, *latent)}, for stochastic
            steps that add it; usually empty.

    Example:
        >>> from mmdiffusion_jax import model
        >>> zeros = jnp.zeros((1, 2))
        >>> clean, prediction = CleanState(zeros, {}), model.Prediction(zeros, heads={})
        >>> state = NoisyState(jnp.array([3]), zeros, clean, zeros, prediction)
        >>> state.with_z_0(jnp.ones((1, 2))).clean.z_0.tolist()
        [[1.0, 1.0]]
    """

    t: jax.Array
    z_t: jax.Array
    clean: CleanState
    noise: jax.Array
    prediction: Prediction
    encoding_variances: Mapping[str, jax.Array] = dataclasses.field(default_factory=dict)

    def with_z_0(self, z_0: jax.Array) -> "NoisyState":
        """The same state with another ẑ_0, such as a guided one."""
        return dataclasses.replace(self, clean=dataclasses.replace(self.clean, z_0=z_0))


class Denoiser(Protocol):
    """Estimates the parts of a state: a model, perhaps guided."""

    def __call__(self, t: jax.Array, z_t: jax.Array, roles: Roles, /) -> NoisyState:
        """The estimates from z_t (batch, *latent) at t (batch,)."""


def encode(model: ModelFunctions, batch: Batch, roles: Roles) -> tuple[CleanState, Roles]:
    """The clean state of a batch, and its roles with the encodings of what is known.

    Parts of the state are zero where it does not carry their modality.

    Args:
        model: has an encoder for each modality.
        batch: {name: x (batch, …)}.
        roles: from `training_roles`.

    Raises:
        ValueError: a modality missing from the batch, or encodings of different shapes.

    Example:
        >>> from mmdiffusion_jax import model
        >>> point = model.ModalityFunctions(encode=lambda x: 2 * x, log_prob=lambda mean, x: x)
        >>> functions = model.ModelFunctions(lambda z, t: None, {"x": point, "y": point}, "x")
        >>> batch = {"x": jnp.ones((1, 2)), "y": jnp.ones((1, 2))}
        >>> clean, _ = encode(functions, batch, model.all_carried(batch, 1).without("y"))
        >>> clean.z_0.tolist(), clean.encodings["y"].tolist()
        ([[2.0, 2.0]], [[0.0, 0.0]])
    """
    expect("model", model, ModelFunctions)
    columns = {name: column(batch, name, model.modalities) for name in model.modalities}
    expect_roles(roles, model.modalities, columns[model.primary].shape[0])
    # What is asked for without a state has its encoding too: beliefs are drawn from it.
    encodings = {
        name: encode_present(
            model,
            name,
            x,
            roles.carried(name) | roles.known(name) | roles.diffused(name) | roles.present(name),
        )
        for name, x in columns.items()
    }
    latent = encodings[model.primary].shape
    for name, encoding in encodings.items():
        if encoding.shape != latent:
            raise errors.invalid(
                f"modalities[{name!r}].encode",
                f"an encoding of shape {encoding.shape}",
                f"{latent}, as the primary {model.primary!r}",
                "encode every modality into the one latent shape",
            )
    dtype = widest(encodings[model.primary], jnp.zeros((), jnp.float32))
    encodings = {name: encoding.astype(dtype) for name, encoding in encodings.items()}
    roles = dataclasses.replace(roles, encodings={name: encodings[name] for name in model.shows})
    carried = roles.mask(encodings)
    z_0 = model.clean_state(carried)
    for name in model.diffusable:
        # What an encoder learns is not to be what is easy to denoise.
        clean = jax.lax.stop_gradient(encodings[name])
        z_0 = z_0 + where_present(roles.diffused(name), clean)
    return CleanState(z_0, {name: carried[name] for name in model.secondaries}), roles


def denoise(
    diffusion: Diffusion,
    t: jax.Array,
    z_t: jax.Array,
    roles: Roles,
    keys: jax.Array | None = None,
    training: jax.Array | None = None,
) -> NoisyState:
    """The model's estimates of z_0, of ε and of all encodings from z_t, by one call.

    ẑ_0 = ( z_t − Σ_i w̄_t^(i) Ê_i − sqrt(1 − ᾱ_t) ε_θ ) / sqrt(ᾱ_t)

    The network's prediction averages over the encodings, as z_t alone leaves them open. So ẑ_0 has
    to be solved for with the model's Ê_i even for a modality whose value is given; the given
    encoding replaces the estimate afterwards. An example that lacks its primary has no part of it
    in ẑ_0, whatever the network says.

    A self-conditioned model is called twice on the same state: the second call sees the estimates
    of the first beside z_t (Chen et al. 2022, "Analog bits").

    Args:
        diffusion: the process and the model.
        t: (batch,) integers in 1 … T.
        z_t: (batch, *latent).
        roles: the estimate is zero for a modality that the state does not carry.
        keys: (batch,) typed keys, where Ê_i is to be the encoding of a draw from its head; left
            out, it is the mean.
        training: (batch,) booleans, the examples that are to see estimates of their own, to which
            no gradient goes; left out, all do, and derivatives go through both calls.

    Raises:
        ValueError: shapes or names that do not agree; a result of the model that does not fit; `t`
            out of range (outside jit).

    Example:
        >>> from mmdiffusion_jax import model, process
        >>> point = model.ModalityFunctions(encode=lambda x: x, log_prob=lambda mean, x: x)
        >>> functions = model.ModelFunctions(  # it says that all of y_1 is noise
        ...     lambda z_t, t: model.Prediction(2 * z_t, {}), {"x": point}, "x"
        ... )
        >>> forward = process.Process(process.schedule_from_betas([0.75]))
        >>> diffusion, roles = model.Diffusion(forward, functions), model.all_carried(["x"], 1)
        >>> state = denoise(diffusion, jnp.array([1]), jnp.array([[3.0]]), roles)
        >>> round(float(state.clean.z_0[0, 0]), 3)  # (3 − sqrt(0.75) · 6) / 0.5
        -4.392
    """
    model = expect_diffusion(diffusion).model
    t, z_t = check_state(diffusion.process.schedule, t, z_t, "z_t")
    expect_roles(roles, model.modalities, len(z_t))
    if model.self_conditioned:
        roles = _with_own_estimates(diffusion, t, z_t, roles, keys, training)
    return _estimate(diffusion, t, z_t, roles, keys)


def _estimate(
    diffusion: Diffusion, t: jax.Array, z_t: jax.Array, roles: Roles, keys: jax.Array | None
) -> NoisyState:
    process, model = diffusion.process, diffusion.model
    prediction = model.predict(z_t, t, roles)
    estimates = roles.mask(estimate_encodings(model, prediction, keys))
    y_t = shift(process, t, z_t, estimates)
    pivot = to_pivot(process.schedule, t, y_t, prediction.value, model.target)
    # Of an example that lacks its primary, z_0 is what the estimates have of it.
    nothing = model.clean_state({**estimates, model.primary: jnp.zeros_like(z_t)})
    held = roles.present(model.primary) | roles.carried(model.primary)
    for name in model.diffusable:
        held = held | roles.diffused(name)
    pivot = choose_rows(held, pivot, to_pivot(process.schedule, t, y_t, nothing, "z_0"))
    return NoisyState(t, z_t, CleanState(pivot.z_0, estimates), pivot.noise, prediction)


def _with_own_estimates(
    diffusion: Diffusion,
    t: jax.Array,
    z_t: jax.Array,
    roles: Roles,
    keys: jax.Array | None,
    training: jax.Array | None,
) -> Roles:
    """The roles with the estimates by a first call of what states hold and nobody sees yet."""
    model = diffusion.model
    rows = {}
    for name in model.self_conditioned:
        held = (roles.carried(name) | roles.diffused(name)) & ~roles.seen(name)
        rows[name] = held if training is None else held & training

    def first() -> dict[str, jax.Array]:
        clean = _estimate(diffusion, t, z_t, roles, keys).clean
        primary = model.primary_encoding(clean.z_0, clean.encodings)
        estimates = {**clean.encodings, model.primary: primary}
        return {
            name: choose_rows(
                roles.diffused(name), clean.z_0, estimates.get(name, jnp.zeros_like(z_t))
            ).astype(z_t.dtype)
            for name in rows
        }

    def none() -> dict[str, jax.Array]:
        return {name: jnp.zeros_like(z_t) for name in rows}

    any_row = jnp.stack(list(rows.values())).any()
    for name, estimate in jax.lax.cond(any_row, first, none).items():
        value = estimate if training is None else jax.lax.stop_gradient(estimate)
        roles = roles.with_estimate(name, rows[name], value)
    return roles


def observe(
    diffusion: Diffusion,
    clean: CleanState,
    roles: Roles,
    t: jax.Array,
    noise: jax.Array,
    training: jax.Array | None = None,
) -> NoisyState:
    """z_t of an encoded batch, with noise ε ~ N(0, I) (batch, *latent), and the estimates from it.

    z_t = mean + sqrt(variance) · ε with the moments of `process.marginal`; t, roles, `training` and
    errors are those of `denoise`. A state that carries no modality is zero, at t = T: with nothing
    to diffuse, what is asked for follows from what is known alone, and noise would only be in the
    way.

    Example:
        >>> from mmdiffusion_jax import model, process
        >>> point = model.ModalityFunctions(encode=lambda x: x, log_prob=lambda mean, x: x)
        >>> functions = model.ModelFunctions(
        ...     lambda z_t, t: model.Prediction(jnp.zeros_like(z_t), {}), {"x": point}, "x"
        ... )
        >>> forward = process.Process(process.schedule_from_betas([0.75]))
        >>> diffusion, roles = model.Diffusion(forward, functions), model.all_carried(["x"], 1)
        >>> clean, noise = model.CleanState(jnp.array([[4.0]]), {}), jnp.array([[0.0]])
        >>> observe(diffusion, clean, roles, jnp.array([1]), noise).z_t.tolist()
        [[2.0]]
    """
    process, model = expect_diffusion(diffusion).process, diffusion.model
    expect("clean", clean, CleanState, "encode the batch by model.encode")
    t, _ = check_state(process.schedule, t, clean.z_0, "z_0")
    expect_roles(roles, model.modalities, clean.z_0.shape[0])
    noise = as_array("noise", noise).astype(clean.z_0.dtype)
    check_same_shape("noise", noise, "z_0", clean.z_0)
    carries = roles.carries_any()
    t = jnp.where(carries, t, process.num_steps)
    state = marginal(process, t, clean.z_0, clean.encodings)
    z_t = state.mean + jnp.sqrt(state.variance) * where_present(carries, noise)
    return denoise(diffusion, t, z_t, roles, training=training)
