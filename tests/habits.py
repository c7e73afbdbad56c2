"""Habits of outsiders, tried on public functions: they work, or one line says what is wrong."""

import itertools
import re
import types

import jax
import numpy as np

from mmdiffusion_jax import model, process

SCHEDULE = process.cosine_schedule(6)
WRONG = {
    "nothing": None,
    "text": "sometext",
    "a number": 0.5,
    "a seed": 7,
    "an object": types.SimpleNamespace(),
    "a schedule": SCHEDULE,
    "a dictionary": {"other": np.ones((3, 2))},
    "a ragged list": [[1.0], [1.0, 2.0]],
    "an empty list": [],
    "an empty array": np.zeros((0, 2), np.float32),
    "an array": np.ones((5, 7, 2), np.float32),
    "a function": lambda *arguments: None,
}
ONE_LINE = re.compile(r"^`[^`]+`: got .+, expected .+; .+[.?]$")


def outcome(function, arguments):
    """Traces a call: None where it works, else what is wrong with the way in which it fails."""

    def call():
        function(**arguments)

    try:
        jax.eval_shape(call)
    except ValueError as error:
        return None if ONE_LINE.match(str(error)) else f"ValueError: {error}"
    except Exception as error:
        return f"{type(error).__name__}: {str(error).splitlines()[0]}"
    return None


def complaints(function, arguments):
    """What each argument of a wrong kind, and each swap of neighbours, ends in unclearly."""
    unclear = []
    names = list(arguments)
    for name in names:
        for kind, value in WRONG.items():
            said = outcome(function, {**arguments, name: value})
            if said:
                unclear.append(f"{name} = {kind}: {said}")
    for one, two in itertools.pairwise(names):
        swapped = {**arguments, one: arguments[two], two: arguments[one]}
        said = outcome(function, swapped)
        if said:
            unclear.append(f"{one} and {two} swapped: {said}")
    return unclear


def with_leaves(arguments, change):
    """The arguments with every array that is no key changed."""

    def leaf(x):
        plain = isinstance(x, jax.Array) and not jax.dtypes.issubdtype(x.dtype, jax.dtypes.prng_key)
        return change(x) if plain else x

    kept = (process.Schedule, process.ModalityWeights, process.Process, model.Roles)
    return {
        name: value if isinstance(value, kept) else jax.tree.map(leaf, value)
        for name, value in arguments.items()
    }
