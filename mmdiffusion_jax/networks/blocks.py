"""How a backbone runs its blocks: one by one or as a scan, with or without rematerialisation."""

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from mmdiffusion_jax import errors

REMATS = ("none", "nothing_saveable", "dots_saveable", "dots_with_no_batch_dims_saveable")
"""What of a block is saved for the backward pass: all, or what `jax.checkpoint_policies` says.

"nothing_saveable" keeps the tokens or the map between blocks alone; "dots_saveable" also all matrix
products and convolutions, and "dots_with_no_batch_dims_saveable" the products of linear layers
alone. XLA's compiler for CPU merges a recomputation with the first computation, unless it is in a
scan, so on CPU only both together save memory.
"""

_LAYER = re.compile(r"(.*blocks)_(\d+)")
_STACK = re.compile(r".*blocks")


def rematerialised(
    function: Callable[..., Any], remat: str, in_scan: bool = False
) -> Callable[..., Any]:
    """A function of a module and arrays whose backward pass recomputes what is not saved.

    `remat` is one of `REMATS`. `in_scan` says that a scan calls the function: the compiler cannot
    merge the body of a scan with its recomputation, so it needs no barrier.
    """
    if remat == "none":
        return function
    policy = getattr(jax.checkpoint_policies, remat)
    return nn.remat(function, policy=policy, prevent_cse=not in_scan)


def run_blocks(
    make: Callable[[str], nn.Module],
    name: str,
    count: int,
    tokens: jax.Array,
    *shared: jax.Array,
    each: Sequence[jax.Array] | jax.Array | None = None,
    scan: bool = False,
    remat: str = "none",
) -> tuple[jax.Array, Any]:
    """Runs blocks of one kind after another; their layers belong to the module that calls it.

    Args:
        make: name → block, a module of (tokens, *shared) or (tokens, *shared, extra) → tokens.
        name: of the blocks together; one alone is `name_0`, `name_1` and so on.
        count: of blocks.
        tokens: what the first block gets.
        *shared: what every block gets beside its tokens.
        each: the extra input of each block, first axis or sequence of `count`, or None.
        scan: whether one compiled block runs `count` times, its parameters stacked under `name`.
        remat: one of `REMATS`.

    Returns:
        The last block's tokens, and those of all blocks: a list, or an array for a scan.
    """

    def call(
        block: nn.Module, tokens: jax.Array, extra: jax.Array | None, *shared: jax.Array
    ) -> tuple[jax.Array, jax.Array]:
        tokens = block(tokens, *shared) if extra is None else block(tokens, *shared, extra)
        return tokens, tokens

    if scan and count:
        run = nn.scan(
            rematerialised(call, remat, in_scan=True),
            variable_axes={"params": 0},
            split_rngs={"params": True},
            in_axes=(0, *[nn.broadcast] * len(shared)),
            length=count,
        )
        return run(make(name), tokens, each, *shared)
    outputs = []
    for index in range(count):
        extra = None if each is None else each[index]
        tokens, _ = rematerialised(call, remat)(make(f"{name}_{index}"), tokens, extra, *shared)
        outputs.append(tokens)
    return tokens, outputs


def stack_layers(params: Any) -> Any:
    """The parameters of blocks that run one by one, for the same network with `scan_layers`.

    {"blocks_0": …, "blocks_1": …} becomes {"blocks": …}, each leaf with a first axis of blocks, at
    any depth of the tree, of a backbone or of a whole model; other parameters stay as they are.

    Raises:
        ValueError: a block that is missing between others.

    Example:
        >>> tree = {"blocks_0": {"bias": jnp.zeros(2)}, "blocks_1": {"bias": jnp.ones(2)}}
        >>> stack_layers(tree)["blocks"]["bias"].tolist()
        [[0.0, 0.0], [1.0, 1.0]]
    """
    if not isinstance(params, Mapping):
        return params
    layers: dict[str, dict[int, Any]] = {}
    stacked = {}
    for name, value in params.items():
        if match := _LAYER.fullmatch(name):
            layers.setdefault(match[1], {})[int(match[2])] = value
        else:
            stacked[name] = stack_layers(value)
    for name, blocks in layers.items():
        if sorted(blocks) != list(range(len(blocks))):
            raise errors.invalid(
                "params",
                f"{name} {sorted(blocks)}",
                "blocks counted from 0 without a gap",
                "give all parameters of the network",
            )
        ordered = [blocks[index] for index in range(len(blocks))]
        stacked[name] = jax.tree.map(lambda *leaves: jnp.stack(leaves), *ordered)
    return stacked


def unstack_layers(params: Any) -> Any:
    """The inverse of `stack_layers`: from a network with `scan_layers` to one without.

    Example:
        >>> unstack_layers({"blocks": {"bias": jnp.arange(2.0)}})["blocks_1"]["bias"].item()
        1.0
    """
    if not isinstance(params, Mapping):
        return params
    single = {}
    for name, value in params.items():
        if not _STACK.fullmatch(name):
            single[name] = unstack_layers(value)
            continue
        for index in range(len(jax.tree.leaves(value)[0])):
            single[f"{name}_{index}"] = jax.tree.map(lambda leaf, i=index: leaf[i], value)
    return single
