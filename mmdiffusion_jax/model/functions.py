"""A model as plain functions: all that the objective and the samplers need of a network.

Any framework can fill this in; the parameters are whatever the functions close over.
"""

import dataclasses
import math
from collections.abc import Callable, Mapping
from typing import Any, Protocol

import jax
import numpy as np

from mmdiffusion_jax import errors
from mmdiffusion_jax.model.roles import Roles, all_carried
from mmdiffusion_jax.process.checks import (
    at_least,
    checked_result,
    described,
    expect,
    expect_callable,
    expect_name,
    expect_names,
    expect_number,
    expect_whole,
)
from mmdiffusion_jax.process.forward import VARIANCES
from mmdiffusion_jax.process.parameterisation import TARGETS


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Prediction:
    """What the shared denoiser and its heads predict from z_t.

    Attributes:
        value: (batch, *latent), the prediction of the model's target about the shifted state.
        heads: {modality: parameters of p(x_i | z_t)}, each a pytree its modality understands, whose
            leaves have one row an example.
        variance_mix: (batch, *latent), only for a model of learned variance.

    Example:
        >>> import jax.numpy as jnp
        >>> Prediction(value=jnp.zeros((1, 2)), heads={"label": jnp.zeros((1, 10))}).value.shape
        (1, 2)
    """

    value: jax.Array
    heads: Mapping[str, Any]
    variance_mix: jax.Array | None = None


DRAWN = ("before", "after", "never")
"""When a joint sample draws a modality, by the primary."""


