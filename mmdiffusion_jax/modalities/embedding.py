"""Embeddings: a vector, encoded by a learned projection, with a Gaussian or a cosine likelihood."""

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from mmdiffusion_jax import errors, metrics, ranges
from mmdiffusion_jax.modalities.base import Features, Modality
from mmdiffusion_jax.modalities.encoders import (
    check_grid,
    coarse_shape,
    enlarge,
    unit_rms,
    unit_rms_moments,
)
from mmdiffusion_jax.modalities.heads import bounded_log_std, draw_gaussian, pool_gaussians
from mmdiffusion_jax.modalities.judging import Measure
from mmdiffusion_jax.model import (
    gaussian_log_prob,
    von_mises_fisher_draw,
    von_mises_fisher_log_prob,
    von_mises_fisher_resultant,
)

_LOG_KAPPA_RANGE = (-3.0, 11.0)
# The bias, of standard deviation 0.3 at first, is most of the encoding of smaller data.
_SMALL = 0.3
Head = dict[str, jax.Array]


class DiagonalGaussian:
    """The diagonal Gaussian of vectors, with the parameters {"mean", "log_std"} (batch, dims)."""

    def num_outputs(self, dims: int) -> int:
        """How many numbers give an example's parameters: mean and log σ of each dimension."""
        return 2 * dims

    def head(self, out: jax.Array) -> Head:
        """(batch, num_outputs) of a layer → {"mean", "log_std"}."""
        mean, log_std = jnp.split(out, 2, axis=-1)
        return {"mean": mean, "log_std": bounded_log_std(log_std)}

    def canonical(self, x: jax.Array) -> jax.Array:
        """x itself."""
        return x

    def log_prob(self, head: Head, x: jax.Array) -> jax.Array:
        """log density, (batch,) nats."""
        return gaussian_log_prob(head["mean"], head["log_std"], x)

    def pool(self, heads: Head) -> Head:
        """Precisions average."""
        return pool_gaussians(heads)

    def draw(self, key: jax.Array, head: Head) -> jax.Array:
        """Mean + σ ε."""
        return draw_gaussian(key, head)

    def mode(self, head: Head) -> jax.Array:
        """The mean."""
        return head["mean"]

    def projected(self, head: Head, kernel: jax.Array) -> tuple[jax.Array, jax.Array]:
        """Mean and variance of x @ W, entry by entry: Wᵀm and (W²)ᵀσ², both exact."""
        return head["mean"] @ kernel, jnp.exp(2 * head["log_std"]) @ kernel**2


class VonMisesFisher:
    """The von Mises–Fisher distribution of directions, with the parameter {"natural"}, κμ."""

    def num_outputs(self, dims: int) -> int:
        """How many numbers give an example's parameters: the direction and log κ."""
        return dims + 1

    def head(self, out: jax.Array) -> Head:
        """(batch, num_outputs) → {"natural"}; κ is about the number of dimensions at first."""
        log_kappa = out[:, -1:] + np.log(out.shape[-1] - 1).astype(np.float32)
        kappa = jnp.exp(jnp.clip(log_kappa, *_LOG_KAPPA_RANGE))
        return {"natural": kappa * _direction(out[:, :-1])}

    def canonical(self, x: jax.Array) -> jax.Array:
        """x / ‖x‖."""
        return _direction(x)

    def log_prob(self, head: Head, x: jax.Array) -> jax.Array:
        """log density by the surface measure of the unit sphere, (batch,) nats."""
        return von_mises_fisher_log_prob(*self._split(head), _direction(x))

    def pool(self, heads: Head) -> Head:
        """The vectors κμ average."""
        return {"natural": jnp.mean(heads["natural"], axis=0)}

    def draw(self, key: jax.Array, head: Head) -> jax.Array:
        """A unit vector."""
        return von_mises_fisher_draw(key, *self._split(head))

    def mode(self, head: Head) -> jax.Array:
        """The mean direction."""
        return _direction(head["natural"])

    def projected(self, head: Head, kernel: jax.Array) -> tuple[jax.Array, jax.Array]:
        """Mean A Wᵀμ of x @ W, and its variance a Σ W² + (b − a) (Wᵀμ)², both exact.

        With A = A_d(κ), a = A/κ is the variance across μ and b = 1 − A² − (d − 1) A/κ along it.
        """
        direction, kappa = self._split(head)
        kappa, dims = kappa[:, None], kernel.shape[0]
        resultant = von_mises_fisher_resultant(dims, kappa)
        across = resultant / kappa
        # Above zero but for rounding, where κ is large.
        along = jnp.maximum(1 - resultant**2 - (dims - 1) * across, 0)
        projection = direction @ kernel
        rest = jnp.maximum(jnp.sum(kernel**2, axis=0) - projection**2, 0)
        return resultant * projection, across * rest + along * projection**2

    def _split(self, head: Head) -> tuple[jax.Array, jax.Array]:
        """μ and κ."""
        # The pooled κ of opposite directions may be zero, where the variance divides by it.
        kappa = jnp.sqrt(jnp.sum(head["natural"] ** 2, axis=-1) + 1e-12)
        return head["natural"] / kappa[:, None], kappa


