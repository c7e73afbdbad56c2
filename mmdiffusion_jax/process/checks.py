"""What the pure functions take for arrays, keys, names and numbers, and what they say to the rest.

Lists and NumPy arrays are arrays, and keys of the old style are keys. Anything else that cannot be
used ends in one error that names the argument. In every function `argument` is the name by which
the caller knows a `value` that came, `expected` is what would have been right and `mend` how to
correct it, in words for the error.
"""

import math
from collections.abc import Callable, Iterable, Mapping
from types import EllipsisType
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
import numpy as np

from mmdiffusion_jax import errors
from mmdiffusion_jax.ranges import INT32, check_whole, is_whole

Kind = TypeVar("Kind")


def as_array(argument: str, value: Any, expected: str = "an array of numbers") -> jax.Array:
    """The value as a JAX array: a list, a NumPy array or a number is one.

    Raises:
        ValueError: a value that is no array of numbers, such as a ragged list.

    Example:
        >>> as_array("x", [1.0, 2.0]).tolist()
        [1.0, 2.0]
        >>> as_array("x", None)
        Traceback (most recent call last):
        ValueError: `x`: got None, expected an array of numbers; pass an array or a list of numbers.
    """
    if isinstance(value, jax.Array):
        return value
    try:
        if value is None or isinstance(value, str | bytes | Mapping):
            raise TypeError
        return jnp.asarray(value)
    except (TypeError, ValueError, OverflowError) as error:
        raise errors.invalid(
            argument, described(value), expected, "pass an array or a list of numbers"
        ) from error


def as_table(argument: str, value: Any, dtype: Any = np.float64) -> np.ndarray:
    """The value as an array on the host, of this dtype where one is given.

    Raises:
        ValueError: traced values, or no array of numbers.

    Example:
        >>> as_table("betas", [0.1, 0.2]).dtype
        dtype('float64')
    """
    if isinstance(value, jax.core.Tracer):
        raise errors.invalid(
            argument, "traced values", "values known outside jit", "close over them"
        )
    try:
        return np.asarray(value, dtype=dtype)
    except (TypeError, ValueError) as error:
        expected, mend = "numbers", "pass an array or a list of numbers"
        raise errors.invalid(argument, described(value), expected, mend) from error


def widest(*arrays: jax.Array) -> Any:
    """The floating dtype with the most bits among these arrays; where none is, JAX's default.

    Example:
        >>> widest(jnp.zeros(1, jnp.bfloat16), jnp.zeros(1), jnp.zeros(1, int)).name
        'float32'
    """
    floating = [x.dtype for x in arrays if jnp.issubdtype(x.dtype, jnp.floating)]
    return max(floating, key=lambda x: jnp.finfo(x).bits, default=jnp.zeros(()).dtype)


def at_least(x: Any, like: jax.Array) -> Any:
    """A floating array of fewer bits in the dtype of `like`; anything else as it is.

    Example:
        >>> at_least(jnp.zeros(1, jnp.bfloat16), jnp.zeros(1)).dtype.name
        'float32'
    """
    if not isinstance(x, jax.Array | np.ndarray) or not jnp.issubdtype(x.dtype, jnp.floating):
        return x
    array = jnp.asarray(x)
    return array.astype(widest(like, array))


def as_key(argument: str, value: Any, num: int | None = None) -> jax.Array:
    """One typed key, or (num,) of them where `num` is given; those of `PRNGKey` are wrapped.

    Raises:
        ValueError: anything that is no key, such as a seed, or another number of keys.

    Example:
        >>> new, old = jax.random.key(7), as_key("key", jax.random.PRNGKey(7))
        >>> bool(jax.random.bits(new) == jax.random.bits(old))
        True
        >>> as_key("key", 7)
        Traceback (most recent call last):
        ValueError: `key`: got 7, expected a key from jax.random.key; pass jax.random.key(7).
    """
    expected = "a key from jax.random.key"
    if num is not None:
        expected += f", or {num} of them, one an example"
    seed = is_whole(value)
    mend = f"pass jax.random.key({value})" if seed else "make one by jax.random.key(seed)"
    wrong = errors.invalid(argument, described(value), expected, mend)
    if not isinstance(value, jax.Array | np.ndarray):
        raise wrong
    keys = jnp.asarray(value)
    if not jnp.issubdtype(keys.dtype, jax.dtypes.prng_key):
        words = jax.eval_shape(jax.random.key_data, jax.eval_shape(lambda: jax.random.key(0))).shape
        if keys.dtype != jnp.uint32 or keys.shape[-1:] != words or keys.ndim > 2:
            raise wrong
        keys = jax.random.wrap_key_data(keys)
    if keys.shape not in ((), (num,)):
        raise wrong
    return keys


def expect(argument: str, value: Any, kind: type[Kind], mend: str = "") -> Kind:
    """The value, if it is of this type.

    Raises:
        ValueError: another type, the first sign of arguments that were swapped.

    Example:
        >>> expect("x", "3", int)
        Traceback (most recent call last):
        ValueError: `x`: got '3', expected a value of type int; check the order of the arguments.
    """
    if not isinstance(value, kind):
        raise errors.invalid(
            argument,
            described(value),
            f"a value of type {kind.__name__}",
            mend or "check the order of the arguments",
        )
    return value


