"""Generating in batches with a trained model."""

from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from absl import logging

from mmdiffusion_jax import errors, process, ranges, sampling
from mmdiffusion_jax.experiment.sections import SamplingOptions
from mmdiffusion_jax.modalities import Modality
from mmdiffusion_jax.networks import MultiModalModel

# Given values that are checked at once.
_CHUNK = 100_000

Draw = Callable[..., dict[str, jax.Array]]
"""(keys (batch,), parameters, {name: given x (batch, …)}) → {name: generated x}; pure.

With `fixed` and `begin`, as of `sampling.sample`, where a query has them.
"""


class Generator:
    """Generates with one model; compiled once for each set of given modalities and batch size.

    Args:
        model: the Flax model.
        draw: generates one batch, from a key for each example.
        options: how samples are drawn.
        prior: the forward process, where generation starts from noise at t = T in one shared space.
        weaker: the parameters of a weaker model that guides; None for none.
    """

    def __init__(
        self,
        model: MultiModalModel,
        draw: Draw,
        options: SamplingOptions,
        prior: process.Process | None = None,
        weaker: Any = None,
    ) -> None:
        self._weaker = weaker
        self._model, self._options, self._prior = model, options, prior

        @jax.jit
        def run(
            key: jax.Array,
            params: Any,
            given: Mapping[str, jax.Array],
            numbers: jax.Array,
            parts: Mapping[str, Any],
        ) -> dict[str, jax.Array]:
            return draw(jax.vmap(example_key, (None, 0))(key, numbers), params, given, **parts)

        self._run = run

    def __call__(
        self,
        key: jax.Array,
        params: Any,
        num_samples: int,
        given: Mapping[str, np.ndarray] | None = None,
        first: int = 0,
        fixed: Mapping[str, sampling.Fixed] | None = None,
        begin: Mapping[str, sampling.Noised] | None = None,
    ) -> dict[str, np.ndarray]:
        """Generates what is not given, in batches of one compiled shape.

        Warns where guidance has no effect because the primary is given. `sampling.sample`, when it
        is traced, warns where z_T of the process is not the pure noise that generation starts from.

        Args:
            key: a typed key; example k uses `example_key(key, first + k)`, so that its samples do
                not depend on the batch size or on how a run is split.
            params: the model's parameters.
            num_samples: how many.
            given: {name: x (num_samples, …)} in data units.
            first: the number of the first example.
            fixed: {name: values and booleans (num_samples, …)}, true where samples keep the values.
            begin: {name: values (num_samples, …) and a level of noise} that samples begin from.

        Returns:
            {name: (num_samples, …)} in data units, the given ones as they came unless they were
            generated anew.

        Raises:
            ValueError: `num_samples` below 1; an unknown modality, a given value of the wrong
                shape, kind or range, or nothing left to generate; a part of what is not diffused.
        """
        extras: dict[str, Any] = {"fixed": fixed or {}, "begin": begin or {}}
        extras = {argument: parts for argument, parts in extras.items() if parts}
        given = {name: np.asarray(x) for name, x in (given or {}).items()}
        self.check(num_samples, given, **extras)
        if self._model.primary in given and self._options.guidance and not self._model.diffuses:
            logging.warning(
                "Guidance has no effect: %r is given, so no state is denoised, and the heads "
                "predict the other modalities.",
                self._model.primary,
            )
        # A later part of a run has the shape of its first.
        size = self._options.batch_size if first else min(self._options.batch_size, num_samples)
        parts: list[dict[str, np.ndarray]] = []
        for start in range(0, num_samples, size):
            # The last batch is filled up with repeats, so that one compiled shape serves all.
            rows = np.minimum(np.arange(start, start + size), num_samples - 1)
            batch = {name: jnp.asarray(x[rows]) for name, x in given.items()}
            few = jax.tree.map(lambda x, rows=rows: jnp.asarray(x[rows]), extras)
            few |= {} if self._weaker is None else {"weaker": self._weaker}
            part = self._run(key, params, batch, jnp.asarray(_words(first + rows)), few)
            parts.append(jax.device_get(part))
        joined = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
        return {**given, **{name: x[:num_samples] for name, x in joined.items()}}

    def check(
        self,
        num_samples: int,
        given: Mapping[str, np.ndarray],
        fixed: Mapping[str, sampling.Fixed] | None = None,
        begin: Mapping[str, sampling.Noised] | None = None,
    ) -> None:
        """Raises the ValueError that a call with these arguments would raise; draws nothing."""
        if num_samples < 1:
            raise errors.invalid("num_samples", num_samples, "1 or more", "raise it")
        for name, x in given.items():
            check_values(self._model.modalities, "given", name, x, num_samples)
        diffused = {self._model.primary, *self._model.diffuses} - set(given)
        parts: tuple[tuple[str, Mapping[str, Any]], ...] = (
            ("fixed", fixed or {}),
            ("begin", begin or {}),
        )
        for argument, of_names in parts:
            for name, part in of_names.items():
                if self._prior is None or name not in diffused:
                    raise errors.invalid(
                        argument,
                        repr(name),
                        f"something that this query diffuses, of {sorted(diffused)}",
                        "leave it out",
                    )
                check_values(self._model.modalities, argument, name, part.values, num_samples)
                if argument == "begin":
                    part.rest_of(self._grid(), self._prior)
                mask = getattr(part, "mask", None)
                if mask is not None and mask.shape != part.values.shape:
                    raise errors.invalid(
                        f"{argument} {name}",
                        f"a mask of shape {mask.shape}",
                        f"one of {part.values.shape}, as the values",
                        "give one boolean for each value",
                    )

    def _grid(self) -> sampling.Plan:
        assert self._prior is not None
        return sampling.plan(self._prior, self._options.times(self._prior.schedule))


