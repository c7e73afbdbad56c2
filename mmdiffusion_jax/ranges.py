"""Checks of the numbers and names that users set."""

import math
import numbers
from collections.abc import Collection

import numpy as np

from mmdiffusion_jax import errors

INT32 = 2**31 - 1
"""The greatest whole number that devices count to."""

MAX_SEED = 2**32 - 1
"""The greatest seed of a key, without 64-bit integers."""


def is_whole(value: object) -> bool:
    """Whether a value is a whole number; booleans, texts and floats are none, not even 4.0.

    Example:
        >>> is_whole(np.int64(4)), is_whole(True), is_whole(4.0)
        (True, False, False)
    """
    return isinstance(value, numbers.Integral) and not isinstance(value, bool | np.bool_)


def is_real(value: object) -> bool:
    """Whether a value is a number, whole or not; infinity is one, booleans and texts are none.

    Example:
        >>> is_real(0.5), is_real(np.float32(1)), is_real("0.5"), is_real(float("nan"))
        (True, True, False, False)
    """
    if not isinstance(value, numbers.Real) or isinstance(value, bool | np.bool_):
        return False
    return not math.isnan(float(value))


def check_whole(argument: str, value: object, least: int = 0, most: int = INT32) -> None:
    """Checks that a value is a whole number in `least` … `most`; the error names the argument.

    Raises:
        ValueError: anything but a whole number in that range.

    Example:
        >>> check_whole("depth", 4, least=1)
        >>> check_whole("depth", 4.0, least=1)
        Traceback (most recent call last):
        ...
        ValueError: `depth`: got 4.0, expected a whole number, 1 or more; change it.
    """
    whole = is_whole(value)
    number = int(value) if whole else least  # type: ignore[call-overload]
    if whole and least <= number <= most:
        return
    expected = f"{least} or more" if most == INT32 and number <= most else f"{least} … {most}"
    expected = expected if whole else f"a whole number, {expected}"
    raise errors.invalid(argument, _shown(value), expected, "change it")


def check_real(
    argument: str, value: object, least: float = -math.inf, most: float = math.inf, ends: str = "[]"
) -> None:
    """Checks that a value is a finite number in an interval; the error names the argument.

    `ends` says which of `least` and `most` are in it, as it is written: "[]", "(]", "[)" or "()".

    Raises:
        ValueError: anything but a finite number in that interval.

    Example:
        >>> check_real("rate", 0.5, 0, 1)
        >>> check_real("scale", 0.0, 0, ends="()")
        Traceback (most recent call last):
        ...
        ValueError: `scale`: got 0.0, expected a number above 0; change it.
    """
    if is_real(value):
        number = float(value)  # type: ignore[arg-type]
        above = number > least if ends[0] == "(" else number >= least
        below = number < most if ends[1] == ")" else number <= most
        if math.isfinite(number) and above and below:
            return
    raise errors.invalid(argument, _shown(value), _interval(least, most, ends), "change it")


def check_each_once(argument: str, values: Collection[object]) -> None:
    """Checks that there is at least one value, and none twice.

    Raises:
        ValueError: no value, or one twice.

    Example:
        >>> check_each_once("steps", [5, 10, 5])
        Traceback (most recent call last):
        ...
        ValueError: `steps`: got 5 twice, expected each once; leave one out.
    """
    if not values:
        raise errors.invalid(argument, "none", "one or more", "name some")
    for value in values:
        if list(values).count(value) > 1:
            raise errors.invalid(argument, f"{value!r} twice", "each once", "leave one out")


def check_one_of(argument: str, value: object, known: Collection[str]) -> None:
    """Checks that a value is one of the known names.

    Raises:
        ValueError: any other; the error suggests the nearest name.

    Example:
        >>> check_one_of("target", "noise", ("noise", "z_0", "v"))
    """
    if value not in known:
        raise errors.unknown(argument, value, known)


def _interval(least: float, most: float, ends: str) -> str:
    if math.isfinite(most):
        return f"a number in {ends[0]}{least:g}, {most:g}{ends[1]}"
    if math.isfinite(least):
        return f"a number above {least:g}" if ends[0] == "(" else f"a number, {least:g} or more"
    return "a finite number"


def _shown(value: object) -> str:
    if hasattr(value, "shape") and not isinstance(value, np.generic):
        return f"an array of shape {value.shape}"
    # A NumPy scalar's own representation names its type.
    text = repr(value.item() if isinstance(value, np.generic) else value)
    return text if len(text) <= 60 else f"a value of type {type(value).__name__}"
