"""What a bound is of: an encoded batch, or the stages of a chain, one encoded batch each."""

import dataclasses
import math
from collections.abc import Collection, Sequence

import jax
import jax.numpy as jnp

from mmdiffusion_jax.model import Batch, CleanState, Diffusion, Presence, Roles, encode, observe
from mmdiffusion_jax.model.diffusion import expect_diffusion
from mmdiffusion_jax.model.tasks import conditional_roles, diffused_of
from mmdiffusion_jax.objective.terms import recovery_terms
from mmdiffusion_jax.process.checks import expect_number
from mmdiffusion_jax.sampling.order import stages_of


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class BoundTerms:
    """The four terms of the bound, each (batch,) in nats.

    Attributes:
        prior: L0.
        posterior: L1.
        recovery: L2.
        reconstruction: L3.

    Example:
        >>> import jax.numpy as jnp
        >>> terms = BoundTerms(*(jnp.full((1,), x) for x in (1.0, 2.0, 3.0, 4.0)))
        >>> terms.total.tolist()
        [10.0]
    """

    prior: jax.Array
    posterior: jax.Array
    recovery: jax.Array
    reconstruction: jax.Array

    @property
    def total(self) -> jax.Array:
        """L0 + L1 + L2 + L3, (batch,) nats: an upper bound of −log p(X)."""
        return self.prior + self.posterior + self.recovery + self.reconstruction

    def bits_per_dim(self, num_dims: int) -> jax.Array:
        """The total in bits per dimension, nats / (ln 2 · num_dims), (batch,).

        X has `num_dims` dimensions, all modalities together, of which `ModalityFunctions.dims_of`
        counts those of one; anything but a number of at least 1 is a `ValueError`.
        """
        expect_number("num_dims", num_dims, "1 or more", lambda x: x >= 1, "count X's values")
        return self.total / (math.log(2) * num_dims)


@dataclasses.dataclass(frozen=True)
class EncodedBatch:
    """A batch on its way into the terms of a bound.

    Attributes:
        batch: {name: x (batch, …)}.
        roles: of its modalities.
        clean: z_0 and the encodings.
        diffusion: the process and the model, whose primary is what is diffused here.
        diffuses: whether anything that is asked for is; else one call of the heads is exact.
    """

    batch: Batch
    roles: Roles
    clean: CleanState
    diffusion: Diffusion
    diffuses: bool


def prepare(
    diffusion: Diffusion,
    batch: Batch,
    presence: Presence | None,
    given: Collection[str] = (),
    asked: Collection[str] | None = None,
) -> EncodedBatch:
    """Checks model and batch once, and encodes what is present; `given` as in `bound`.

    Asked for are by default all others.

    Raises:
        ValueError: no diffusion model, bad masks or batches, given names that are not shown.
    """
    model = expect_diffusion(diffusion).model
    everyone = model.modalities if asked is None else asked
    diffused = diffused_of(model, set(everyone) - set(given))
    diffusion = diffusion.of(diffused or model.primary)
    roles = conditional_roles(diffusion.model, batch, presence, given, asked)
    clean, roles = encode(diffusion.model, batch, roles)
    return EncodedBatch(batch, roles, clean, diffusion, diffused is not None)


def prepare_stages(
    diffusion: Diffusion,
    batch: Batch,
    presence: Presence | None,
    given: Collection[str],
    order: Sequence[str] | None,
) -> list[EncodedBatch]:
    """One encoded batch a stage; arguments and errors as of `bound`."""
    model = expect_diffusion(diffusion).model
    if order is None:
        return [prepare(diffusion, batch, presence, given)]
    stages, known = stages_of(model, given, order), set(given)
    encoded = []
    for stage in stages:
        encoded.append(prepare(diffusion, batch, presence, known, stage))
        known.update(stage)
    return encoded


def answered(encoded: EncodedBatch) -> BoundTerms:
    """The bound where nothing diffuses, which is −Σ_i log p(x_i | what is known) itself."""
    like, diffusion = encoded.clean.z_0, encoded.diffusion
    last = jnp.full(like.shape[:1], diffusion.num_steps, jnp.int32)
    state = observe(diffusion, encoded.clean, encoded.roles, last, jnp.zeros_like(like))
    terms = recovery_terms(diffusion.model, encoded.batch, encoded.roles, state)
    zero = jnp.zeros(like.shape[:1], like.dtype)
    return BoundTerms(zero, zero, sum(terms.values(), zero), zero)
