"""Images with hidden squares: the encoder sees the visible part, the head restores the whole."""

from collections.abc import Sequence
from types import MappingProxyType
from typing import TypeVar

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from mmdiffusion_jax import errors, ranges
from mmdiffusion_jax.modalities.base import Features, Modality
from mmdiffusion_jax.modalities.encoders import unit_rms
from mmdiffusion_jax.modalities.heads import bounded_log_std, per_pixel
from mmdiffusion_jax.modalities.image import Image, check_pixels
from mmdiffusion_jax.modalities.judging import Measure
from mmdiffusion_jax.modalities.palettes import channel_colours
from mmdiffusion_jax.process import sum_per_example

Array = TypeVar("Array", jax.Array, np.ndarray)

# A pixel's RMS over its channels is at most 1, so no pixel can look like a hidden one.
_HIDDEN_RMS = 1.5


class MaskedImage(Image):
    """An image of the latent's own shape of which random squares are hidden.

    x is (height, width, channels + 1) uint8: the picture, and last its validity, 255 where a pixel
    is visible and 0 where it is hidden.

    - In training x carries the whole picture, the true pixels under the squares too: they are the
      target. `derive` makes such x from an image.
    - As a condition x may hold anything in its hidden pixels: the encoder never reads them.

    E(x) = pixel / 127.5 − 1 where visible, and where hidden a learned code of the latent's
    channels, of RMS 1.5. Zero would be a mid-grey pixel as well; the code lies outside the range of
    pixels, whose RMS is at most 1, so visible and hidden are told apart in any picture.

    p(x | z_t) has independent pixels: Bernoulli for the validity, and for the values the
    discretised Gaussian of `Image`, of the whole picture, visible or not. p knows nothing of
    squares: in a draw each pixel is visible or hidden by itself.

    Attributes:
        num_levels: how many grey levels the data has, 2 … 256.
        num_squares: how many squares `derive` hides; they may overlap.
        square_size: their side, in pixels.
        source: the name of the image that `derive` starts from.

    Raises:
        ValueError: squares that are fewer than one or do not fit into the picture.

    Example:
        >>> masked = MaskedImage(latent=(8, 8, 1), num_squares=1, square_size=4)
        >>> x = masked.derive(np.random.default_rng(0), np.full((2, 8, 8, 1), 200, np.uint8))
        >>> x.shape, int((x[0, ..., 1] == 0).sum())
        ((2, 8, 8, 2), 16)
    """

    num_squares: int = 1
    square_size: int = 1
    source: str = "image"

    decoder_fields = Image.decoder_fields | {"num_squares", "square_size", "source"}
    figures = MappingProxyType({})
    is_partial_view = True
    drawn = "never"

    def __post_init__(self) -> None:
        super().__post_init__()
        _check_squares(self.num_squares, self.square_size, *self.latent[:2])

    def setup(self) -> None:
        """The code of hidden pixels."""
        self.hidden = self.param("hidden", nn.initializers.normal(1.0), (self.latent[2],))

    @property
    def columns(self) -> tuple[tuple[int, ...], str]:
        """Shape (height, width, channels + 1), integers."""
        height, width, channels = self.latent
        return (height, width, channels + 1), "integer"

    @property
    def derived_from(self) -> str | None:
        """The name of the image it starts from."""
        return self.source

    def derive(self, rng: np.random.Generator, x: np.ndarray) -> np.ndarray:
        """Images (n, height, width, channels) → x with random squares marked as hidden.

        Raises:
            ValueError: images without a channel axis.
        """
        if x.ndim != 4:
            raise errors.invalid(
                self.source,
                f"examples of shape {x.shape[1:]}",
                "images of shape (height, width, channels)",
                "give grey images a channel axis by images[..., None]",
            )
        count, height, width, _ = x.shape
        visible = random_squares(rng, count, height, width, self.num_squares, self.square_size)
        validity = np.where(visible[..., None], np.uint8(255), np.uint8(0))
        return np.concatenate([x.astype(np.uint8, copy=False), validity], axis=-1)

    @property
    def is_bounded(self) -> bool:
        """No: the code of hidden pixels is larger than any pixel."""
        return False

    def validate(self, name: str, x: np.ndarray) -> None:
        """Checks that visible pixels are among the levels and the validity is 0 or 255.

        Raises:
            ValueError: naming the modality and what is out of range.
        """
        check_pixels(name, x)
        validity = x[..., -1]
        wrong = (validity != 0) & (validity != 255)
        if wrong.any():
            raise errors.invalid(
                name,
                f"validity {validity[wrong].flat[0]} in the last channel",
                "0 (hidden) or 255 (visible)",
                "store the validity behind the image's own channels",
            )
        # A condition may hold anything under its squares.
        super().validate(name, np.where(_is_visible(x)[..., None], restored(x), 0))

    def certain(self, x: jax.Array) -> tuple[jax.Array, jax.Array]:
        """The visible pixels of the image that it is a view of."""
        picture = restored(x)
        return picture, jnp.broadcast_to(_is_visible(x)[..., None], picture.shape)

    def measures(self, given: Modality) -> Sequence[Measure]:
        """None: the place of a square is drawn, and follows from nothing that is given."""
        del given
        return ()

    def encode(self, x: jax.Array) -> jax.Array:
        """x (batch, height, width, channels + 1) → (batch, *latent)."""
        return jnp.where(_is_visible(x)[..., None], super().encode(restored(x)), self._code())

    @nn.compact
    def head(self, features: Features) -> dict[str, jax.Array]:
        """→ {"mean", "log_std"} (batch, *latent), {"visible_logit"} (batch, height, width)."""
        height, width, channels = self.latent
        out = per_pixel(features, height, width, 2 * channels + 1)
        mean, log_std, visible = jnp.split(out, (channels, 2 * channels), axis=-1)
        return {"mean": mean, "log_std": bounded_log_std(log_std), "visible_logit": visible[..., 0]}

    def expected_encoding(self, head: dict[str, jax.Array]) -> jax.Array:
        """P(visible) · mean, kept within [−1, 1], + P(hidden) · code."""
        visible = jax.nn.sigmoid(head["visible_logit"])[..., None]
        return visible * super().expected_encoding(head) + (1 - visible) * self._code()

    def encoding_variance(self, head: dict[str, jax.Array]) -> jax.Array:
        """P(visible) · σ² + P(visible) · P(hidden) · (mean − code)²."""
        visible = jax.nn.sigmoid(head["visible_logit"])[..., None]
        apart = (super().expected_encoding(head) - self._code()) ** 2
        return visible * super().encoding_variance(head) + visible * (1 - visible) * apart

    def reconstruct(self, encoding: jax.Array, head: dict[str, jax.Array]) -> dict[str, jax.Array]:
        """The head's parameters; the encoding has no information about the hidden part."""
        del encoding
        return head

    def log_prob(
        self, head: dict[str, jax.Array], x: jax.Array, counted: jax.Array | None = None
    ) -> jax.Array:
        """log p(validity) + log p(whole picture), (batch,) nats; `counted` as of `Image`."""
        logit = jnp.where(_is_visible(x), head["visible_logit"], -head["visible_logit"])
        of_picture = super().log_prob(head, restored(x), counted)
        return sum_per_example(jax.nn.log_sigmoid(logit)) + of_picture

    def condition_log_prob(self, head: dict[str, jax.Array], x: jax.Array) -> jax.Array:
        """log p(validity) + log p(visible pixels); what x has under its squares is not read."""
        return self.log_prob(head, x, _is_visible(x)[..., None])

    def pool(self, heads: dict[str, jax.Array]) -> dict[str, jax.Array]:
        """The Gaussians' precisions and the Bernoullis' logits average."""
        return {**super().pool(heads), "visible_logit": jnp.mean(heads["visible_logit"], axis=0)}

    def draw(self, key: jax.Array, head: dict[str, jax.Array]) -> jax.Array:
        """A whole picture and the validity of each pixel: (batch, h, w, channels + 1) uint8."""
        of_picture, of_validity = jax.random.split(key)
        visible = jax.random.bernoulli(of_validity, jax.nn.sigmoid(head["visible_logit"]))
        return _with_validity(super().draw(of_picture, head), visible)

    def most_likely(self, head: dict[str, jax.Array]) -> jax.Array:
        """The level nearest the mean, and visible where that is likelier than hidden."""
        return _with_validity(super().most_likely(head), head["visible_logit"] > 0)

    def show(self, x: np.ndarray) -> list[np.ndarray | str]:
        """RGB pictures (height, width, 3) uint8 with the hidden pixels black."""
        x = np.asarray(x)
        visible = _is_visible(x)[..., None]
        return list(np.where(visible, channel_colours(restored(x)), np.uint8(0)))

    def _code(self) -> jax.Array:
        return _HIDDEN_RMS * unit_rms(self.hidden)


