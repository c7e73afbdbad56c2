"""Clean and noisy states: the data in the diffusion space, and what a model says about z_t.

Losses, bounds, the probability flow and the samplers all ask a model by `denoise`.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any, Protocol

import jax
import jax.numpy as jnp

from mmdiffusion_jax import errors
from mmdiffusion_jax.model.absence import encode_present
from mmdiffusion_jax.model.answers import estimate_encodings
from mmdiffusion_jax.model.diffusion import Diffusion, expect_diffusion
from mmdiffusion_jax.model.functions import ModelFunctions, Prediction
from mmdiffusion_jax.model.roles import Batch, Roles, column, expect_roles
from mmdiffusion_jax.process import marginal, shift, to_pivot
from mmdiffusion_jax.process.checks import as_array, expect, widest


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class CleanState:
    """The signal in z_t = sqrt(ᾱ_t) z_0 + Σ_i w̄_t^(i) E_i + noise, or something for each part.

    Attributes:
        z_0: (batch, *latent), in float32 at least, whatever the encoder answers in.
        encodings: {secondary: E_i (batch, *latent)}, zero where the state does not carry it.
    """

    z_0: Any
    encodings: dict[str, Any]


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class NoisyState:
    """A state z_t and what it is taken to be made of.

    Attributes:
        t: (batch,).
        z_t: (batch, *latent).
        clean: ẑ_0 and Ê_i, (batch, *latent) each.
        noise: ε̂, the model's own, (batch, *latent).
        prediction: the model's answer, for its heads and its variance.
        spread: {secondary: variance of its encoding (batch, *latent)}, for stochastic steps that
            add it; usually empty.
    """

    t: jax.Array
    z_t: jax.Array
    clean: CleanState
    noise: jax.Array
    prediction: Prediction
    spread: Mapping[str, jax.Array] = dataclasses.field(default_factory=dict)

    def with_z_0(self, z_0: jax.Array) -> "NoisyState":
        """The same state with another ẑ_0, such as a guided one."""
        return dataclasses.replace(self, clean=dataclasses.replace(self.clean, z_0=z_0))


class Denoiser(Protocol):
    """Says what a state is made of: a model, perhaps guided."""

    def __call__(self, t: jax.Array, z_t: jax.Array, roles: Roles, /) -> NoisyState:
        """What z_t (batch, *latent) at t (batch,) is taken to be made of."""


def encode(model: ModelFunctions, batch: Batch, roles: Roles) -> CleanState:
    """Encodes a batch: z_0 and the encodings that drive the process.

    Args:
        model: the model.
        batch: {name: x (batch, …)}.
        roles: what the state does not carry is encoded as zero, whatever stands in the batch.

    Raises:
        ValueError: a modality missing from the batch, or encodings of different shapes.
    """
    expect("model", model, ModelFunctions)
    columns = {name: column(batch, name, model.modalities) for name in model.modalities}
    expect_roles(roles, model.modalities, columns[model.primary].shape[0])
    encodings = {
        name: encode_present(model, name, x, roles.carried(name)) for name, x in columns.items()
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
    z_0 = model.clean_state(encodings)
    return CleanState(z_0, {name: encodings[name] for name in model.secondaries})


def denoise(
    diffusion: Diffusion, t: jax.Array, z_t: jax.Array, roles: Roles, keys: jax.Array | None = None
) -> NoisyState:
    """Asks the model once about z_t: its own estimates of z_0, of ε and of all encodings.

    ẑ_0 = ( z_t − Σ_i w̄_t^(i) Ê_i − sqrt(1 − ᾱ_t) ε_θ ) / sqrt(ᾱ_t)

    The network's prediction averages over all it does not know, so that ẑ_0 must be read with the
    model's own Ê_i even for a modality whose value is given; that enters afterwards.

    Args:
        diffusion: the process and the model.
        t: (batch,) integers in 1 … T.
        z_t: (batch, *latent).
        roles: the estimates of what the state does not carry are zero.
        keys: (batch,) typed keys, where Ê_i is to be the encoding of a draw from its head; left
            out, it is the mean.

    Raises:
        ValueError: shapes or names that do not agree; an answer of the model that does not fit; `t`
            out of range (outside jit).
    """
    process, model = expect_diffusion(diffusion).process, diffusion.model
    z_t = as_array("z_t", z_t, "(batch, *latent)")
    expect_roles(roles, model.modalities, z_t.shape[0] if z_t.ndim else 0)
    prediction = model.ask(z_t, t, roles)
    estimates = roles.gate(estimate_encodings(model, prediction, keys))
    y_t = shift(process, t, z_t, estimates)
    own = to_pivot(process.schedule, t, y_t, prediction.value, model.target)
    return NoisyState(t, z_t, CleanState(own.z_0, estimates), own.noise, prediction)


def observe(
    diffusion: Diffusion, clean: CleanState, roles: Roles, t: jax.Array, noise: jax.Array
) -> NoisyState:
    """Makes z_t from the marginal with the given noise and asks the model about it, once.

    Args:
        diffusion: the process and the model.
        clean: the encoded batch.
        roles: which part each modality plays.
        t: (batch,) integers in 1 … T.
        noise: (batch, *latent), ε ~ N(0, I).

    Raises:
        ValueError: shapes or names that do not agree; an answer of the model that does not fit; `t`
            out of range (outside jit).
    """
    process = expect_diffusion(diffusion).process
    expect("clean", clean, CleanState, "encode the batch by model.encode")
    t = as_array("t", t, "integers")
    noise = as_array("noise", noise).astype(clean.z_0.dtype)
    if noise.shape != clean.z_0.shape:
        raise errors.invalid(
            "noise", f"shape {noise.shape}", f"that of z_0, {clean.z_0.shape}", "draw it anew"
        )
    state = marginal(process, t, clean.z_0, clean.encodings)
    z_t = state.mean + jnp.sqrt(state.variance) * noise
    return denoise(diffusion, t, z_t, roles)
