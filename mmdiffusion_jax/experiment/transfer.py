"""Which parameters of one model another takes, and a table that says so."""

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from flax import traverse_util

from mmdiffusion_jax.networks import stack_layers, unstack_layers
from mmdiffusion_jax.training.leaves import describe

Inputs = Mapping[str, Sequence[str]]
"""{layer: names of its inputs}, from `MultiModalModel.input_names`."""


@dataclasses.dataclass(frozen=True)
class Rows:
    """The inputs of a layer that a model takes from a source; its others begin at zero.

    Attributes:
        ours: places of the inputs in the model's kernel, on its axis before the last.
        theirs: their places in the source's kernel, in the same order.
        count: how many inputs the model's kernel has.
        fate: which inputs are taken and which are not, in words.
    """

    ours: Sequence[int]
    theirs: Sequence[int]
    count: int
    fate: str


@dataclasses.dataclass(frozen=True)
class Transfer:
    """Which parameters a model takes from a source.

    Attributes:
        taken: the names, rising, of those whose name, shape and dtype are the same in both.
        in_part: {name: rows} of kernels whose inputs are not the same in both.
        new: {name: dtype and shape in the source, "" where it has none of that name} of the model's
            other parameters.
        unused: the names, rising, of the source's parameters of which nothing is taken.
        sizes: {name: how many numbers} of both, the model's where both have a name.
    """

    taken: tuple[str, ...]
    in_part: Mapping[str, Rows]
    new: Mapping[str, str]
    unused: tuple[str, ...]
    sizes: Mapping[str, int]

    def apply(
        self, model: Mapping[str, Any], source: Mapping[str, np.ndarray]
    ) -> dict[str, np.ndarray]:
        """{name: array} of the model's parameters that are taken, wholly or in part.

        Example:
            >>> model, source = {"shown/kernel": np.ones((2, 1))}, {"shown/kernel": np.ones((1, 1))}
            >>> inputs = {"shown": ("image", "label")}, {"shown": ("label",)}
            >>> match(model, source, *inputs).apply(model, source)["shown/kernel"].tolist()
            [[0.0], [1.0]]
        """
        arrays = {name: source[name] for name in self.taken}
        for name, rows in self.in_part.items():
            arrays[name] = np.zeros(model[name].shape, model[name].dtype)
            if rows.ours:
                arrays[name][..., rows.ours, :] = source[name][..., rows.theirs, :]
        return arrays

    def count(self) -> str:
        """How many of the model's numbers are taken, in words.

        Example:
            >>> match({"a": np.ones((2, 3)), "b": np.ones(4)}, {"a": np.zeros((2, 3))}).count()
            "6 of this model's 10 numbers"
        """
        taken = sum(self.sizes[name] for name in self.taken)
        whole = taken + sum(self.sizes[name] for name in (*self.in_part, *self.new))
        for name, rows in self.in_part.items():
            taken += self.sizes[name] * len(rows.ours) // rows.count
        return f"{taken:,} of this model's {whole:,} numbers"

    def rows(self) -> list[tuple[str, str, str]]:
        """(parameters, how many numbers, what became of them); a module of one fate is one row.

        Example:
            >>> model = {"net/a": np.ones(2), "net/b": np.ones(3), "head": np.ones(2)}
            >>> source = {"net/a": np.ones(2), "net/b": np.ones(3), "head": np.ones(9)}
            >>> for row in match(model, source).rows():
            ...     print(*row, sep=" | ")
            head | 2 | new, as the source has float64[9]
            net/… | 5 | taken
        """
        fates = dict.fromkeys(self.taken, "taken")
        fates |= dict.fromkeys(self.unused, "of the source alone, unused")
        fates |= {name: rows.fate for name, rows in self.in_part.items()}
        for name, other in self.new.items():
            fates[name] = f"new, as the source has {other}" if other else "new"
        return [
            (label, f"{sum(self.sizes[name] for name in names):,}", fates[names[0]])
            for label, names in _grouped("", sorted(fates), fates)
        ]

    def left(self) -> list[str]:
        """The source's parameters of which nothing is taken; a module of them is one name.

        Example:
            >>> source = {"net/a": np.ones(2), "head/a": np.ones(3), "head/b": np.ones(9)}
            >>> match({"net/a": np.ones(2), "head/b": np.ones(2)}, source).left()
            ['head/…']
        """
        unused = set(self.unused)
        fates = {name: "unused" if name in unused else "" for name in self.sizes}
        return [label for label, names in _grouped("", sorted(fates), fates) if names[0] in unused]