def check_values(
    modalities: Mapping[str, Modality], argument: str, name: str, x: np.ndarray, num_samples: int
) -> None:
    """Checks values of one modality, one for each of so many samples, in data units.

    Args:
        modalities: by name.
        argument: what errors call the values, together with the name.
        name: of the modality.
        x: (num_samples, …).
        num_samples: how many there have to be.

    Raises:
        ValueError: an unknown modality, or values of another shape, kind or range.

    Example:
        >>> from mmdiffusion_jax.modalities import Label
        >>> modalities = {"label": Label(latent=(8, 8, 1), num_classes=10)}
        >>> check_values(modalities, "given", "label", np.array([3, 12]), 2)
        Traceback (most recent call last):
        ...
        ValueError: `given label`: got label 12, expected labels in 0 … 9; ...
    """
    ranges.check_one_of(argument, name, modalities)
    shape, kind = modalities[name].columns
    if x.shape != (num_samples, *shape) or not np.issubdtype(x.dtype, getattr(np, kind)):
        raise errors.invalid(
            f"{argument} {name}",
            f"shape {x.shape} and dtype {x.dtype}",
            f"shape {(num_samples, *shape)} and {kind} values",
            "give one value in data units for each sample",
        )
    values = distinct(x)
    for start in range(0, len(values), _CHUNK):
        modalities[name].validate(f"{argument} {name}", values[start : start + _CHUNK])


def example_key(key: jax.Array, number: jax.Array) -> jax.Array:
    """The key of example number n < 2⁶⁴.

    Args:
        key: a typed key, that of all examples.
        number: (2,) uint32, the high and the low word of n, as JAX has 32 bits.

    Returns:
        `fold_in(key, n)` for n < 2³², else `fold_in(fold_in(key, high), low)`.

    Example:
        >>> key = jax.random.key(0)
        >>> plain = jax.random.fold_in(key, 7)
        >>> (example_key(key, jnp.array([0, 7], jnp.uint32)) == plain).item()
        True
        >>> (example_key(key, jnp.array([1, 7], jnp.uint32)) == plain).item()
        False
    """
    high, low = number
    return jax.random.fold_in(jnp.where(high > 0, jax.random.fold_in(key, high), key), low)


def distinct(x: np.ndarray) -> np.ndarray:
    """The given values x (num_samples, …), or (1, …) where broadcasting repeats one value.

    Example:
        >>> distinct(np.broadcast_to(3, (10**11,))), distinct(np.array([3, 3]))
        (array([3]), array([3, 3]))
    """
    return x[:1] if x.ndim and x.strides[0] == 0 else x


def _words(numbers: np.ndarray) -> np.ndarray:
    """(n,) whole numbers → (n, 2) uint32, high and low."""
    high, low = np.divmod(numbers, 2**32)
    return np.stack([high, low], axis=-1).astype(np.uint32)