def _as_it_is(value: jax.Array, head: Any = None) -> jax.Array:
    """The default reconstruction, where the estimate of the encoding is the parameter."""
    del head
    return value


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
        num_dims: how many dimensions one x has; losses are means over them. Left out, a loss counts
            the numbers in one x of the batch, of which a label has 1, see `dims_of`; and where no x
            is at hand, as in the order of sampling, it counts as 1. Give it where x has another
            number of degrees of freedom, such as d − 1 for unit vectors of d numbers.
        condition_log_prob: the `log_prob` that guidance takes where x is given; left out,
            `log_prob`. An x with a part that its encoder never reads, such as the target of a
            restoration, says less about z_t than its `log_prob`.
        certain: x → (x of the primary, mask), the part of the primary that x tells for certain,
            such as the visible pixels of an image of which a part is hidden. Samples keep it.
        latent_mask: mask (batch, …) of a part of x → (batch, *latent), the entries of E(x) that the
            part determines; left out, the mask itself, for an encoder that goes entry by entry.
        drawn: when a joint sample draws it unless told otherwise: "before" the primary, as what is
            global and has a head whose draws are good, such as a label; "after" it, as what is
            dense; or "never", as what says nothing before it is given, such as an image of which a
            part is hidden.

    Raises:
        ValueError: what should be a function and is none, `num_dims` below 1, or an unknown name in
            `drawn`.
    """

    encode: Callable[[jax.Array], jax.Array]
    log_prob: Callable[[Any, jax.Array], jax.Array]
    expected_encoding: Callable[[Any], jax.Array] | None = None
    encoding_variance: Callable[[Any], jax.Array] | None = None
    draw: Callable[[jax.Array, Any], jax.Array] | None = None
    most_likely: Callable[[Any], jax.Array] | None = None
    reconstruct: Callable[[jax.Array, Any], Any] = _as_it_is
    pool: Callable[[Any], Any] | None = None
    num_dims: int | None = None
    condition_log_prob: Callable[[Any, jax.Array], jax.Array] | None = None
    certain: Callable[[jax.Array], tuple[jax.Array, jax.Array]] | None = None
    latent_mask: Callable[[jax.Array], jax.Array] = _as_it_is
    drawn: str = "after"

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            optional = field.default is None and value is None
            if field.name not in ("num_dims", "drawn") and not optional:
                expect_callable(field.name, value, "as the documentation of this class says")
        if self.num_dims is not None:
            expect_whole("num_dims", self.num_dims, 1)
        expect_name("drawn", self.drawn, DRAWN)

    def dims_of(self, x: jax.Array) -> int:
        """How many dimensions one example of x (batch, …) has: `num_dims`, or its numbers.

        Example:
            >>> import jax.numpy as jnp
            >>> functions = ModalityFunctions(encode=lambda x: x, log_prob=lambda mean, x: x)
            >>> functions.dims_of(jnp.zeros((5, 8, 8, 3))), functions.dims_of(jnp.zeros(5))
            (192, 1)
        """
        return self.num_dims or max(1, math.prod(np.shape(x)[1:]))


class Denoise(Protocol):
    """The shared denoiser of a model as a plain function.

    Example:
        >>> import jax.numpy as jnp
        >>> def denoise(z_t, t, roles):  # a network that always says 0
        ...     return Prediction(value=jnp.zeros_like(z_t), heads={})
    """

    def __call__(self, z_t: jax.Array, t: jax.Array, roles: Roles, /) -> Prediction:
        """The prediction from z_t (batch, *latent) at t (batch,) int32 in 1 … T.

        See `ModelFunctions`.
        """


class Modal(Protocol):
    """What has modalities, one of them the primary: any formulation of a model."""

    @property
    def modalities(self) -> Mapping[str, ModalityFunctions]:
        """{name: its functions}."""

    @property
    def primary(self) -> str:
        """The name of the modality that the diffusion generates."""


def expect_modal(model: Any) -> Modal:
    """The argument itself, checked to have modalities.

    Raises:
        ValueError: it has none.
    """
    if not isinstance(getattr(model, "modalities", None), Mapping):
        raise errors.invalid(
            "model", described(model), "a model", "check the order of the arguments"
        )
    return model


@dataclasses.dataclass(frozen=True)
class ModelFunctions:
    """A multi-modal diffusion model as plain functions.

    Attributes:
        denoise: (z_t (batch, *latent), t (batch,)) → Prediction; `Roles` are its third argument
            where `sees_roles` is set. They say what z_t carries, and show what is known beside it.
            All t are int32 in 1 … T; a network that counts 0 … T − 1 gets t − 1.
        modalities: {name: its functions}.
        primary: the modality that z_0 encodes; the others drive the process.
        target: what `Prediction.value` is: "noise", "z_0" or "v" of the shifted state.
        variance: of the step back: "posterior", "upper" or "learned".
        sees_roles: whether `denoise` also gets the roles of the modalities. Without them a network
            trained with dropped modalities cannot tell a state without the drift of a modality from
            one with another value, and averages the two.
        shows: the modalities that `denoise` takes in by `Roles.shown`, because training with tasks
            has shown them; left out, none. What a query knows of them is shown; other modalities
            that are known drive the process, and the heads correct for the rest by Bayes' rule.
        shares: {name: a_i}, z_0 = Σ a_i E_i(x_i) / Σ a_i; left out, z_0 is the primary's encoding.
        diffusable: the secondaries that training has diffused too, in the place of the primary,
            which `denoise` is told by `Roles.diffused`; `Diffusion.of` makes one of them the
            primary. Left out, none.
        self_conditioned: modalities of which `denoise` sees, where they are asked for, its own
            estimate by a first call on the same state, by `Roles.shown` and `Roles.estimated`.
        only_known: modalities that states never carry, and of which no encoding is estimated.
        droppable: the modalities that training dropped from some states, or from what is shown, so
            that the model knows how to do without; left out, all of them.

    Raises:
        ValueError: `denoise` is no function or `modalities` no dictionary of `ModalityFunctions`;
            an unknown primary, target, variance or name in `shares`, `droppable`, `shows`,
            `diffusable`, `self_conditioned` or `only_known`; names to show, to diffuse or to
            condition on and a `denoise` that does not see roles, or names to diffuse and shares.

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

    denoise: Denoise | Callable[[jax.Array, jax.Array], Prediction]
    modalities: Mapping[str, ModalityFunctions]
    primary: str
    target: str = "noise"
    variance: str = "posterior"
    shares: Mapping[str, float] | None = None
    sees_roles: bool = False
    droppable: tuple[str, ...] | None = None
    shows: tuple[str, ...] = ()
    diffusable: tuple[str, ...] = ()
    self_conditioned: tuple[str, ...] = ()
    only_known: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        check_parts(self.denoise, self.modalities, self.primary, self.target)
        expect_name("variance", self.variance, VARIANCES)
        for name, share in expect_names("shares", self.shares or {}, "share").items():
            expect_name("shares", name, self.modalities)
            expect_number(f"shares[{name!r}]", share)
        for name in self.droppable or ():
            expect_name("droppable", name, self.modalities)
        for argument in ("shows", "self_conditioned", "only_known"):
            for name in getattr(self, argument):
                expect_name(argument, name, self.modalities)
        for name in self.diffusable:
            expect_name("diffusable", name, self.secondaries, none="the model has no secondary")
        for argument in ("shows", "self_conditioned", "diffusable"):
            if getattr(self, argument) and not self.sees_roles:
                raise errors.invalid(
                    argument,
                    getattr(self, argument),
                    "nothing, as `denoise` does not see roles",
                    "set sees_roles",
                )
        if self.shares and self.diffusable:
            raise errors.invalid(
                "diffusable",
                self.diffusable,
                f"nothing, as z_0 is shared by {sorted(self.shares)}",
                "leave the shares out, or diffuse the primary alone",
            )
        if self.shares is not None and not self.shares.get(self.primary, 0.0) > 0:
            raise errors.invalid(
                "shares",
                dict(self.shares),
                f"a share above 0 for the primary {self.primary!r}",
                "it is read back from z_0",
            )

    def can_drop(self, name: str) -> bool:
        """Whether training dropped this modality from some states, or from what is shown."""
        return self.droppable is None or name in self.droppable

    @property
    def secondaries(self) -> tuple[str, ...]:
        """The modalities that drive the process, sorted by name."""
        others = set(self.modalities) - {self.primary, *self.only_known}
        return tuple(sorted(others))

    def predict(self, z_t: jax.Array, t: jax.Array, roles: Roles | None = None) -> Prediction:
        """Calls `denoise` with z_t (batch, *latent), t (batch,), and roles where it sees them.

        Without roles, z_t carries all modalities. The prediction has the dtype of z_t, whatever the
        network computes in; floating parameters of the heads are at least as wide.

        Raises:
            ValueError: a result that is no `Prediction`, or of another shape than z_t.
        """
        denoise: Any = self.denoise
        if not self.sees_roles:
            return checked_prediction(denoise(z_t, t), z_t)
        roles = all_carried(self.modalities, z_t.shape[0]) if roles is None else roles
        return checked_prediction(denoise(z_t, t, expect("roles", roles, Roles)), z_t)

    def normalised_shares(self) -> dict[str, float]:
        """{name: a_i / Σ a}, the share of each encoding in z_0, the primary's first."""
        shares = {self.primary: 1.0, **(self.shares or {})}
        total = sum(shares.values())
        return {name: share / total for name, share in shares.items() if share}

    def clean_state(self, encodings: Mapping[str, jax.Array]) -> jax.Array:
        """z_0 = Σ_i a_i E_i from the encodings of all modalities, primary included."""
        first, *rest = (share * encodings[name] for name, share in self.normalised_shares().items())
        return sum(rest, first)

    def primary_encoding(self, z_0: jax.Array, encodings: Mapping[str, jax.Array]) -> jax.Array:
        """Solves z_0 = Σ_i a_i E_i for the primary's encoding, given the secondaries'."""
        shares = self.normalised_shares()
        rest = z_0
        for name, share in shares.items():
            if name != self.primary:
                rest = rest - share * encodings[name]
        return rest / shares[self.primary]

    def with_encodings(
        self, z_0: jax.Array, encodings: Mapping[str, jax.Array], others: Mapping[str, jax.Array]
    ) -> jax.Array:
        """z_0 of these secondaries' encodings, with others in their place; the primary's stays."""
        return self.clean_state({**others, self.primary: self.primary_encoding(z_0, encodings)})