def expect_callable(argument: str, value: Any, does: str) -> None:
    """Checks that a function was given; `does` says what it does, as (arguments) → result.

    Raises:
        ValueError: a value that cannot be called.
    """
    if not callable(value):
        raise errors.invalid(argument, described(value), f"a function {does}", "pass a function")


def expect_names(argument: str, value: Any, holds: str) -> Mapping[str, Any]:
    """The value, if it is a mapping from names; `holds` says to what.

    Raises:
        ValueError: anything but a mapping whose keys are strings.
    """
    if not isinstance(value, Mapping) or not all(isinstance(name, str) for name in value):
        raise errors.invalid(
            argument,
            described(value),
            f"a dictionary {{name: {holds}}}",
            "name each modality, or check the order of the arguments",
        )
    return value


def expect_name(
    argument: str, value: Any, known: Iterable[str], mend: str = "", none: str = ""
) -> str:
    """The value, if it is one of the known names; arguments as `errors.unknown`.

    Raises:
        ValueError: anything else.

    Example:
        >>> expect_name("target", "nose", ["noise", "v"])
        Traceback (most recent call last):
        ValueError: `target`: got 'nose', expected one of 'noise', 'v'; did you mean 'noise'?
    """
    names = list(known)
    if isinstance(value, str) and value in names:
        return value
    if isinstance(value, str):
        raise errors.unknown(argument, value, names, mend, none)
    expected = "one of " + ", ".join(map(repr, sorted(names))) if names else "a name"
    raise errors.invalid(argument, described(value), expected, "check the order of the arguments")


def expect_whole(argument: str, value: Any, least: int, most: int = INT32) -> int:
    """The value as an int, if it is a whole number in least … most.

    Raises:
        ValueError: anything else, booleans included.

    Example:
        >>> expect_whole("num_steps", 0, 1)
        Traceback (most recent call last):
        ValueError: `num_steps`: got 0, expected 1 or more; change it.
    """
    check_whole(argument, value, least, most)
    return int(value)


def expect_number(
    argument: str,
    value: Any,
    expected: str = "a finite number",
    within: Callable[[Any], bool] = math.isfinite,
    mend: str = "change it",
) -> Any:
    """The value, if it is one real number `within` its range; a traced one is taken as it is.

    Raises:
        ValueError: anything else, booleans included.

    Example:
        >>> expect_number("rho", -1, "a number above 0", lambda rho: rho > 0, "7 is usual")
        Traceback (most recent call last):
        ValueError: `rho`: got -1, expected a number above 0; 7 is usual.
    """
    if isinstance(value, jax.core.Tracer) and value.ndim == 0:
        return value
    number = isinstance(value, int | float | np.number) or (
        isinstance(value, jax.Array | np.ndarray)
        and value.ndim == 0
        and jnp.issubdtype(value.dtype, jnp.number)
    )
    if not number or isinstance(value, bool) or not within(float(value)):
        raise errors.invalid(argument, described(value), expected, mend)
    return value


def checked_result(
    argument: str, value: Any, shape: tuple[int | EllipsisType, ...], dtype: Any, what: str
) -> jax.Array:
    """What a function of the user's returned, once its shape and dtype are checked.

    A `...` at the end of the shape stands for any more axes, `what` says in the error whose shape
    it is, and the result is cast to the floating dtype, if any.

    Raises:
        ValueError: another shape, or no real numbers where a dtype is asked for.

    Example:
        >>> checked_result("log_prob", jnp.ones((8, 1)), (8,), jnp.float32, "one number an example")
        Traceback (most recent call last):
        ValueError: `log_prob`: got a result of shape (8, 1), expected shape (8,), one number an \
example; correct what the function returns.
    """
    mend = "correct what the function returns"
    array = as_array(argument, value, f"an array, {what}")
    whole = shape[:-1] if shape and shape[-1] is ... else shape
    seen = array.shape[: len(whole)] if whole is not shape else array.shape
    if seen != whole:
        shown = str(shape).replace("Ellipsis", "…")
        raise errors.invalid(
            argument, f"a result of shape {array.shape}", f"shape {shown}, {what}", mend
        )
    if dtype is None:
        return array
    if not jnp.issubdtype(array.dtype, jnp.number) or jnp.iscomplexobj(array):
        raise errors.invalid(argument, f"a result of dtype {array.dtype}", "real numbers", mend)
    return array.astype(dtype)


def check_same_shape(argument: str, value: jax.Array, other: str, like: jax.Array) -> None:
    """Checks that two arrays of one call have one shape, so that none is broadcast in silence.

    Raises:
        ValueError: two shapes.
    """
    if value.shape != like.shape:
        raise errors.invalid(
            argument,
            f"shape {value.shape}",
            f"the shape of {other}, {like.shape}",
            "make them agree",
        )


def described(value: Any) -> Any:
    """What came, short enough for one line: arrays by shape and dtype, objects by their type."""
    if isinstance(value, jax.Array | np.ndarray):
        return f"an array of shape {value.shape} and dtype {value.dtype}"
    if value is None or isinstance(value, bool | int | float | np.number):
        return value
    text = repr(value)
    if isinstance(value, str | tuple | list) and len(text) <= 60:
        return text
    return f"a value of type {type(value).__name__}"
