"""A model as plain functions: all that the objective and the samplers ask of a network.

Any framework can fill this in; the parameters are whatever the functions close over.
"""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any, Protocol

import jax
import jax.numpy as jnp

from mmdiffusion_jax import errors
from mmdiffusion_jax.process.forward import VARIANCES, shift
from mmdiffusion_jax.process.parameterisation import TARGETS, Pivot, to_pivot
from mmdiffusion_jax.process.schedules import Schedule
from mmdiffusion_jax.process.weights import ModalityWeights


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Prediction:
    """What the shared denoiser and its heads say about z_t.

    Attributes:
        value: (batch, *latent), the prediction of the model's target about the shifted state.
        heads: {modality: parameters of p(x_i | z_t)}, each a pytree its modality understands.
        variance_mix: (batch, *latent), only for a model of learned variance.
    """

    value: jax.Array
    heads: Mapping[str, Any]
    variance_mix: jax.Array | None = None


def _as_it_is(z_0: jax.Array, head: Any) -> jax.Array:
    """The default reconstruction: the estimate of the encoding is the parameter."""
    del head
    return z_0


@dataclasses.dataclass(frozen=True)
class ModalityFunctions:
    """One modality as plain functions.

    Attributes:
        encode: x (batch, …) → E(x) (batch, *latent).
        log_prob: (head parameters, x) → log p(x | z_t), (batch,) nats.
        expected_encoding: head parameters → E_p[E(x)], (batch, *latent); for secondary modalities.
        encoding_variance: head parameters → Var_p[E(x)] of each entry, (batch, *latent); for
            samplers that add the second moment of the drift.
        draw: (key, head parameters) → x ~ p(x | z_t).
        most_likely: head parameters → the most likely x.
        reconstruct: (estimate of the encoding, head parameters) → parameters of p(x | z_t); for
            the primary modality, whose encoding the process itself estimates.
        pool: head parameters with a leading axis of several t → one set of parameters, the
            normalised geometric mean of their distributions; left out, the last t counts alone.
        num_dims: how many dimensions one x has; for bits per dimension and loss means.
        condition_log_prob: `log_prob` of what x says where it is given as a condition; left out,
            all of it. An x that carries a target its encoder never reads says less than that.
    """

    encode: Callable[[jax.Array], jax.Array]
    log_prob: Callable[[Any, jax.Array], jax.Array]
    expected_encoding: Callable[[Any], jax.Array] | None = None
    encoding_variance: Callable[[Any], jax.Array] | None = None
    draw: Callable[[jax.Array, Any], jax.Array] | None = None
    most_likely: Callable[[Any], jax.Array] | None = None
    reconstruct: Callable[[jax.Array, Any], Any] = _as_it_is
    pool: Callable[[Any], Any] | None = None
    num_dims: int = 1
    condition_log_prob: Callable[[Any, jax.Array], jax.Array] | None = None


class Modal(Protocol):
    """What has modalities, one of them the primary: any formulation of a model."""

    @property
    def modalities(self) -> Mapping[str, ModalityFunctions]:
        """{name: its functions}."""

    @property
    def primary(self) -> str:
        """The name of the modality that the diffusion generates."""


