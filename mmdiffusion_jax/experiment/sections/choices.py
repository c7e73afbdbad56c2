"""A choice by name with fields of its own, such as {"kind": "ddim", "eta": 0.5}."""

import ast
import inspect
from collections.abc import Callable, Mapping
from typing import Any

from mmdiffusion_jax import errors
from mmdiffusion_jax.experiment.sections.reading import check_kinds

# Parameters with a default that a config does not set.
_NOT_CHOSEN = ("parent", "name", "is_primary")

Choice = str | Mapping[str, Any]
"""A name, a name with fields "name(field=value, …)", or {"kind": name, field: value, …}."""

Table = Mapping[str, Callable[..., Any]]
"""{name: class or function}; its parameters that have a default are the fields of the choice.

A field of a dataclass that holds a choice has the table in its metadata, as "table", and is made
complete in `__post_init__`.
"""


def fields_of(built: Callable[..., Any]) -> dict[str, Any]:
    """{name: default} of the parameters of a class or function that a config may set.

    Example:
        >>> from mmdiffusion_jax.sampling import DDIM
        >>> fields_of(DDIM)
        {'eta': 0.0}
    """
    return {
        name: parameter.default
        for name, parameter in inspect.signature(built).parameters.items()
        if parameter.default is not parameter.empty and name not in _NOT_CHOSEN
    }


def complete(argument: str, value: Choice, table: Table, key: str = "kind") -> dict[str, Any]:
    """A choice with all its fields.

    Args:
        argument: the name that errors give the choice.
        value: the choice.
        table: the classes or functions by name.
        key: the key that holds the name, "kind" or "rule".

    Returns:
        {key: name, **fields}, those that are left out with their defaults.

    Raises:
        ValueError: an unknown name or field, or a value of another kind than the field's default.

    Example:
        >>> from mmdiffusion_jax.sampling import SAMPLERS
        >>> complete("sampler", "ddim(eta=0.5)", SAMPLERS)
        {'kind': 'ddim', 'eta': 0.5}
        >>> complete("sampler", {"kind": "ddim"}, SAMPLERS)
        {'kind': 'ddim', 'eta': 0.0}
        >>> complete("sampler", "ddim(etta=1)", SAMPLERS)
        Traceback (most recent call last):
        ...
        ValueError: `sampler`: got 'etta', expected one of 'eta'; did you mean 'eta'?
    """
    given = dict(value) if isinstance(value, Mapping) else _parsed(argument, value, key)
    name = given.pop(key, "")
    if not isinstance(name, str) or name not in table:
        path = f"{argument}.{key}" if isinstance(value, Mapping) else argument
        raise errors.unknown(path, name, table)
    fields = fields_of(table[name])
    for field in given:
        if field in fields:
            continue
        others = [other for other in table if field in fields_of(table[other])]
        if others:
            raise errors.invalid(
                argument,
                f"{field!r}, a field of {' and '.join(map(repr, others))}",
                f"the fields of {name!r}: {', '.join(sorted(fields)) or 'none'}",
                f"choose {others[0]!r}, or write the section anew, as {{{key!r}: {name!r}}}",
            )
        none = f"{name!r} has no fields"
        raise errors.unknown(argument, field, fields, none=none)
    check_kinds(given, fields, argument)
    return {key: name, **fields, **given}


def make(value: Choice, table: Table, *arguments: Any, key: str = "kind", **filled: Any) -> Any:
    """Calls the chosen class or function: table[name](*arguments, **fields, **filled).

    Args:
        value: the choice, which `complete` accepts.
        table: the classes or functions by name.
        *arguments: parameters without a default.
        key: the key that holds the name.
        **filled: parameters that a config does not set.
    """
    fields = complete("", value, table, key)
    return table[fields.pop(key)](*arguments, **fields, **filled)


def _parsed(argument: str, text: Any, key: str) -> dict[str, Any]:
    """Reads "name" or "name(field=value, …)"."""
    if not isinstance(text, str) or "(" not in text:
        return {key: text}
    try:
        call = ast.parse(text.strip(), mode="eval").body
        if isinstance(call, ast.Call) and not call.args:
            fields = {str(x.arg): ast.literal_eval(x.value) for x in call.keywords}
            return {key: ast.unparse(call.func), **fields}
    except (SyntaxError, ValueError):
        pass
    raise errors.invalid(
        argument, repr(text), "a name, or name(field=value, …)", "as in 'ddim(eta=0.5)'"
    )