def restored(x: Array) -> Array:
    """The whole picture (batch, height, width, channels) of x, without its validity.

    Example:
        >>> restored(np.array([[[[7, 8, 9, 255]]]], np.uint8)).tolist()
        [[[[7, 8, 9]]]]
    """
    return x[..., :-1]


def random_squares(
    rng: np.random.Generator,
    num_examples: int,
    height: int,
    width: int,
    num_squares: int,
    square_size: int,
) -> np.ndarray:
    """Where pictures stay visible when `num_squares` squares of side `square_size` are hidden.

    Every square lies inside the picture, at a place drawn uniformly; squares may overlap.

    Returns:
        (num_examples, height, width) booleans, False under the squares.

    Raises:
        ValueError: fewer than one square, or squares that do not fit.

    Example:
        >>> visible = random_squares(np.random.default_rng(0), 3, 8, 8, 1, 4)
        >>> (~visible).sum(axis=(1, 2)).tolist()
        [16, 16, 16]
    """
    _check_squares(num_squares, square_size, height, width)
    inside = []
    for side in (height, width):
        start = rng.integers(side - square_size + 1, size=(num_examples, num_squares, 1))
        at = np.arange(side)
        inside.append(((at >= start) & (at < start + square_size)).astype(np.float32))
    rows, columns = inside
    return rows.transpose(0, 2, 1) @ columns == 0


def _is_visible(x: Array) -> Array:
    return x[..., -1] > 127


def _with_validity(pixels: jax.Array, visible: jax.Array) -> jax.Array:
    validity = jnp.where(visible, 255, 0).astype(pixels.dtype)
    return jnp.concatenate([pixels, validity[..., None]], axis=-1)


def _check_squares(num_squares: int, square_size: int, height: int, width: int) -> None:
    ranges.check_whole("num_squares", num_squares, 1)
    ranges.check_whole("square_size", square_size, 1)
    if square_size > min(height, width):
        raise errors.invalid(
            "square_size",
            square_size,
            f"1 … {min(height, width)} in pictures of {height}×{width}",
            "choose a side that fits",
        )