@dataclasses.dataclass(frozen=True)
class ModelFunctions:
    """A multi-modal diffusion model as plain functions.

    Attributes:
        denoise: (z_t (batch, *latent), t (batch,)) → Prediction; a third argument where
            `sees_carried` is set.
        modalities: {name: its functions}.
        primary: the modality that z_0 encodes; the others drive the process.
        target: what `Prediction.value` is: "noise", "z_0" or "v" of the shifted state.
        variance: of the step back: "posterior", "upper" or "learned".
        sees_carried: whether `denoise` is also told which secondary modalities z_t carries, as
            {name: (batch,) of 0 or 1}. Without it a network trained with dropped modalities cannot
            tell a state without drift from one with another value, and averages the two.
        shares: {name: a_i}, z_0 = Σ a_i E_i(x_i) / Σ a_i; left out, z_0 is the primary's encoding.
        trained_without: the secondary modalities that training left out of some states, so that a
            state without them is nothing new to the model; left out, all of them are taken to be.

    Raises:
        ValueError: an unknown primary, target, variance or name in `shares` or `trained_without`.

    Example:
        >>> import jax.numpy as jnp
        >>> image = ModalityFunctions(encode=lambda x: x, log_prob=lambda mean, x: mean[:, 0])
        >>> model = ModelFunctions(
        ...     denoise=lambda z_t, t: Prediction(value=jnp.zeros_like(z_t), heads={}),
        ...     modalities={"image": image},
        ...     primary="image",
        ... )
        >>> model.secondaries
        ()
    """

    denoise: Callable[..., Prediction]
    modalities: Mapping[str, ModalityFunctions]
    primary: str
    target: str = "noise"
    variance: str = "posterior"
    shares: Mapping[str, float] | None = None
    sees_carried: bool = False
    trained_without: tuple[str, ...] | None = None

    def __post_init__(self) -> None:
        if self.primary not in self.modalities:
            raise ValueError(errors.unknown("primary", self.primary, self.modalities))
        if self.target not in TARGETS:
            raise ValueError(errors.unknown("target", self.target, TARGETS))
        if self.variance not in VARIANCES:
            raise ValueError(errors.unknown("variance", self.variance, VARIANCES))
        for name in self.shares or {}:
            if name not in self.modalities:
                raise ValueError(errors.unknown("shares", name, self.modalities))
        for name in self.trained_without or ():
            if name not in self.secondaries:
                raise ValueError(errors.unknown("trained_without", name, self.secondaries))
        if self.shares is not None and not self.shares.get(self.primary, 0.0) > 0:
            raise ValueError(
                errors.message(
                    "shares",
                    dict(self.shares),
                    f"a share above 0 for the primary {self.primary!r}",
                    "it is read back from z_0",
                )
            )

    def may_leave_out(self, name: str) -> bool:
        """Whether a state without this secondary modality is nothing new to the model."""
        return self.trained_without is None or name in self.trained_without

    @property
    def secondaries(self) -> tuple[str, ...]:
        """The modalities that drive the process, sorted by name."""
        return tuple(sorted(name for name in self.modalities if name != self.primary))

    def ask(
        self, z_t: jax.Array, t: jax.Array, carried: Mapping[str, jax.Array] | None = None
    ) -> Prediction:
        """Calls `denoise`, and tells it what z_t carries if it wants to know.

        Args:
            z_t: (batch, *latent).
            t: (batch,).
            carried: {secondary: (batch,) of 0 or 1}; a name left out is carried.
        """
        if not self.sees_carried:
            return self.denoise(z_t, t)
        ones = jnp.ones(z_t.shape[:1], z_t.dtype)
        return self.denoise(
            z_t, t, {name: (carried or {}).get(name, ones) for name in self.secondaries}
        )

    def normalised_shares(self) -> dict[str, float]:
        """{name: a_i / Σ a}, what each encoding gives to z_0."""
        shares = dict(self.shares) if self.shares else {self.primary: 1.0}
        total = sum(shares.values())
        return {name: share / total for name, share in shares.items() if share}

    def clean_state(self, encodings: Mapping[str, jax.Array]) -> jax.Array:
        """z_0 = Σ_i a_i E_i from the encodings of all modalities, primary included."""
        shares = self.normalised_shares()
        total = shares[self.primary] * encodings[self.primary]
        for name, share in shares.items():
            if name != self.primary:
                total = total + share * encodings[name]
        return total

    def primary_encoding(self, z_0: jax.Array, encodings: Mapping[str, jax.Array]) -> jax.Array:
        """Solves z_0 = Σ_i a_i E_i for the primary's encoding, given the secondaries'."""
        shares = self.normalised_shares()
        rest = z_0
        for name, share in shares.items():
            if name != self.primary:
                rest = rest - share * encodings[name]
        return rest / shares[self.primary]


def check_model(weights: ModalityWeights, model: ModelFunctions) -> None:
    """Checks that every secondary modality has its weights and no other name has.

    Raises:
        ValueError: naming the modality on one side only.
    """
    for name in weights.transition:
        if name not in model.secondaries:
            raise ValueError(
                errors.unknown(
                    "weights", name, model.secondaries, "weights go with the secondary modalities"
                )
            )
    for name in model.secondaries:
        if name not in weights.transition:
            raise ValueError(
                errors.message(
                    "weights",
                    f"nothing for {name!r}",
                    "weights for each secondary modality",
                    "add them; all zeros switch its drift off",
                )
            )


