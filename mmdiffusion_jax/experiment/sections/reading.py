"""From the values of a config to sections that check themselves; errors name paths of keys."""

import contextlib
import dataclasses
from collections.abc import Callable, Iterator, Mapping
from typing import Any, TypeVar

from mmdiffusion_jax import errors, ranges

Section = TypeVar("Section")

_KINDS: tuple[tuple[type, str, Callable[[Any], bool]], ...] = (
    (bool, "True or False", lambda value: isinstance(value, bool)),
    (int, "a whole number", ranges.is_whole),
    (float, "a number", ranges.is_real),
    (str, "a text", lambda value: isinstance(value, str)),
    (tuple, "a tuple", lambda value: isinstance(value, tuple | list)),
)


def read(section: type[Section], values: Mapping[str, Any], path: str) -> Section:
    """Builds a section; what is left out has its default.

    Args:
        section: a frozen dataclass with a default for each field, which checks itself.
        values: {field: value}; those of a section in it are a mapping too.
        path: of the section in the config.

    Raises:
        ValueError: an unknown key, a value of another kind than the default, or what the section
            says of its values.

    Example:
        >>> from mmdiffusion_jax.training import TrainingOptions
        >>> read(TrainingOptions, {"num_steps": 5}, "config.training").batch_size
        64
        >>> read(TrainingOptions, {"num_step": 5}, "config.training")
        Traceback (most recent call last):
        ...
        ValueError: `config.training`: got 'num_step', expected one of ...
    """
    # The fields of any dataclass; `section` is one, which its type does not say.
    fields = {field.name: field for field in dataclasses.fields(section)}  # type: ignore[arg-type]
    for key in values:
        ranges.check_one_of(path, key, fields)
    inner: dict[str, Any] = {
        n: f.type for n, f in fields.items() if dataclasses.is_dataclass(f.type)
    }
    plain = {
        name: default_of(field)
        for name, field in fields.items()
        if name not in inner and "table" not in field.metadata
    }
    for name in (*inner, *(name for name, default in plain.items() if default == {})):
        if not isinstance(values.get(name, {}), Mapping):
            raise errors.invalid(f"{path}.{name}", values[name], "a section", "set the keys in it")
    check_kinds(values, plain, path)
    built = {
        name: read(inner[name], value, f"{path}.{name}") if name in inner else value
        for name, value in values.items()
    }
    outer = path.rpartition(".")[0] or path
    with under(outer):
        return section(**built)


def default_of(field: dataclasses.Field) -> Any:
    """The default of a field of a dataclass."""
    if field.default_factory is not dataclasses.MISSING:
        return field.default_factory()
    return field.default


def check_kinds(values: Mapping[str, Any], known: Mapping[str, Any], path: str) -> None:
    """Checks that values are of the kinds of the defaults.

    Args:
        values: a section, with keys of `known`.
        known: {key: default}; where it is None or a mapping, the value may be anything.
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
        for kind, words, is_kind in _KINDS:
            if isinstance(known.get(key), kind):
                if not is_kind(value):
                    raise errors.invalid(f"{path}.{key}", repr(value), words, "change it")
                break


@contextlib.contextmanager
def under(path: str) -> Iterator[None]:
    """Puts the path of a section before the argument that errors of a block name.

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


def check_whole_numbers(path: str, values: Any, count: int, least: int) -> None:
    """Checks a tuple of two or three sizes, at least `least`.

    Raises:
        ValueError: another count, or anything but whole numbers of at least `least`.
    """
    values = tuple(values)
    if len(values) == count and all(ranges.is_whole(x) and x >= least for x in values):
        return
    expected = f"(height, width), whole numbers of {least} or more"
    mend = "change it"
    if count == 3:
        expected = f"(height, width, channels), three whole numbers of {least} or more"
        mend = "a table of n × m numbers is (n, m, 1), and a vector of n is (1, n, 1)"
    raise errors.invalid(path, values, expected, mend)
