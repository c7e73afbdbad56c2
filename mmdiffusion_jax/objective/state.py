"""One noisy state and what the model says about it: where every term of the objective starts."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp

from mmdiffusion_jax import errors
from mmdiffusion_jax.process import (
    Modal,
    ModalityWeights,
    ModelFunctions,
    Pivot,
    Prediction,
    Schedule,
    belief,
    estimate_encodings,
    gate,
    marginal,
)

Batch = Mapping[str, jax.Array]
Masks = Mapping[str, jax.Array]


@dataclasses.dataclass(frozen=True)
class CleanState:
    """The data in the diffusion space.

    Attributes:
        z_0: (batch, *latent).
        drift: {secondary: (batch, *latent)}, the encodings that drive the process; zero where a
            modality is absent or dropped.
    """

    z_0: jax.Array
    drift: dict[str, jax.Array]


@dataclasses.dataclass(frozen=True)
class NoisyState:
    """A state z_t drawn from the marginal, and the model's answer to it.

    Attributes:
        t: (batch,).
        z_t: (batch, *latent).
        noise: (batch, *latent), the ε that made it.
        prediction: the model's answer.
        estimates: {secondary: Ê_i (batch, *latent)}, zero where a modality is known to be absent.
        belief: the model's own ẑ_0 and ε̂.
    """

    t: jax.Array
    z_t: jax.Array
    noise: jax.Array
    prediction: Prediction
    estimates: dict[str, jax.Array]
    belief: Pivot


def present_in(model: Modal, batch: Batch, presence: Masks | None) -> dict[str, jax.Array]:
    """Fills in the presence masks: {name: (batch,) float32 of 0 or 1} for every modality.

    Args:
        model: names the modalities.
        batch: {name: x (batch, …)}; every modality of the model must be there.
        presence: {name: (batch,) bool or 0/1}; a name left out is present everywhere.

    Raises:
        ValueError: a modality missing from the batch, a mask for an unknown modality or of the
            wrong shape, or modalities of different batch sizes.

    Example:
        >>> import jax.numpy as jnp
        >>> from mmdiffusion_jax.process import ModalityFunctions, ModelFunctions
        >>> image = ModalityFunctions(encode=lambda x: x, log_prob=lambda p, x: x[:, 0])
        >>> model = ModelFunctions(lambda z, t: None, {"image": image}, primary="image")
        >>> present_in(model, {"image": jnp.zeros((2, 3))}, None)["image"].tolist()
        [1.0, 1.0]
    """
    size = None
    for name in model.modalities:
        if name not in batch:
            raise ValueError(
                errors.message(
                    "batch",
                    f"nothing for {name!r} among {sorted(batch)}",
                    f"an array for each of {sorted(model.modalities)}",
                    "where it is missing from some examples, pass any value and a presence mask",
                )
            )
        size = batch[name].shape[0] if size is None else size
        if batch[name].shape[0] != size:
            raise ValueError(
                errors.message(
                    f"batch[{name!r}]",
                    f"{batch[name].shape[0]} examples",
                    f"{size}, as the other modalities have",
                    "give every modality the same leading axis",
                )
            )
    masks = {name: jnp.ones((size,), jnp.float32) for name in model.modalities}
    for name, mask in (presence or {}).items():
        if name not in masks:
            raise ValueError(errors.unknown("presence", name, masks))
        if mask.shape != (size,):
            raise ValueError(
                errors.message(
                    f"presence[{name!r}]",
                    f"shape {mask.shape}",
                    f"shape ({size},)",
                    "give one 0 or 1 an example",
                )
            )
        masks[name] = mask.astype(jnp.float32)
    return masks


def split_presence(
    batch: Mapping[str, Any],
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Splits columns `<name>_present` off a batch: (values, presence masks).

    Such a column is a mask where the batch has `<name>`, and else a modality of that name.

    Raises:
        ValueError: booleans `<name>_present` without a column `<name>`.

    Example:
        >>> values, presence = split_presence({"label": 1, "label_present": 2})
        >>> values, presence
        ({'label': 1}, {'label': 2})
    """
    suffix = "_present"
    masks = {name for name in batch if name.endswith(suffix) and name.removesuffix(suffix) in batch}
    values = {name: x for name, x in batch.items() if name not in masks}
    for name, x in values.items():
        if name.endswith(suffix) and getattr(x, "dtype", None) == jnp.bool_:
            raise ValueError(
                errors.unknown("batch", name, [f"{n}{suffix}" for n in values if n != name])
            )
    return values, {name.removesuffix(suffix): batch[name] for name in masks}


