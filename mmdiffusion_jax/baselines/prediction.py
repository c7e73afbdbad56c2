"""Prediction alone: a network that predicts one modality from others and generates nothing."""

import dataclasses
import functools
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import jax
import jax.numpy as jnp

from mmdiffusion_jax import errors
from mmdiffusion_jax.modalities import restored
from mmdiffusion_jax.model import (
    Batch,
    ModelFunctions,
    Presence,
    function_of,
    head_of,
    query_roles,
    split_presence,
    training_roles,
)
from mmdiffusion_jax.model.batches import column
from mmdiffusion_jax.model.calls import encode_present, nll_present
from mmdiffusion_jax.networks import MultiModalModel
from mmdiffusion_jax.objective.loss_terms import LossTerm, LossTerms
from mmdiffusion_jax.process.checks import described, expect, expect_name, widest
from mmdiffusion_jax.sampling.fixed import certain_part


@dataclasses.dataclass(frozen=True)
class Predict:
    """Trains and uses a model that predicts one modality from others.

    Attributes:
        model: joins the parts.
        predicts_from: the modalities that the network sees.
        target: the modality that it predicts.
    """

    model: MultiModalModel
    predicts_from: tuple[str, ...]
    target: str
    has_bound: ClassVar[bool] = False
    trajectory: ClassVar[None] = None

    @property
    def needs(self) -> tuple[str, ...]:
        """What it sees and what it predicts: an example that lacks any of it has no loss."""
        return (*self.predicts_from, self.target)

    def loss(self, params: Any, key: jax.Array, batch: Mapping[str, jax.Array]) -> LossTerms:
        """See `prediction_loss_terms`."""
        del key
        functions = self.model.functions(params)
        values, presence = split_presence(batch)
        return prediction_loss_terms(
            functions, values, presence, given=self.predicts_from, target=self.target
        )

    def sample(
        self, keys: jax.Array, params: Any, given: Mapping[str, jax.Array]
    ) -> dict[str, jax.Array]:
        """The most likely value of the target; a restored one has the name of what it derives from.

        The visible pixels of a restored image stay as they are.

        Raises:
            ValueError: given values of other modalities than the network sees.
        """
        del keys
        if set(given) != set(self.predicts_from):
            raise errors.invalid(
                "given",
                sorted(given),
                f"{sorted(self.predicts_from)}, all that the network sees",
                "give these",
            )
        functions = self.model.functions(params)
        head = predict(functions, given, self.predicts_from, self.target)
        value = function_of(functions, self.target, "most_likely")(head)
        origin = self.model.modalities[self.target].derived_from
        if self.target in self.predicts_from and origin is not None:
            picture, visible = restored(value), certain_part(functions, given, None)
            return {origin: picture if visible is None else visible.kept_in(picture)}
        return {self.target: value}


def predict(model: ModelFunctions, batch: Batch, given: Sequence[str], target: str) -> object:
    """The head of one modality on the plain sum of the encodings of others, Σ_i E_i(x_i) at t = 0.

    No noise, no steps: a classifier, segmenter or restorer with the backbone and the heads of a
    diffusion model, to compare it with.

    Args:
        model: the model as plain functions.
        batch: {name: x (batch, …)} for the given modalities.
        given: what the network sees.
        target: the modality it predicts, not the primary, whose head needs an estimate of z_0.

    Returns:
        The head's parameters.

    Raises:
        ValueError: nothing given, an unknown name, the primary as the target, or encodings of
            different shapes.

    Example:
        >>> from mmdiffusion_jax import model
        >>> image = model.ModalityFunctions(encode=lambda x: x, log_prob=lambda m, x: x[:, 0])
        >>> functions = model.ModelFunctions(
        ...     denoise=lambda z, t: model.Prediction(z, {"label": 2 * z}),
        ...     modalities={"image": image, "label": image}, primary="image",
        ... )
        >>> predict(functions, {"image": jnp.ones((1, 1))}, ["image"], "label").tolist()
        [[2.0]]
    """
    names = _names(model, given, target)
    return _predict(model, {name: column(batch, name, names) for name in names}, target)


