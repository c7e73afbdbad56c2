"""The terms of a loss, example by example, before any mean is taken."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp

from mmdiffusion_jax.means import Mean, Scalar, Worst, join
from mmdiffusion_jax.model import where_present


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class LossTerm:
    """One term of a loss.

    Attributes:
        values: (batch,), the term of each example.
        mask: (batch,) of 0 or 1, the examples that count.
        scale: the factor of the mean over these in the loss.

    Example:
        >>> term = LossTerm(values=jnp.array([1.0, 5.0]), mask=jnp.array([1.0, 0.0]))
        >>> term.scale
        1.0
    """

    values: jax.Array
    mask: jax.Array
    scale: float = dataclasses.field(metadata={"static": True}, default=1.0)


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class LossTerms:
    """The terms of a loss, Σ_k scale_k · (mean of term k over the examples that count in it).

    Attributes:
        terms: {name: term}.
        t: (batch,), the t of each example, where there is one for all modalities.

    Example:
        >>> values, label_present = jnp.array([1.0, 5.0]), jnp.array([1.0, 0.0])
        >>> terms = LossTerms({
        ...     "image/squared_error": LossTerm(values, jnp.ones(2)),
        ...     "label/loss": LossTerm(values, label_present, scale=2.0),
        ... })
        >>> loss, scalars = terms.reduce()
        >>> float(loss), float(scalars["label/loss"].value), float(scalars["label/loss"].count)
        (5.0, 1.0, 1.0)
    """

    terms: dict[str, LossTerm]
    t: jax.Array | None = None

    def reduce(self, axis_name: str | None = None) -> tuple[jax.Array, dict[str, Scalar]]:
        """The loss and its scalars.

        Args:
            axis_name: of `shard_map` or `pmap`, where each device has a part of the batch. The
                examples are then counted, and the worst one is sought, over all devices, so that
                the mean over the devices of loss and scalars is that of the whole batch.

        Returns:
            The loss, a scalar, and scalars: `loss`, of each term its `Mean` by its name, and with
            `t` also `worst_t`, the t of the worst example.
        """
        means = self.means(axis_name)
        loss = self.weigh(means)
        scalars: dict[str, Scalar] = {"loss": loss, **means}
        if self.t is not None:
            index, score = self.worst()
            worst = Worst(score, self.t[index].astype(jnp.float32))
            if axis_name is not None:
                everywhere = {"worst_t": jax.lax.all_gather(worst, axis_name)}
                worst = join(everywhere)["worst_t"]
            scalars["worst_t"] = worst
        return loss, scalars

    def means(self, axis_name: str | None = None) -> dict[str, Mean]:
        """The mean of each term over the examples that count in it; arguments as `reduce`."""
        means = {}
        for name, term in self.terms.items():
            count = jnp.sum(term.mask.astype(term.values.dtype))
            total = jnp.sum(where_present(term.mask, term.values))
            if axis_name is not None:
                count = jax.lax.psum(count, axis_name)
                total = jax.lax.axis_size(axis_name) * total
            means[name] = Mean(total, count)
        return means

    def weigh(self, means: Mapping[str, Mean]) -> Any:
        """Σ_k scale_k · mean of term k, of means of these terms over whatever examples."""
        return self._total({name: mean.value for name, mean in means.items()})

    def worst(self) -> tuple[jax.Array, jax.Array]:
        """The place in the batch of the example that is not finite, or else has the largest loss.

        Returns:
            The place, and the loss there, infinite where it is not finite; scalars.
        """
        each = self.per_example()
        score = jnp.where(jnp.isfinite(each), each, jnp.inf)
        index = jnp.argmax(score)
        return index, score[index]

    def per_example(self) -> jax.Array:
        """Σ_k scale_k · term k where it counts, (batch,): what each example adds to the loss."""
        return self._total(
            {name: where_present(term.mask, term.values) for name, term in self.terms.items()}
        )

    def _total(self, values: Mapping[str, Any]) -> Any:
        """Σ_k scale_k · value of term k; what has no scale need not be finite."""
        parts = [self.terms[name].scale * x for name, x in values.items() if self.terms[name].scale]
        return sum(parts[1:], parts[0]) if parts else jnp.zeros_like(next(iter(values.values())))
