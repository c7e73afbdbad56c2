"""Generating in batches with a trained model."""

from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from absl import logging

from mmdiffusion_jax import errors, process
from mmdiffusion_jax.experiment.sections import SamplingOptions
from mmdiffusion_jax.networks import MultiModalModel

# Given values that are checked at once.
_CHUNK = 100_000

Draw = Callable[[jax.Array, Any, Mapping[str, jax.Array]], dict[str, jax.Array]]
"""(keys (batch,), parameters, {name: known x (batch, …)}) → {name: what is generated}; pure."""


class Generator:
    """Generates with one model; compiled once for each set of known modalities and batch size.

    Args:
        model: the Flax model, which knows its modalities.
        draw: one batch, from a key for each example.
        options: how samples are drawn.
        prior: the process, where generation starts from the noise at t = T of one shared
            space; then a start that is not pure noise in the process is warned of.
    """

    def __init__(
        self,
        model: MultiModalModel,
        draw: Draw,
        options: SamplingOptions,
        prior: process.Process | None = None,
    ) -> None:
        self._model, self._options, self._prior = model, options, prior

        @jax.jit
        def run(
            key: jax.Array, params: Any, known: Mapping[str, jax.Array], rows: jax.Array
        ) -> dict[str, jax.Array]:
            return draw(jax.vmap(example_key, (None, 0))(key, rows), params, known)

        self._run = run

    def __call__(
        self,
        key: jax.Array,
        params: Any,
        num_samples: int,
        given: Mapping[str, np.ndarray] | None = None,
        first: int = 0,
    ) -> dict[str, np.ndarray]:
        """Generates every modality that is not given, in batches of one compiled shape.

        Warns when all is to be generated from pure noise although the process does not end there,
        and when guidance has nothing to guide because the primary is given.

        Args:
            key: a typed key; example k uses `example_key` of it and first + k, so that it is the
                same whatever the batch size and however a run is split.
            params: the model's parameters.
            num_samples: how many.
            given: {name: x (num_samples, …)} in data units.
            first: the number of the first example.

        Returns:
            {name: (num_samples, …)} in data units, the given ones as they came unless they were
            generated anew.

        Raises:
            ValueError: `num_samples` below 1; an unknown modality, a given value of the wrong
                shape, kind or range, or nothing left to generate.
        """
        given = {name: np.asarray(x) for name, x in (given or {}).items()}
        self.check(num_samples, given)
        if self._prior is not None and self._model.primary not in given:
            _warn_of_the_prior(self._model, self._prior, given)
        elif self._model.primary in given and self._options.guidance:
            logging.warning(
                "Guidance has nothing to do: %r is given, so no state is denoised and the other "
                "modalities are read by their heads.",
                self._model.primary,
            )
        # A later part of a run has the shape of its first.
        size = self._options.batch_size if first else min(self._options.batch_size, num_samples)
        parts: list[dict[str, np.ndarray]] = []
        for start in range(0, num_samples, size):
            # The last batch is filled up with repeats, so that one compiled shape serves all.
            rows = np.minimum(np.arange(start, start + size), num_samples - 1)
            known = {name: jnp.asarray(x[rows]) for name, x in given.items()}
            part = self._run(key, params, known, jnp.asarray(_words(first + rows)))
            parts.append(jax.device_get(part))
        joined = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
        return {**given, **{name: x[:num_samples] for name, x in joined.items()}}

    def check(self, num_samples: int, given: Mapping[str, np.ndarray]) -> None:
        """Checks a request without drawing.

        Args:
            num_samples: how many.
            given: {name: x (num_samples, …)} in data units.

        Raises:
            ValueError: as drawing would.
        """
        if num_samples < 1:
            raise errors.invalid("num_samples", num_samples, "1 or more", "raise it")
        for name, x in given.items():
            _check_given(self._model, name, x, num_samples)


def example_key(key: jax.Array, number: jax.Array) -> jax.Array:
    """The key of an example, of any number below 2⁶⁴: that of its low word, folded in last.

    Args:
        key: of all examples, typed.
        number: (2,) uint32, the high word and the low one, as JAX has 32 bits.

    Returns:
        `fold_in(key, number)` below 2³², else `fold_in(fold_in(key, high), low)`.

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
    """The given values that may differ: one, where one is repeated by broadcasting.

    Args:
        x: (num_samples, …).

    Returns:
        (1, …) or x.

    Example:
        >>> distinct(np.broadcast_to(3, (10**11,))), distinct(np.array([3, 3]))
        (array([3]), array([3, 3]))
    """
    return x[:1] if x.ndim and x.strides[0] == 0 else x


def _words(numbers: np.ndarray) -> np.ndarray:
    """(n,) whole numbers → (n, 2) uint32, high and low."""
    high, low = np.divmod(numbers, 2**32)
    return np.stack([high, low], axis=-1).astype(np.uint32)


def _check_given(model: MultiModalModel, name: str, x: np.ndarray, num_samples: int) -> None:
    if name not in model.modalities:
        raise errors.unknown("given", name, model.modalities)
    shape, kind = model.modalities[name].columns
    if x.shape != (num_samples, *shape) or not np.issubdtype(x.dtype, getattr(np, kind)):
        raise errors.invalid(
            f"given {name}",
            f"shape {x.shape} and dtype {x.dtype}",
            f"shape {(num_samples, *shape)} and {kind} values",
            "give one value in data units for each sample",
        )
    values = distinct(x)
    for start in range(0, len(values), _CHUNK):
        model.modalities[name].validate(f"given {name}", values[start : start + _CHUNK])


def _warn_of_the_prior(
    model: MultiModalModel, forward: process.Process, given: Mapping[str, np.ndarray]
) -> None:
    """L0's drift part, ½ w̄_T² ‖E‖² with ‖E‖² = dims, for the modalities that are generated too."""
    dims = int(np.prod(model.modalities[model.primary].latent))
    for name, table in forward.weights.marginal.items():
        nats = 0.5 * dims * float(table[-1]) ** 2
        if name not in given and nats > 1:
            logging.warning(
                "The weights of %r leave about %.1f nats in the last state (L0): generating it "
                "from pure noise will be poor. Let its marginal weight fall to 0 at t = T "
                "(rule 'bump' or 'decay').",
                name,
                nats,
            )