def _names(model: ModelFunctions, given: Sequence[str], target: str) -> tuple[str, ...]:
    """The names of what is given, once they and the target are checked."""
    expect("model", model, ModelFunctions)
    if isinstance(given, str) or not isinstance(given, Sequence):
        raise errors.invalid(
            "given", described(given), "a list of modalities", "put the name in a list"
        )
    for name in (*given, target):
        expect_name("given, target", name, model.modalities)
    if not given or target == model.primary:
        raise errors.invalid(
            "given, target",
            (tuple(given), target),
            "at least one given modality and a secondary as the target",
            "change them",
        )
    return tuple(given)


def _predict(
    model: ModelFunctions, values: Batch, target: str, mask: jax.Array | None = None
) -> object:
    """The head of the target on the sum of the encodings of all values, where the mask is 1."""
    encodings = {name: encode_present(model, name, x, mask) for name, x in values.items()}
    (first, *_), latents = encodings, {name: x.shape for name, x in encodings.items()}
    if len(set(latents.values())) > 1:
        raise errors.invalid(
            "batch",
            f"encodings of shapes {latents}",
            f"one latent shape and as many examples each as {first!r} has",
            "give every modality the same leading axis, and encode into one shape",
        )
    dtype = widest(jnp.zeros((), jnp.float32), *encodings.values())
    state = jnp.sum(jnp.stack([x.astype(dtype) for x in encodings.values()]), 0)
    zeros = jnp.zeros(state.shape[:1], jnp.int32)
    roles = query_roles(model.modalities, state.shape[0], given=values, carried=values)
    return head_of(model.predict(state, zeros, roles), target)


def prediction_loss_terms(
    model: ModelFunctions,
    batch: Batch,
    presence: Presence | None = None,
    *,
    given: Sequence[str],
    target: str,
) -> LossTerms:
    """−log p(x_target | x_given) / dims, of the examples that have all of these modalities.

    Of a target that is given too only the part counts that its encoder does not read, such as the
    hidden pixels of a masked image: log p(x) less the part's `condition_log_prob`.

    Args:
        model: the model as plain functions.
        batch: {name: x (batch, …)} for every modality.
        presence: {name: (batch,) of 0 or 1}; left out, all is present.
        given: what the network sees.
        target: the modality it predicts; where it is given too, it has a `condition_log_prob`.

    Returns:
        The term `<target>/loss`, in nats per dimension; its mean is the loss.

    Raises:
        ValueError: as `predict`, and for bad masks or batches.

    Example:
        >>> from mmdiffusion_jax import model
        >>> point = model.ModalityFunctions(
        ...     encode=lambda x: x, log_prob=lambda m, x: -jnp.abs(x - m)[:, 0]
        ... )
        >>> functions = model.ModelFunctions(
        ...     denoise=lambda z, t: model.Prediction(z, {"b": z + 3}),
        ...     modalities={"a": point, "b": point}, primary="a",
        ... )
        >>> batch = {"a": jnp.zeros((2, 1)), "b": jnp.ones((2, 1))}
        >>> loss, _ = prediction_loss_terms(functions, batch, given=["a"], target="b").reduce()
        >>> float(loss)
        2.0
    """
    names = _names(model, given, target)
    roles = training_roles(model, batch, presence)
    whole = roles.present(target)
    for name in names:
        whole = whole & roles.present(name)
    head = _predict(model, {name: column(batch, name) for name in names}, target, whole)
    nll = functools.partial(
        nll_present, model, target, head, column(batch, target), whole, jnp.zeros(()).dtype
    )
    nats = nll()
    if target in names:
        nats = nats - nll(wanted="condition_log_prob")
    per_dim = nats / model.modalities[target].dims_of(column(batch, target))
    return LossTerms({f"{target}/loss": LossTerm(per_dim, whole)})