def drop_modalities(
    key: jax.Array, present: Masks, rates: Mapping[str, float]
) -> dict[str, jax.Array]:
    """Drops modalities from the state at random; they stay in the loss.

    The heads so learn to predict x_i from a state that does not carry it, and the denoiser learns
    the branch without modality i that classifier-free guidance needs.

    Args:
        key: a typed key.
        present: {name: (batch,) of 0 or 1}.
        rates: {name: probability of being dropped}; a name left out is never dropped.

    Returns:
        {name: (batch,) of 0 or 1}, one where the modality is present and was not dropped.

    Raises:
        ValueError: a rate for an unknown modality, or outside [0, 1].

    Example:
        >>> import jax, jax.numpy as jnp
        >>> here = {"label": jnp.ones((4,))}
        >>> drop_modalities(jax.random.key(0), here, {"label": 1.0})["label"].tolist()
        [0.0, 0.0, 0.0, 0.0]
    """
    carried = dict(present)
    for name, rate in rates.items():
        if name not in present:
            raise ValueError(errors.unknown("dropout", name, present))
        if not 0 <= rate <= 1:
            raise ValueError(
                errors.message(f"dropout[{name!r}]", rate, "a probability in [0, 1]", "change it")
            )
    for index, name in enumerate(sorted(rates)):
        keep = jax.random.bernoulli(
            jax.random.fold_in(key, index), 1 - rates[name], present[name].shape
        )
        carried[name] = present[name] * keep.astype(present[name].dtype)
    return carried


def encode(model: ModelFunctions, batch: Batch, carried: Masks) -> CleanState:
    """Encodes a batch: z_0 and the encodings that drive the process.

    Args:
        model: the model.
        batch: {name: x (batch, …)}.
        carried: {name: (batch,) of 0 or 1}; what is 0 is encoded as zero.

    Raises:
        ValueError: encodings of different shapes.
    """
    encodings = gate({name: f.encode(batch[name]) for name, f in model.modalities.items()}, carried)
    latent = encodings[model.primary].shape
    for name, encoding in encodings.items():
        if encoding.shape != latent:
            raise ValueError(
                errors.message(
                    f"modalities[{name!r}].encode",
                    f"an encoding of shape {encoding.shape}",
                    f"{latent}, as the primary {model.primary!r}",
                    "encode every modality into the one latent shape",
                )
            )
    z_0 = model.clean_state(encodings)
    return CleanState(z_0=z_0, drift={name: encodings[name] for name in model.secondaries})


def observe(
    schedule: Schedule,
    weights: ModalityWeights,
    model: ModelFunctions,
    clean: CleanState,
    carried: Masks,
    t: jax.Array,
    noise: jax.Array,
) -> NoisyState:
    """Makes z_t from the marginal with the given noise and asks the model about it, once.

    Args:
        schedule: the noise schedule.
        weights: the modality weights.
        model: the model.
        clean: the encoded batch.
        carried: {name: (batch,)}; the estimates of what is not carried are zero.
        t: (batch,) integers in 1 … T.
        noise: (batch, *latent), ε ~ N(0, I).
    """
    state = marginal(schedule, weights, t, clean.z_0, clean.drift)
    z_t = state.mean + jnp.sqrt(state.variance) * noise
    prediction = model.ask(z_t, t, carried)
    estimates = gate(estimate_encodings(model, prediction), carried)
    own = belief(schedule, weights, model, t, z_t, prediction, estimates)
    return NoisyState(t, z_t, noise, prediction, estimates, own)