def match(
    model: Mapping[str, Any],
    source: Mapping[str, Any],
    inputs: Inputs | None = None,
    source_inputs: Inputs | None = None,
) -> Transfer:
    """Compares the parameters of a model with those of a source.

    A parameter is taken where name, shape and dtype are the same. The kernel of a layer with named
    inputs is taken input by input: what the model reads and the source does not begins at zero, so
    that the model does at first what the source does. So it is with a layer that the source lacks,
    in a module of which other parameters are taken.

    Args:
        model: {name: anything with shape and dtype}; a name is keys joined by "/".
        source: the same of the source.
        inputs: {layer: names of its inputs} of the model.
        source_inputs: the same of the source.

    Example:
        >>> transfer = match({"a": np.ones(2), "b": np.ones(3)}, {"a": np.ones(2), "c": np.ones(4)})
        >>> transfer.taken, transfer.new, transfer.unused
        (('a',), {'b': ''}, ('c',))
    """
    ours, theirs = ({n: describe(x) for n, x in each.items()} for each in (model, source))
    same = {name for name in ours if ours[name] == theirs.get(name)}
    modules = {name.partition("/")[0] for name in same}
    in_part = {}
    for name in sorted(ours):
        layer = name.split("/")[-2:-1]
        if not name.endswith("/kernel") or not layer or layer[0] not in (inputs or {}):
            continue
        one, other = ((each or {}).get(layer[0], ()) for each in (inputs, source_inputs))
        if name in same and tuple(one) == tuple(other):
            continue
        if name not in source and name.partition("/")[0] not in modules:
            continue
        if rows := _shared_rows(model[name], source.get(name), one, other):
            in_part[name] = rows
    taken = tuple(name for name in sorted(same) if name not in in_part)
    some = {*taken, *in_part}
    return Transfer(
        taken,
        in_part,
        {name: theirs.get(name, "") for name in sorted(ours) if name not in some},
        tuple(name for name in sorted(theirs) if name not in some),
        {name: math.prod(x.shape) for name, x in {**source, **model}.items()},
    )


def with_layers(params: Mapping[str, np.ndarray], scan: bool) -> dict[str, np.ndarray]:
    """The parameters of a model, on the host, for its backbone with `scan_layers` or without.

    Args:
        params: {name: array}; a name is keys joined by "/".
        scan: whether the blocks of the backbone are stacked, or each by itself.

    Example:
        >>> single = {"backbone/blocks_0/bias": np.zeros(2), "backbone/blocks_1/bias": np.ones(2)}
        >>> stacked = with_layers(single, scan=True)
        >>> {name: x.tolist() for name, x in stacked.items()}
        {'backbone/blocks/bias': [[0.0, 0.0], [1.0, 1.0]]}
        >>> sorted(with_layers(stacked, scan=False)) == sorted(single)
        True
    """
    inside = {name: x for name, x in params.items() if name.startswith("backbone/")}
    others = {name: x for name, x in params.items() if name not in inside}
    if not scan:
        tree = unstack_layers(traverse_util.unflatten_dict(inside, sep="/"))
        return others | traverse_util.flatten_dict(tree, sep="/")
    # `stack_layers` fills the memory of a device, so it stacks the places of arrays in a list.
    arrays = list(inside.values())
    places = {name: np.int32(place) for place, name in enumerate(inside)}
    tree = stack_layers(traverse_util.unflatten_dict(places, sep="/"))
    for name, rows in traverse_util.flatten_dict(tree, sep="/").items():
        blocks = [arrays[row] for row in np.ravel(rows)]
        others[name] = np.stack(blocks) if np.ndim(rows) else blocks[0]
    return others


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table; nothing where there are no rows.

    Example:
        >>> print(table(("modality", "encodings"), [("image", "new")]))
        | modality | encodings |
        | --- | --- |
        | image | new |
    """
    lines = [head, ["---"] * len(head), *rows] if rows else []
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _shared_rows(
    kernel: Any, source: Any, inputs: Sequence[str], source_inputs: Sequence[str]
) -> Rows | None:
    """The rows of a kernel that the source has, or None where both differ in more than inputs."""
    count = kernel.shape[-2]
    pixels, rest = divmod(count, max(len(inputs), 1))
    if rest or not inputs:
        return None
    places: dict[str, int] = {}
    if source is not None:
        others = (*source.shape[:-2], *source.shape[-1:])
        as_many = source.shape[-2] == pixels * len(source_inputs)
        if others != (*kernel.shape[:-2], *kernel.shape[-1:]) or not as_many:
            return None
        if source.dtype != kernel.dtype:
            return None
        places = {name: place for place, name in enumerate(source_inputs)}
    pairs = [
        (pixel * len(inputs) + place, pixel * len(source_inputs) + places[name])
        for pixel in range(pixels)
        for place, name in enumerate(inputs)
        if name in places
    ]
    kept, fresh = (
        sorted({name.partition("/")[0] for name in inputs if (name in places) == known})
        for known in (True, False)
    )
    words = [f"taken for {', '.join(kept)}"] if kept else []
    words += [f"zero for {', '.join(fresh)}"] if fresh else []
    ours, theirs = ([pair[side] for pair in pairs] for side in (0, 1))
    return Rows(ours, theirs, count, "; ".join(words))


def _grouped(
    module: str, names: Sequence[str], fates: Mapping[str, str]
) -> list[tuple[str, list[str]]]:
    """[(label, names)] in which the names of a label have one fate, as few as modules allow."""
    if len(names) == 1:
        return [(names[0], list(names))]
    if module and len({fates[name] for name in names}) == 1:
        return [(f"{module}…", list(names))]
    parts: dict[str, list[str]] = {}
    for name in names:
        first, slash, _ = name.removeprefix(module).partition("/")
        parts.setdefault(f"{module}{first}{slash}", []).append(name)
    return [row for part, inside in parts.items() for row in _grouped(part, inside, fates)]
