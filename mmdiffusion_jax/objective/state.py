"""One noisy state and what the model says about it: where every term of the objective starts."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from mmdiffusion_jax import errors
from mmdiffusion_jax.objective.absence import Batch, Masks, column, encode_present, mask_of
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
    modalities_of,
)
from mmdiffusion_jax.process.checks import (
    as_array,
    as_key,
    expect,
    expect_name,
    expect_names,
    expect_number,
    widest,
)


@dataclasses.dataclass(frozen=True)
class CleanState:
    """The data in the diffusion space.

    Attributes:
        z_0: (batch, *latent), in float32 at least, whatever the encoder answers in.
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
        ValueError: a modality missing from the batch, a batch without examples, a mask for an
            unknown modality, of the wrong shape or with other values than 0 and 1 (outside jit),
            or modalities of different batch sizes.

    Example:
        >>> import jax.numpy as jnp
        >>> from mmdiffusion_jax.process import ModalityFunctions, ModelFunctions
        >>> image = ModalityFunctions(encode=lambda x: x, log_prob=lambda p, x: x[:, 0])
        >>> model = ModelFunctions(lambda z, t: None, {"image": image}, primary="image")
        >>> present_in(model, {"image": jnp.zeros((2, 3))}, None)["image"].tolist()
        [1.0, 1.0]
    """
    modalities = modalities_of(model)
    counts = {name: column(batch, name, modalities).shape[0] for name in modalities}
    size = next(iter(counts.values()), 0)
    for name, count in counts.items():
        if count != size:
            raise ValueError(
                errors.message(
                    f"batch[{name!r}]",
                    f"{count} examples",
                    f"{size}, as the other modalities have",
                    "give every modality the same leading axis",
                )
            )
    masks = {name: jnp.ones((size,), jnp.float32) for name in modalities}
    presence = {} if presence is None else presence
    for name in expect_names("presence", presence, "(batch,) of 0 or 1"):
        expect_name("presence", name, masks)
        mask = mask_of(presence, name, size, "presence")
        masks[name] = mask.astype(jnp.float32)
        # On the host: under jit the comparison of known values would be traced.
        if not isinstance(mask, jax.core.Tracer) and not np.isin(np.asarray(mask), (0, 1)).all():
            raise ValueError(
                errors.message(
                    f"presence[{name!r}]",
                    f"values from {np.asarray(mask).min()} to {np.asarray(mask).max()}",
                    "0 or 1 each",
                    "an example has a modality or has it not",
                )
            )
    return masks


def split_presence(
    batch: Mapping[str, Any],
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Splits columns `<name>_present` off a batch: (values, presence masks).

    Such a column is a mask where the batch has `<name>`, and else a modality of that name.

    Raises:
        ValueError: no dictionary, or booleans `<name>_present` without a column `<name>`.

    Example:
        >>> values, presence = split_presence({"label": 1, "label_present": 2})
        >>> values, presence
        ({'label': 1}, {'label': 2})
    """
    expect_names("batch", batch, "x (batch, …)")
    suffix = "_present"
    masks = {name for name in batch if name.endswith(suffix) and name.removesuffix(suffix) in batch}
    values = {name: x for name, x in batch.items() if name not in masks}
    for name, x in values.items():
        if name.endswith(suffix) and getattr(x, "dtype", None) == jnp.bool_:
            known = [f"{n}{suffix}" for n in values if n != name]
            raise ValueError(
                errors.unknown("batch", name, known, none="the batch has no other column")
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
        ValueError: no key, masks or rates; a rate for an unknown modality, or outside [0, 1].

    Example:
        >>> import jax, jax.numpy as jnp
        >>> here = {"label": jnp.ones((4,))}
        >>> drop_modalities(jax.random.key(0), here, {"label": 1.0})["label"].tolist()
        [0.0, 0.0, 0.0, 0.0]
    """
    key = as_key("key", key)
    masks = expect_names("present", present, "(batch,) of 0 or 1").items()
    carried = {name: as_array(f"present[{name!r}]", mask) for name, mask in masks}
    for name, rate in expect_names("dropout", rates, "probability").items():
        expect_name("dropout", name, present, none="there are no modalities")
        expected = "a probability in [0, 1]"
        expect_number(f"dropout[{name!r}]", rate, expected, lambda x: 0 <= x <= 1)
    for index, name in enumerate(sorted(rates)):
        keep = jax.random.bernoulli(
            jax.random.fold_in(key, index), 1 - rates[name], carried[name].shape
        )
        carried[name] = carried[name] * keep.astype(carried[name].dtype)
    return carried


def encode(model: ModelFunctions, batch: Batch, carried: Masks) -> CleanState:
    """Encodes a batch: z_0 and the encodings that drive the process.

    Args:
        model: the model.
        batch: {name: x (batch, …)}.
        carried: {name: (batch,) of 0 or 1}; what is 0 is encoded as zero, whatever stands in the
            batch. A name left out is carried.

    Raises:
        ValueError: a modality missing from the batch, or encodings of different shapes.
    """
    expect("model", model, ModelFunctions)
    expect_names("carried", carried, "(batch,) of 0 or 1")
    encodings = {}
    for name in model.modalities:
        x = column(batch, name, model.modalities)
        mask = mask_of(carried, name, x.shape[0]) if name in carried else None
        encodings[name] = encode_present(model, name, x, mask)
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
    dtype = widest(encodings[model.primary], jnp.zeros((), jnp.float32))
    encodings = {name: encoding.astype(dtype) for name, encoding in encodings.items()}
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

    Raises:
        ValueError: shapes, names or numbers of steps that do not agree; an answer of the model that
            does not fit; `t` out of range (outside jit).
    """
    expect("model", model, ModelFunctions)
    expect("clean", clean, CleanState, "encode the batch by objective.encode")
    expect_names("carried", carried, "(batch,) of 0 or 1")
    t = as_array("t", t, "integers")
    noise = as_array("noise", noise).astype(clean.z_0.dtype)
    if noise.shape != clean.z_0.shape:
        raise ValueError(
            errors.message(
                "noise", f"shape {noise.shape}", f"that of z_0, {clean.z_0.shape}", "draw it anew"
            )
        )
    size = clean.z_0.shape[0]
    carried = {name: mask_of(carried, name, size) for name in model.modalities if name in carried}
    state = marginal(schedule, weights, t, clean.z_0, clean.drift)
    z_t = state.mean + jnp.sqrt(state.variance) * noise
    prediction = model.ask(z_t, t, carried)
    estimates = gate(estimate_encodings(model, prediction), carried)
    own = belief(schedule, weights, model, t, z_t, prediction, estimates)
    return NoisyState(t, z_t, noise, prediction, estimates, own)