DISTRIBUTIONS: Mapping[str, DiagonalGaussian | VonMisesFisher] = {
    "gaussian": DiagonalGaussian(),
    "cosine": VonMisesFisher(),
}
"""The distributions of an embedding by the names that configs know them by."""


class Embedding(Modality):
    """A vector (dims,) of floats, such as the features of another network.

    E(x) = u / rms(u), u = Wᵀx + b learned, of unit RMS over the latent, so that the modality weight
    alone sets its strength. The bias b keeps the length of x in E(x).

    `head_kind` "gaussian" is a diagonal Gaussian of x. Scale the data to a root mean square of
    about one, as smaller values change E(x) little beside b. Those of unit vectors are small,
    dims^(−1/2); they want "cosine", the von Mises–Fisher distribution of x / ‖x‖,
    p ∝ exp(κ cos(μ, x)): the length of x counts nothing, b is left out, draws are unit vectors.

    The mean and the variance of E(x) have no closed form behind the division by rms(u): they are
    those of u, which are exact, over the root mean square of u (`encoders.unit_rms_moments`).

    Attributes:
        dims: length of the vector.
        head_kind: "gaussian" or "cosine".
        grid: (rows, columns) of the rows of W and of b, enlarged linearly to the latent. Left out,
            they have the latent's own, and E(x) looks like noise; U-Nets learn faster from a
            coarse one.

    Raises:
        ValueError: an unknown `head_kind`, no dimension, or one alone for "cosine", or a grid
            larger than the latent or of one number.

    Example:
        >>> embedding = Embedding(latent=(8, 8, 1), dims=3, head_kind="cosine")
        >>> x = jnp.array([[1.0, 2.0, -2.0]])
        >>> code, _ = embedding.init_with_output(jax.random.key(0), x, method="encode")
        >>> code.shape, round(float((code**2).mean()), 4)
        ((1, 8, 8, 1), 1.0)
    """

    dims: int = 2
    head_kind: str = "gaussian"
    grid: tuple[int, int] | None = None

    figures = MappingProxyType({"cosine": True, "cosine_of_strangers": None})
    is_embedding = True

    def __post_init__(self) -> None:
        super().__post_init__()
        ranges.check_one_of("head_kind", self.head_kind, DISTRIBUTIONS)
        ranges.check_whole("dims", self.dims, 2 if self.head_kind == "cosine" else 1)
        check_grid(self.grid, self.latent)

    def setup(self) -> None:
        """The projection."""
        shape = coarse_shape(self.grid, self.latent)
        scale = nn.initializers.normal(self.dims**-0.5)
        kernel = self.param("kernel", scale, (self.dims, *shape))
        self.kernel = enlarge(kernel, self.latent).reshape(self.dims, -1)
        if self.head_kind == "gaussian":
            bias = self.param("bias", nn.initializers.normal(0.3), (1, *shape))
            self.bias = enlarge(bias, self.latent).reshape(-1)

    @property
    def num_dims(self) -> int:
        """The dimensions that the density is of: one less on the sphere."""
        return self.dims - (self.head_kind == "cosine")

    @property
    def holds(self) -> bool:
        """Whether the projection has as many dimensions as the vector, and one more for its length.

        The division by rms(u) leaves the direction of u = Wᵀx + b; "cosine" has no length to tell.
        """
        needed = self.dims + (self.head_kind == "gaussian")
        return int(np.prod(coarse_shape(self.grid, self.latent))) >= needed

    @property
    def columns(self) -> tuple[tuple[int, ...], str]:
        """Shape (dims,), floats."""
        return (self.dims,), "floating"

    def validate(self, name: str, x: np.ndarray) -> None:
        """Checks that the values are finite, and for "cosine" that no vector is zero.

        Raises:
            ValueError: naming the modality and what it got.
        """
        if not np.isfinite(x).all():
            raise errors.invalid(
                name,
                f"the value {x[~np.isfinite(x)].flat[0]}",
                "finite values",
                "leave such examples out, or mark them as not present",
            )
        if self.head_kind == "cosine" and (np.abs(x).max(axis=-1, initial=0) == 0).any():
            raise errors.invalid(
                name,
                "a vector of zeros",
                "vectors that have a direction",
                'leave them out, or use head_kind="gaussian"',
            )

    def suspicion(self, highest: float, rms: float = 1.0) -> str | None:
        """Values so small that the bias is most of a Gaussian embedding's encoding."""
        del highest
        if self.head_kind != "gaussian" or rms >= _SMALL:
            return None
        return (
            f"the values have a root mean square of {rms:.2g}, so that all examples have nearly "
            'the same encoding. For unit vectors set head_kind="cosine"; scale others to a root '
            "mean square of 1."
        )

    def measures(self, given: Modality) -> Sequence[Measure]:
        """The mean cosine with the truth, beside that of rows that are no pair ("strangers")."""
        del given
        return (Measure(tuple(self.figures), lambda x, truth, _: _cosines(x, truth)),)

    @property
    def measures_of_primary(self) -> Sequence[Measure]:
        """The same of the embeddings of the primary, and x."""
        names = tuple(self.figures)
        return (Measure(names, lambda images, x, networks: _cosines(networks.embed(images), x)),)

    def encode(self, x: jax.Array) -> jax.Array:
        """Vectors (batch, dims) → (batch, *latent), unit RMS each."""
        return unit_rms(self._grid(self._distribution.canonical(x) @ self.kernel), num_axes=3)

    @nn.compact
    def head(self, features: Features) -> Head:
        """→ the parameters of the distribution, from the pooled features."""
        num_outputs = self._distribution.num_outputs(self.dims)
        return self._distribution.head(nn.Dense(num_outputs)(nn.LayerNorm()(features.pooled)))

    def expected_encoding(self, head: Head) -> jax.Array:
        """≈ E[u] / sqrt(mean E[u²]), (batch, *latent)."""
        return self._moments(head)[0]

    def encoding_variance(self, head: Head) -> jax.Array:
        """≈ Var[u] / mean E[u²], (batch, *latent)."""
        return self._moments(head)[1]

    def log_prob(self, head: Head, x: jax.Array) -> jax.Array:
        """log density, (batch,) nats."""
        return self._distribution.log_prob(head, x)

    def pool(self, heads: Head) -> Head:
        """The distribution of the same kind proportional to the geometric mean."""
        return self._distribution.pool(heads)

    def draw(self, key: jax.Array, head: Head) -> jax.Array:
        """A draw, (batch, dims)."""
        return self._distribution.draw(key, head)

    def most_likely(self, head: Head) -> jax.Array:
        """The mean, or the mean direction, (batch, dims)."""
        return self._distribution.mode(head)

    def show(self, x: np.ndarray) -> list[np.ndarray | str]:
        """The first three values as captions."""
        more = " …" if self.dims > 3 else ""
        return [" ".join(f"{value:.2f}" for value in row[:3]) + more for row in np.asarray(x)]

    @property
    def _distribution(self) -> DiagonalGaussian | VonMisesFisher:
        return DISTRIBUTIONS[self.head_kind]

    def _moments(self, head: Head) -> tuple[jax.Array, jax.Array]:
        mean, variance = self._distribution.projected(head, self.kernel)
        return unit_rms_moments(self._grid(mean), variance.reshape(-1, *self.latent))

    def _grid(self, projected: jax.Array) -> jax.Array:
        bias: Any = self.bias if self.head_kind == "gaussian" else 0
        return (projected + bias).reshape(-1, *self.latent)


def _cosines(x: np.ndarray, y: np.ndarray) -> tuple[float, float]:
    return metrics.CosineStatistics.empty(y.shape[1]).update(x, y).compute()


def _direction(x: jax.Array) -> jax.Array:
    # In half precision the squares of large values overflow.
    x = x.astype(jnp.promote_types(x.dtype, jnp.float32))
    return x * jax.lax.rsqrt(jnp.sum(x**2, axis=-1, keepdims=True) + 1e-12)