def check_parts(denoise: Any, modalities: Any, primary: str, target: str) -> None:
    """Checks what every formulation of a model is made of.

    Raises:
        ValueError: `denoise` is no function, `modalities` no dictionary of `ModalityFunctions`, or
            an unknown primary or target.
    """
    expect_callable("denoise", denoise, "that returns a Prediction")
    for name, functions in expect_names("modalities", modalities, "ModalityFunctions").items():
        expect(f"modalities[{name!r}]", functions, ModalityFunctions, "give its ModalityFunctions")
    expect_name("primary", primary, modalities, none="`modalities` is empty")
    expect_name("target", target, TARGETS)


def checked_prediction(prediction: Any, like: jax.Array) -> Prediction:
    """A network's prediction in the dtype of the state `like`, once its shape is checked.

    Raises:
        ValueError: no `Prediction`, or one of another shape.
    """
    expect("denoise", prediction, Prediction, "return model.Prediction(value, heads)")
    heads = expect_names("prediction.heads", prediction.heads, "parameters of its distribution")

    def checked(part: str, array: Any) -> jax.Array:
        return checked_result(
            f"prediction.{part}", array, like.shape, like.dtype, "that of the state"
        )

    mix = prediction.variance_mix
    return Prediction(
        checked("value", prediction.value),
        jax.tree.map(lambda leaf: at_least(leaf, like), dict(heads)),
        None if mix is None else checked("variance_mix", mix),
    )
