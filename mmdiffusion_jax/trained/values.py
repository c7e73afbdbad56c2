"""Values that users bring, as arrays with one value a sample."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from mmdiffusion_jax import errors, ranges
from mmdiffusion_jax.modalities import Modality

_DEFAULT_COUNT = 100


def given_arrays(
    modalities: Mapping[str, Modality],
    given: Mapping[str, Any],
    num_samples: int | None,
    lengths: tuple[int, ...] = (),
) -> tuple[dict[str, np.ndarray], int]:
    """Given values as arrays with one value a sample; one value alone is repeated by broadcasting.

    Args:
        modalities: by name.
        given: {name: one value, or an array (num_samples, …)}.
        num_samples: how many; None for as many as an array has, else the first of `lengths`, else
            100.
        lengths: of other arrays of the same request.

    Returns:
        {name: (num_samples, …)} and the number of samples.

    Raises:
        ValueError: an unknown modality, or what is no array of numbers.

    Example:
        >>> from mmdiffusion_jax.modalities import Label
        >>> label = {"label": Label(latent=(8, 8, 1), num_classes=10)}
        >>> given_arrays(label, {"label": 3}, 2)
        ({'label': array([3, 3], dtype=int32)}, 2)
        >>> given_arrays(label, {"label": [3, 5, 7]}, None)[1]
        3
    """
    if not isinstance(given, Mapping):
        raise errors.invalid(
            "given", type(given).__name__, "a dictionary {name: values}", "as in {'label': 3}"
        )
    arrays: dict[str, np.ndarray] = {}
    single: dict[str, np.ndarray] = {}
    for name, values in given.items():
        ranges.check_one_of("given", name, modalities)
        shape, _ = modalities[name].columns
        array = numbers(f"given {name}", values)
        (single if array.shape == shape else arrays)[name] = array
    counts = [len(x) for x in arrays.values() if x.ndim]
    if num_samples is None:
        num_samples = [*counts, *lengths, _DEFAULT_COUNT][0]
    ranges.check_whole("num_samples", num_samples, 1)
    repeated = {name: np.broadcast_to(x, (num_samples, *x.shape)) for name, x in single.items()}
    return {name: {**arrays, **repeated}[name] for name in given}, num_samples


def numbers(argument: str, values: Any) -> np.ndarray:
    """Values as an array of numbers; whole numbers of Python are int32, as a command line's are.

    Raises:
        ValueError: what is no array of numbers.

    Example:
        >>> numbers("given label", [3, 5])
        array([3, 5], dtype=int32)
        >>> numbers("given label", "three")
        Traceback (most recent call last):
        ...
        ValueError: `given label`: got 'three', expected an array of numbers; ...
    """
    try:
        array = np.asarray(values)
    except ValueError:  # lists of different lengths
        array = np.array(None)
    if array.dtype.kind not in "biuf":
        raise errors.invalid(
            argument, repr(values), "an array of numbers", "give values in data units"
        )
    plain = not hasattr(values, "dtype")
    whole = plain and array.dtype == np.int64 and np.array_equal(array, array.astype(np.int32))
    return array.astype(np.int32) if whole else array
