"""What a loss is a weighted sum of: its terms, example by example, before any mean is taken."""

import dataclasses

import jax
import jax.numpy as jnp

from mmdiffusion_jax.model import where_present

COUNT = "count/"
"""Before the name of a scalar that is a mean: how many examples it counts."""


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class LossTerm:
    """One term of a loss.

    Attributes:
        values: (batch,), the term of each example.
        mask: (batch,) of 0 or 1, the examples that count.
        scale: what the mean over these counts for in the loss.
    """

    values: jax.Array
    mask: jax.Array
    scale: float = dataclasses.field(metadata={"static": True}, default=1.0)


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class LossSum:
    """A term of a loss, summed over the examples that count.

    Attributes:
        total: Σ of the term, a scalar.
        count: how many examples count, a scalar.
        scale: what the mean over these counts for in the loss.
    """

    total: jax.Array
    count: jax.Array
    scale: float = dataclasses.field(metadata={"static": True}, default=1.0)


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class LossTerms:
    """The terms of a loss, Σ_k scale_k · (mean of term k over the examples that count in it).

    Attributes:
        terms: {name: term}.
        t: (batch,), the t that each example was asked at, where there is one for all modalities.

    Example:
        >>> values, label_present = jnp.array([1.0, 5.0]), jnp.array([1.0, 0.0])
        >>> terms = LossTerms({
        ...     "image/squared_error": LossTerm(values, jnp.ones(2)),
        ...     "label/loss": LossTerm(values, label_present, scale=2.0),
        ... })
        >>> loss, scalars = terms.reduce()
        >>> float(loss), float(scalars["label/loss"]), float(scalars["count/label/loss"])
        (5.0, 1.0, 1.0)
    """

    terms: dict[str, LossTerm]
    t: jax.Array | None = None

    def reduce(self, axis_name: str | None = None) -> tuple[jax.Array, dict[str, jax.Array]]:
        """The loss and its scalars.

        Args:
            axis_name: of `shard_map` or `pmap`, where each device has a part of the batch. The
                masks are then counted over all devices, so that the mean over the devices of loss
                and scalars is that of the whole batch.

        Returns:
            The loss, a scalar, and a dictionary of scalars: `loss`, the mean of each term by its
            name, `count/<name>`, how many examples that counts (0 leaves the mean at 0), and with
            `t` also `worst_t`, the t of the example that is not finite or else has the largest
            loss.
        """
        scalars: dict[str, jax.Array] = {}
        for name, term in self.terms.items():
            count = jnp.sum(term.mask.astype(jnp.float32))
            scalars[name] = mean_where(term.values, term.mask, axis_name)
            scalars[COUNT + name] = jax.lax.psum(count, axis_name) if axis_name else count
        parts = list(self.weighted_means(axis_name).values())
        loss = sum(parts[1:], parts[0])
        if self.t is not None:
            each = self.per_example()
            worst = jnp.argmax(jnp.where(jnp.isfinite(each), each, jnp.inf))
            scalars["worst_t"] = self.t[worst].astype(jnp.float32)
        return loss, {"loss": loss, **scalars}

    def weighted_means(self, axis_name: str | None = None) -> dict[str, jax.Array]:
        """{name: scale_k · (mean of term k)}, whose sum is the loss; arguments as `reduce`."""
        return {
            name: term.scale * mean_where(term.values, term.mask, axis_name)
            for name, term in self.terms.items()
        }

    def per_example(self) -> jax.Array:
        """Σ_k scale_k · term k where it counts, (batch,): what each example adds to the loss."""
        parts = [term.scale * where_present(term.mask, term.values) for term in self.terms.values()]
        return sum(parts[1:], parts[0])

    def sums(self) -> dict[str, "LossSum"]:
        """The sum of each term over the examples that count in it, to add up over batches."""
        return {
            name: LossSum(
                jnp.sum(where_present(term.mask, term.values)),
                jnp.sum(term.mask.astype(jnp.float32)),
                term.scale,
            )
            for name, term in self.terms.items()
        }


def mean_where(values: jax.Array, mask: jax.Array, axis_name: str | None = None) -> jax.Array:
    """Mean of (batch,) values where the mask is 1; zero where it is 1 nowhere.

    What stands where the mask is 0 does not count, even if it is not a number.

    Args:
        values: (batch,).
        mask: (batch,) of 0 or 1.
        axis_name: of the devices that have a part of the batch each; the mean over them of what
            they return is then the mean over the whole batch.
    """
    total, count = jnp.sum(where_present(mask, values)), jnp.sum(mask.astype(values.dtype))
    if axis_name is None:
        return total / jnp.maximum(count, 1)
    devices = jax.lax.axis_size(axis_name)
    return devices * total / jnp.maximum(jax.lax.psum(count, axis_name), 1)
