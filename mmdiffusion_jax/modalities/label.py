"""Labels: one class of several, encoded by a learned table, with a categorical likelihood."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from mmdiffusion_jax import errors
from mmdiffusion_jax.modalities.base import Features, Modality
from mmdiffusion_jax.process import categorical_log_prob


class Label(Modality):
    """A class index in 0 … num_classes − 1.

    E(k) is row k of a learned table, normalised to unit root mean square over the latent, so that
    the modality weight alone sets its strength.

    Attributes:
        num_classes: how many classes, at least 2.

    Example:
        >>> label = Label(latent=(8, 8, 1), num_classes=10)
        >>> table = label.init(jax.random.key(0), jnp.arange(10), method="encode")
        >>> code = label.apply(table, jnp.array([3]), method="encode")
        >>> round(float((code**2).mean()), 4)
        1.0
    """

    num_classes: int = 2

    def setup(self) -> None:
        """The table and the head's layers."""
        self.table = self.param(
            "table", nn.initializers.normal(1.0), (self.num_classes, *self.latent)
        )
        self.norm = nn.LayerNorm()
        self.logits = nn.Dense(self.num_classes)

    @property
    def num_dims(self) -> int:
        """One."""
        return 1

    @property
    def columns(self) -> tuple[tuple[int, ...], str]:
        """A scalar integer."""
        return (), "integer"

    def validate(self, name: str, x: np.ndarray) -> None:
        """Checks that the labels lie in 0 … num_classes − 1.

        Raises:
            ValueError: naming the modality, the label and the range.
        """
        if x.size and (x.min() < 0 or x.max() >= self.num_classes):
            worst = x.min() if x.min() < 0 else x.max()
            raise ValueError(
                errors.message(
                    name,
                    f"label {worst}",
                    f"labels in 0 … {self.num_classes - 1}",
                    "correct the data, or raise num_classes",
                )
            )

    def encode(self, x: jax.Array) -> jax.Array:
        """Labels (batch,) → (batch, *latent), unit RMS each."""
        return self._rows()[x]

    def head(self, features: Features) -> jax.Array:
        """→ logits (batch, num_classes) from the pooled features."""
        pooled = jnp.mean(features.grid, axis=(1, 2)) + features.condition
        return self.logits(self.norm(pooled))

    def expected_encoding(self, head: jax.Array) -> jax.Array:
        """Σ_k softmax(logits)_k E(k), (batch, *latent)."""
        return jnp.tensordot(jax.nn.softmax(head), self._rows(), axes=1)

    def encoding_variance(self, head: jax.Array) -> jax.Array:
        """Σ_k softmax(logits)_k (E(k) − Ê)², (batch, *latent)."""
        square = jnp.tensordot(jax.nn.softmax(head), self._rows() ** 2, axes=1)
        return jnp.maximum(square - self.expected_encoding(head) ** 2, 0)

    def reconstruct(self, encoding: jax.Array, head: jax.Array) -> jax.Array:
        """The head's logits; an estimate of the encoding adds nothing to them."""
        del encoding
        return head

    def log_prob(self, head: jax.Array, x: jax.Array) -> jax.Array:
        """log p(x), (batch,) nats."""
        return categorical_log_prob(head, x)

    def pool(self, heads: jax.Array) -> jax.Array:
        """Mean of the log-probabilities over the leading axis."""
        return jnp.mean(jax.nn.log_softmax(heads), axis=0)

    def draw(self, key: jax.Array, head: jax.Array) -> jax.Array:
        """A draw, (batch,) int32."""
        return jax.random.categorical(key, head).astype(jnp.int32)

    def most_likely(self, head: jax.Array) -> jax.Array:
        """The class of the highest probability, (batch,) int32."""
        return jnp.argmax(head, axis=-1).astype(jnp.int32)

    def show(self, x: np.ndarray) -> list[np.ndarray | str]:
        """The class indices as captions."""
        return [str(int(label)) for label in np.asarray(x)]

    def _rows(self) -> jax.Array:
        mean_square = jnp.mean(self.table**2, axis=(1, 2, 3), keepdims=True)
        return self.table * jax.lax.rsqrt(mean_square + 1e-12)
