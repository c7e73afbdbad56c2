"""What a compiled step sends between devices, read from its program."""

import dataclasses
import math
import re
from collections.abc import Iterator

from mmdiffusion_jax import errors

_BYTES = {
    "pred": 1, "s8": 1, "u8": 1, "s16": 2, "u16": 2, "f16": 2, "bf16": 2,
    "s32": 4, "u32": 4, "f32": 4, "s64": 8, "u64": 8, "f64": 8,
}  # fmt: skip
_KINDS = ("all-reduce", "all-gather", "reduce-scatter", "all-to-all", "collective-permute")
_HEAD = re.compile(r"^(ENTRY )?%?([\w.\-]+) (?:\(.*\) -> .* )?\{")
_OPERATION = re.compile(rf"= (.*?) ({'|'.join(_KINDS)})(?:-start)?\(")
_CALLS = re.compile(r"(?:body|calls|to_apply|branch_computations)=\{?%?([\w.\-]+)")
_TRIPS = re.compile(r'known_trip_count\\?":\{\\?"n\\?":\\?"(\d+)')
_ARRAY = re.compile(r"(\w+)\[([\d,]*)\]")


@dataclasses.dataclass(frozen=True)
class Collective:
    """One operation in which devices exchange arrays.

    Attributes:
        kind: "all-reduce", "all-gather", "reduce-scatter", "all-to-all" or "collective-permute".
        result_bytes: what each device has after it.
        devices: that take part together.
        times: how often a step runs it; more than once in a loop.
    """

    kind: str
    result_bytes: int
    devices: int
    times: int

    @property
    def sent_bytes(self) -> float:
        """What one device sends in a step if the devices form a ring.

        With n devices and a result of b bytes: 2 b (n − 1)/n for an all-reduce, b (n − 1)/n for an
        all-gather and an all-to-all, b (n − 1) for a reduce-scatter, b for a permutation.
        """
        n, b = self.devices, self.result_bytes
        ring = {
            "all-reduce": 2 * b * (n - 1) / n,
            "reduce-scatter": b * (n - 1),
            "collective-permute": b,
        }
        return self.times * ring.get(self.kind, b * (n - 1) / n)


def collectives(program: str) -> list[Collective]:
    """The operations between devices in a compiled program, those of one device alone left out.

    Args:
        program: the text of `jax.jit(f).lower(…).compile().as_text()`.

    Raises:
        ValueError: an operation that names its devices in an unknown way.

    Example:
        >>> text = '''
        ... ENTRY %main (x: f32[4]) -> f32[4] {
        ...   %y = f32[4]{0} all-reduce(%x), replica_groups=[1,2]<=[2], to_apply=%add
        ... }'''
        >>> collectives(text)
        [Collective(kind='all-reduce', result_bytes=16, devices=2, times=1)]
    """
    bodies: dict[str, list[str]] = {}
    entry = name = ""
    for line in program.splitlines():
        head = _HEAD.match(line)
        if head:
            name = head[2]
            bodies[name] = []
            entry = name if head[1] else entry
        elif name:
            bodies[name].append(line)
    return list(_walk(bodies, entry, 1))


def _walk(bodies: dict[str, list[str]], name: str, times: int) -> Iterator[Collective]:
    for line in bodies.get(name, []):
        match = _OPERATION.search(line)
        if match:
            devices = _group_size(line)
            if devices > 1:
                yield Collective(match[2], _size(match[1], match[2]), devices, times)
            continue
        trips = _TRIPS.search(line)
        for callee in _CALLS.findall(line):
            yield from _walk(bodies, callee, times * (int(trips[1]) if trips else 1))


def _size(shapes: str, kind: str) -> int:
    """The bytes of an array or of a tuple of arrays, as a program writes their shapes."""
    sizes = [
        _BYTES[kind] * math.prod(int(side) for side in sides.split(",") if side)
        for kind, sides in _ARRAY.findall(shapes)
        if kind in _BYTES
    ]
    return sum(sizes)


def _group_size(line: str) -> int:
    """How many devices take part, in each of the ways in which programs write it."""
    if named := re.search(r"replica_groups=mesh\[(.*?)\].*? \{(.*?)\}", line):
        sides = dict(re.findall(r"'(\w+)'=(\d+)", named[1]))
        # A part of an axis is written with its own size: 'axis':(before)size.
        used = re.findall(r"'(\w+)'(?::\(\d+\)(\d+))?", named[2])
        return math.prod(int(part or sides[axis]) for axis, part in used)
    if iota := re.search(r"replica_groups=\[\d+,(\d+)\]", line):
        return int(iota[1])
    if listed := re.search(r"replica_groups=\{\{([\d,]+)\}", line):
        return len(listed[1].split(","))
    if "source_target_pairs" in line:
        return 2
    raise errors.invalid(
        "program",
        f"{line.strip()[:200]!r}",
        "devices in one of the known ways of writing them",
        "use the jax version of constraints.txt",
    )
