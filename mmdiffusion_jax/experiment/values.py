"""The kinds and ranges of a config's values, each error under the value's path in the config."""

import contextlib
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from ml_collections import ConfigDict

from mmdiffusion_jax import errors, ranges

# More steps than any published schedule has, and few enough for a table of each.
_MOST_STEPS = 10**6

_KINDS: tuple[tuple[type, str, Callable[[Any], bool]], ...] = (
    (bool, "True or False", lambda value: isinstance(value, bool)),
    (int, "a whole number", ranges.is_whole),
    (float, "a number", ranges.is_real),
    (str, "a text", lambda value: isinstance(value, str)),
    (tuple, "a tuple", lambda value: isinstance(value, tuple | list)),
)


def check_kinds(values: Mapping[str, Any], known: Mapping[str, Any], path: str) -> None:
    """Checks that values are of the kinds of the defaults; sections are gone through.

    Args:
        values: a section, with keys of `known`.
        known: {key: default}; where it is None, the value may be anything.
        path: of the section.

    Raises:
        ValueError: naming the path of the first value of another kind.

    Example:
        >>> check_kinds({"depth": "3"}, {"depth": 3}, "config.backbone")
        Traceback (most recent call last):
        ...
        ValueError: `config.backbone.depth`: got '3', expected a whole number; change it.
    """
    for key, value in values.items():
        default = known.get(key)
        if isinstance(default, Mapping) and isinstance(value, Mapping):
            check_kinds(value, default, f"{path}.{key}")
            continue
        for kind, words, is_kind in _KINDS:
            if isinstance(default, kind):
                if not is_kind(value):
                    raise ValueError(
                        errors.message(f"{path}.{key}", repr(value), words, "change it")
                    )
                break


def check_numbers(config: ConfigDict) -> None:
    """Checks the numbers that no options and no module check themselves.

    Args:
        config: with every key, each of its kind.

    Raises:
        ValueError: naming the path of the first number out of its range.
    """
    ranges.check_whole("config.seed", config.seed, 0, ranges.MAX_SEED)
    _check_latent(config.latent)
    for key, count, least in (("size", 2, 0), ("spectrogram", 2, 1)):
        _check_whole_numbers(f"config.data.{key}", config.data[key], count, least)
    section, path = config.augmentation, "config.augmentation"
    ranges.check_real(f"{path}.rate", section.rate, 0, 1)
    ranges.check_whole(f"{path}.num_squares", section.num_squares, 1)
    ranges.check_whole(f"{path}.square_size", section.square_size, 1, min(config.latent[:2]))
    ranges.check_whole("config.process.num_steps", config.process.num_steps, 1, _MOST_STEPS)
    for name, spec in config.process.weights.items():
        ranges.check_real(f"config.process.weights.{name}.scale", spec.scale, 0)
    for path, numbers, most in (
        ("config.process.shares", config.process.shares, float("inf")),
        ("config.loss.scales", config.loss.scales, float("inf")),
        ("config.loss.dropout", config.loss.dropout, 1),
    ):
        for name, value in numbers.items():
            ranges.check_real(f"{path}.{name}", value, 0, most)


@contextlib.contextmanager
def under(path: str) -> Iterator[None]:
    """Gives the errors of a block their place in the config.

    Args:
        path: of the section that the block builds.

    Example:
        >>> with under("config.backbone"):
        ...     ranges.check_whole("depth", 0, 1)
        Traceback (most recent call last):
        ...
        ValueError: `config.backbone.depth`: got 0, expected 1 or more; change it.
    """
    try:
        yield
    except ValueError as error:
        words = str(error).replace("`latent`", "config.latent")
        if words.startswith("`") and not words.startswith("`config."):
            words = f"`{path}.{words[1:]}"
        raise ValueError(words) from error.__cause__


def _check_latent(latent: Any) -> None:
    _check_whole_numbers("config.latent", latent, 3, 1)
    size = latent[0] * latent[1] * latent[2]
    if size > ranges.INT32:
        raise ValueError(
            errors.message(
                "config.latent", tuple(latent), f"at most {ranges.INT32} entries", "make it smaller"
            )
        )


def _check_whole_numbers(path: str, values: Any, count: int, least: int) -> None:
    values = tuple(values)
    if len(values) == count and all(ranges.is_whole(x) and x >= least for x in values):
        return
    expected = f"(height, width), whole numbers of {least} or more"
    mend = "change it"
    if count == 3:
        expected = f"(height, width, channels), three whole numbers of {least} or more"
        mend = "a table of n × m numbers is (n, m, 1), and a vector of n is (1, n, 1)"
    raise ValueError(errors.message(path, values, expected, mend))