def estimate_encodings(
    model: ModelFunctions, prediction: Prediction, keys: jax.Array | None = None
) -> dict[str, jax.Array]:
    """Ê_i of every secondary modality from its own head.

    Args:
        model: the model.
        prediction: what it said about z_t.
        keys: left out, the mean over p(x_i | z_t); given, (batch,) typed keys, one an example, the
            encoding of a draw x̂_i ~ p(x_i | z_t).

    Returns:
        {name: (batch, *latent)}.

    Raises:
        ValueError: a head or a function the model lacks.
    """
    estimates = {}
    for index, name in enumerate(model.secondaries):
        head = head_of(prediction, name)
        if keys is None:
            estimates[name] = function_of(model, name, "expected_encoding")(head)
        else:
            own = jax.vmap(lambda key, index=index: jax.random.fold_in(key, index))(keys)
            estimates[name] = model.modalities[name].encode(draw(model, name, own, head))
    return estimates


def draw(model: ModelFunctions, name: str, keys: jax.Array, head: Any) -> jax.Array:
    """x ~ p(x_name | z_t), each example from its own key.

    Args:
        model: the model.
        name: a modality that can draw.
        keys: (batch,) typed keys.
        head: the parameters of the distributions.

    Returns:
        (batch, …) in data units; an example's draw does not depend on the others.

    Raises:
        ValueError: a modality that cannot draw.
    """
    function = function_of(model, name, "draw")

    def one(key: jax.Array, parameters: Any) -> jax.Array:
        return function(key, jax.tree.map(lambda leaf: leaf[None], parameters))[0]

    return jax.vmap(one)(keys, head)


def head_of(prediction: Prediction, name: str) -> Any:
    """The head parameters of one modality.

    Raises:
        ValueError: a head the denoiser does not have.
    """
    if name not in prediction.heads:
        raise ValueError(
            errors.unknown("modality", name, prediction.heads, "the denoiser has no such head")
        )
    return prediction.heads[name]


def function_of(model: Modal, name: str, wanted: str) -> Callable[..., Any]:
    """One of the functions of a modality that may be left out.

    Raises:
        ValueError: naming the function that is missing.
    """
    function = getattr(model.modalities[name], wanted)
    if function is None:
        raise ValueError(
            errors.message(
                f"modalities[{name!r}].{wanted}", None, "a function", "give the modality one"
            )
        )
    return function


def belief(
    schedule: Schedule,
    weights: ModalityWeights,
    model: ModelFunctions,
    t: jax.Array,
    z_t: jax.Array,
    prediction: Prediction,
    estimates: Mapping[str, jax.Array],
) -> Pivot:
    """The model's own reading of z_t: ẑ_0 and ε from its prediction and its own estimates Ê_i.

    ẑ_0 = ( z_t − Σ_i w̄_t^(i) Ê_i − sqrt(1 − ᾱ_t) ε_θ ) / sqrt(ᾱ_t)

    The network's prediction averages over all it does not know, so this reading must use the
    model's estimates even for a modality that is known; what is known enters afterwards.

    Args:
        schedule: the noise schedule.
        weights: the modality weights.
        model: the model, for its target.
        t: (batch,) integers in 1 … T.
        z_t: (batch, *latent).
        prediction: what the model said about z_t.
        estimates: {secondary: (batch, *latent)}, zero for a modality known to be absent.

    Returns:
        The pair (ẑ_0, ε̂), each (batch, *latent).
    """
    y_t = shift(schedule, weights, t, z_t, estimates)
    return to_pivot(schedule, t, y_t, prediction.value, model.target)


def gate(encodings: Mapping[str, jax.Array], carried: Mapping[str, jax.Array]) -> dict[str, Any]:
    """Sets the encodings of absent or dropped modalities to zero.

    Args:
        encodings: {name: (batch, *latent)}.
        carried: {name: (batch,) of 0 or 1}; a name left out counts as carried.

    Returns:
        {name: (batch, *latent)}.
    """
    gated = {}
    for name, encoding in encodings.items():
        if name in carried:
            mask = jnp.asarray(carried[name]).astype(encoding.dtype)
            encoding = encoding * mask.reshape(mask.shape + (1,) * (encoding.ndim - mask.ndim))
        gated[name] = encoding
    return gated
