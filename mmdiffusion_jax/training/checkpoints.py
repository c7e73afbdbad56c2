"""Checkpoints that notice their own damage: Orbax saves, with a digest file beside every step.

A folder of checkpoints looks like this::

    <folder>/1000/               one committed step, written by Orbax
    <folder>/digests/1000.json   size and SHA-256 of each of its files, written after the commit
    <folder>/damaged/2000/       a step that did not verify, moved out of the way, never deleted
"""

import concurrent.futures
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import jax
import numpy as np
import orbax.checkpoint as ocp
from absl import logging
from jax.experimental import multihost_utils

from mmdiffusion_jax import errors
from mmdiffusion_jax.training.digests import Verdict, seal, verify

# What Orbax and TensorStore raise on missing, cut or garbled files.
_UNREADABLE = (OSError, ValueError, KeyError)


@dataclass(frozen=True)
class Restored:
    """What `Checkpoints.restore` found.

    Attributes:
        step: the step the checkpoint was saved at.
        state: the saved pytree, in the structure and with the shardings of the template.
        position: the saved position in the data.

    Example:
        >>> Restored(step=3, state={}, position={"examples": 96}).position
        {'examples': 96}
    """

    step: int
    state: Any
    position: dict[str, Any]


class CheckpointError(RuntimeError):
    """A checkpoint was not written, for want of room or of the disk itself."""


class _OtherTemplate(ValueError):
    """The checkpoint is whole, and holds something else than the template asks for."""


class Checkpoints:
    """Saves and restores the training state; use it as a context manager.

    Saves run in the background. Orbax neither keeps a checksum nor reports a failed background
    write until it is asked, so every finished save is sealed with a digest file and its failure
    raised: in `poll`, at the next `save`, and on leaving the `with` block. In a run of several
    processes all of them make the same calls on one shared folder, and process 0 alone writes,
    checks and moves what is not Orbax's.

    Args:
        folder: where the checkpoints live; made when missing, unless `read_only`.
        keep: how many of the newest steps stay on disk.
        keep_every: steps that this divides stay for good; 0 for none.
        read_only: restore only: nothing is made, moved or deleted.

    Raises:
        ValueError: if `keep` is below 1 or `keep_every` below 0.

    Example:
        >>> import tempfile
        >>> import jax.numpy as jnp
        >>> folder = tempfile.mkdtemp()
        >>> with Checkpoints(folder) as checkpoints:
        ...     checkpoints.save(5, {"w": jnp.arange(3.0)}, {"examples": 160})
        >>> with Checkpoints(folder, read_only=True) as checkpoints:
        ...     found = checkpoints.restore({"w": jax.ShapeDtypeStruct((3,), jnp.float32)})
        >>> found.step, found.state["w"].tolist(), found.position
        (5, [0.0, 1.0, 2.0], {'examples': 160})
    """

    def __init__(
        self,
        folder: str | os.PathLike[str],
        keep: int = 3,
        keep_every: int = 0,
        read_only: bool = False,
    ) -> None:
        if keep < 1:
            raise ValueError(
                errors.message("keep", keep, "at least 1", "keep one step or more on disk")
            )
        if keep_every < 0:
            raise ValueError(errors.message("keep_every", keep_every, "0 or more", "raise it"))
        self._folder = Path(folder).absolute()
        self._read_only = read_only
        self._first = jax.process_index() == 0
        self._pending: int | None = None
        self._sealing: concurrent.futures.Future[None] | None = None
        self._sealer = concurrent.futures.ThreadPoolExecutor(1)
        self._closed = False
        # With read_only Orbax overrides these three anyway, with a warning for each.
        self._manager = ocp.CheckpointManager(
            self._folder,
            options=ocp.CheckpointManagerOptions(
                read_only=read_only,
                create=not read_only,
                max_to_keep=None if read_only else keep,
                keep_period=None if read_only else keep_every or None,
                save_interval_steps=0 if read_only else 1,
            ),
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def save(self, step: int, state: Any, position: Mapping[str, Any]) -> None:
        """Starts to save one step in the background, after the save before it has been sealed.

        The arrays are copied before this returns: their buffers may be donated right away.

        Args:
            step: the step; higher than every step in the folder.
            state: a pytree of `jax.Array` of any shapes and shardings, typed keys included.
            position: the position in the data, a small dict that JSON gives back unchanged.

        Raises:
            ValueError: if the folder is read-only or closed, `step` is negative or not above the
                steps that exist, `state` has a leaf that is no `jax.Array`, or `position` does
                not survive JSON.
            CheckpointError: if the save before this one failed in the background.

        Example:
            >>> import tempfile
            >>> import jax.numpy as jnp
            >>> with Checkpoints(tempfile.mkdtemp()) as checkpoints:
            ...     checkpoints.save(5, {"w": jnp.zeros(3)}, {"examples": 160})
            ...     checkpoints.save(5, {"w": jnp.zeros(3)}, {"examples": 160})
            Traceback (most recent call last):
            ...
            ValueError: `step`: got 5, expected a step above 5, the newest in the folder; ...
        """
        self._require_open()
        if self._read_only:
            raise ValueError(
                errors.message("read_only", True, "False to save", "open the folder for writing")
            )
        if step < 0:
            raise ValueError(errors.message("step", step, "0 or more", "count steps from 0"))
        leaves, _ = _named_leaves(state, "state", (jax.Array,))
        try:
            faithful = json.loads(json.dumps(position)) == position
        except (TypeError, ValueError):
            faithful = False
        if not faithful:
            mend = "use str keys, and numbers, strings, lists and dicts as values"
            raise ValueError(
                errors.message("position", position, "a dict that JSON gives back unchanged", mend)
            )
        keys = {name: leaf for name, leaf in leaves.items() if _is_key(leaf)}
        contents = {
            "position": position,
            "leaves": {name: _describe(leaf) for name, leaf in leaves.items()},
            "keys": {name: str(jax.random.key_impl(key)) for name, key in keys.items()},
        }
        arrays = leaves | {name: jax.random.key_data(key) for name, key in keys.items()}
        self._settle()
        started = self._manager.save(
            step,
            args=ocp.args.Composite(
                state=ocp.args.StandardSave(arrays), contents=ocp.args.JsonSave(contents)
            ),
        )
        if not started:
            newest = self._manager.latest_step()
            raise ValueError(
                errors.message(
                    "step",
                    step,
                    f"a step above {newest}, the newest in the folder",
                    "call `restore` first to go on from there, or save to another folder",
                )
            )
        self._pending = step
        if self._first:
            # Left by a process that died after Orbax deleted the step of this number: it would
            # condemn the new one, should this process die before it seals.
            self._digest_file(step).unlink(missing_ok=True)

    def poll(self) -> None:
        """Has the last save sealed if it is done; returns at once in any case.

        Raises:
            CheckpointError: if that save failed in the background.

        Example:
            >>> import tempfile
            >>> with Checkpoints(tempfile.mkdtemp()) as checkpoints:
            ...     checkpoints.poll()
        """
        if self._pending is not None and not self._manager.is_saving_in_progress():
            self._begin_sealing()
        elif self._sealing is not None and self._sealing.done():
            self._settle()

    def restore(self, template: Any) -> Restored | None:
        """Reads the newest step that is whole, and says in the log which newer ones were not.

        A step that was never sealed (its process died between commit and seal) is used with a
        warning, if it can be read. The steps skipped are moved to `<folder>/damaged`, so that
        training can save their numbers again; with `read_only` they stay where they are.

        Args:
            template: a pytree of `jax.Array` or `jax.ShapeDtypeStruct` (typed keys included) as
                the state was saved. Each restored array gets the sharding of its leaf; a leaf
                without one goes to the first local device.

        Returns:
            What was found, or None if the folder has no step at all.

        Raises:
            ValueError: if the manager is closed, steps exist and none is usable, or the template
                differs from the checkpoint in a leaf's path, shape or dtype.
            CheckpointError: if a save of this manager had failed in the background.

        Example:
            >>> import tempfile
            >>> with Checkpoints(tempfile.mkdtemp()) as checkpoints:
            ...     checkpoints.restore({"w": jax.ShapeDtypeStruct((3,), "float32")}) is None
            True
        """
        self._require_open()
        self._settle()
        leaves, structure = _named_leaves(template, "template", (jax.Array, jax.ShapeDtypeStruct))
        steps = sorted(self._step_folders(), reverse=True)
        skipped: dict[int, str] = {}
        for step, older in zip(steps, [*steps[1:], None]):
            found = self._open(step, leaves)
            if not isinstance(found, str):
                self._set_aside(list(skipped))
                arrays, position = found
                return Restored(step, jax.tree.unflatten(structure, arrays), position)
            skipped[step] = found
            instead = "no older step is left" if older is None else f"step {older} is tried instead"
            logging.warning("checkpoint of step %d is skipped: %s; %s", step, found, instead)
        if not skipped:
            return None
        listed = "; ".join(f"step {step}: {reason}" for step, reason in skipped.items())
        raise ValueError(
            errors.message(
                "folder",
                f"{self._folder} without a usable checkpoint ({listed})",
                "at least one whole checkpoint, or no step at all",
                "bring one back from a copy, or train in another folder",
            )
        )

    def newest_position(self) -> tuple[int, dict[str, Any]] | None:
        """The newest whole step and the position saved with it, without its arrays.

        Example:
            >>> import tempfile
            >>> import jax.numpy as jnp
            >>> with Checkpoints(tempfile.mkdtemp()) as checkpoints:
            ...     checkpoints.save(5, {"w": jnp.zeros(3)}, {"examples": 160})
            ...     checkpoints.newest_position()
            (5, {'examples': 160})
        """
        self._require_open()
        self._settle()
        for step in sorted(self._step_folders(), reverse=True):
            if self._examine(step)[0] == Verdict.VERIFIED:
                return step, self._contents(step)["position"]
        return None

    def steps(self) -> list[int]:
        """Lists the committed steps, as they lie on disk now.

        Returns:
            The steps in rising order. One that is still being written is not among them; one
            that turns out damaged may be.

        Example:
            >>> import tempfile
            >>> with Checkpoints(tempfile.mkdtemp()) as checkpoints:
            ...     checkpoints.steps()
            []
        """
        return [
            step
            for step in sorted(self._step_folders())
            if (self._folder / str(step) / "_CHECKPOINT_METADATA").exists()
        ]

    def close(self) -> None:
        """Waits for the last save, seals it and lets Orbax go; the `with` block calls it.

        Raises:
            CheckpointError: if the last save failed in the background.

        Example:
            >>> import tempfile
            >>> checkpoints = Checkpoints(tempfile.mkdtemp())
            >>> checkpoints.close()
        """
        if self._closed:
            return
        self._closed = True
        try:
            self._settle()
        finally:
            self._sealer.shutdown()
            self._manager.close()

    def _require_open(self) -> None:
        # Orbax accepts a save after its own close, and loses it.
        if self._closed:
            raise ValueError(
                errors.message(
                    "checkpoints", "a closed manager", "an open one", "stay inside its `with` block"
                )
            )

    def _step_folders(self) -> list[int]:
        if not self._folder.is_dir():
            return []
        return [int(entry.name) for entry in self._folder.iterdir() if entry.name.isdecimal()]

    def _digest_file(self, step: int) -> Path:
        return self._folder / "digests" / f"{step}.json"

    def _settle(self) -> None:
        """Waits until the pending save is sealed, or raises its failure."""
        self._begin_sealing()
        sealing, self._sealing = self._sealing, None
        if sealing is not None:
            sealing.result()

    def _begin_sealing(self) -> None:
        """Waits for the pending save, raises its failure, or has it sealed in the background."""
        if self._pending is None:
            return
        step, self._pending = self._pending, None
        try:
            self._manager.wait_until_finished()
            if self._first and step not in self._step_folders():
                raise FileNotFoundError(f"no folder {self._folder / str(step)} after its commit")
        except Exception as error:
            raise CheckpointError(
                f"the checkpoint of step {step} was not written ({type(error).__name__}: {error}); "
                f"the steps on disk are {self.steps()}"
            ) from error
        if self._first:
            self._sealing = self._sealer.submit(self._seal, step)

    def _seal(self, step: int) -> None:
        seal(self._folder / str(step), self._digest_file(step))
        for entry in self._digest_file(step).parent.glob("*.json"):
            if not (self._folder / entry.stem).exists():
                entry.unlink()

    def _examine(self, step: int) -> tuple[Verdict, str]:
        """Compares a step with its digests; the verdict of process 0 holds for all of them."""
        verdict, reason = Verdict.VERIFIED, "process 0 found it damaged or unsealed"
        if self._first:
            verdict, reason = verify(self._folder / str(step), self._digest_file(step))
        if jax.process_count() > 1:
            verdict = Verdict(int(multihost_utils.broadcast_one_to_all(np.int32(verdict))))
        return verdict, reason

    def _open(self, step: int, leaves: dict[str, Any]) -> tuple[list[Any], dict[str, Any]] | str:
        """Reads one step, or says why it cannot be used."""
        verdict, reason = self._examine(step)
        if verdict == Verdict.DAMAGED:
            return reason
        if verdict == Verdict.VERIFIED:
            return self._read(step, leaves)
        logging.warning("checkpoint of step %d: %s; it is read as it is", step, reason)
        found = None
        try:
            found = self._read(step, leaves)
        except _OtherTemplate:
            raise
        except _UNREADABLE as error:
            reason = (
                f"unsealed and unreadable, {type(error).__name__}: {str(error).split(chr(10))[0]}"
            )
        if (
            jax.process_count() > 1
            and not multihost_utils.process_allgather(np.asarray(found is not None)).all()
        ):
            return reason
        return reason if found is None else found

    def _contents(self, step: int) -> dict[str, Any]:
        args = ocp.args.Composite(contents=ocp.args.JsonRestore())
        return self._manager.restore(step, args=args)["contents"]

    def _read(self, step: int, leaves: dict[str, Any]) -> tuple[list[Any], dict[str, Any]]:
        contents = self._contents(step)
        _require_same(step, {name: _describe(leaf) for name, leaf in leaves.items()}, contents)
        wanted = {name: _storage(leaf) for name, leaf in leaves.items()}
        args = ocp.args.Composite(state=ocp.args.StandardRestore(wanted))
        arrays = self._manager.restore(step, args=args)["state"]
        for name, kind in contents["keys"].items():
            key = jax.random.wrap_key_data(arrays[name], impl=kind)
            arrays[name] = jax.device_put(key, wanted[name].sharding)
        return [arrays[name] for name in leaves], contents["position"]

    def _set_aside(self, steps: list[int]) -> None:
        if self._read_only or not steps:
            return
        if self._first:
            aside = self._folder / "damaged"
            aside.mkdir(exist_ok=True)
            for step in steps:
                name, copies = str(step), 0
                while (aside / name).exists():
                    copies += 1
                    name = f"{step}.{copies}"
                os.rename(self._folder / str(step), aside / name)
                if self._digest_file(step).exists():
                    os.rename(self._digest_file(step), aside / f"{name}.json")
        if jax.process_count() > 1:
            multihost_utils.sync_global_devices("damaged checkpoints are set aside")
        self._manager.reload()


def _named_leaves(
    tree: Any, argument: str, kinds: tuple[type, ...]
) -> tuple[dict[str, Any], jax.tree_util.PyTreeDef]:
    pairs, structure = jax.tree_util.tree_flatten_with_path(tree)
    leaves = {}
    for path, leaf in pairs:
        name = jax.tree_util.keystr(path, simple=True, separator="/") or "state"
        expected = " or ".join(f"a jax.{kind.__name__}" for kind in kinds)
        if not isinstance(leaf, kinds):
            got = f"a {type(leaf).__name__} at {name!r}"
            raise ValueError(errors.message(argument, got, expected, "wrap it in `jnp.asarray`"))
        if name in leaves:
            got = f"two leaves named {name!r}"
            raise ValueError(
                errors.message(argument, got, "one leaf a name", "keep '/' out of the dict keys")
            )
        leaves[name] = leaf
    if not leaves:
        raise ValueError(
            errors.message(argument, "a tree without leaves", "one array or more", "add arrays")
        )
    return leaves, structure


def _is_key(leaf: Any) -> bool:
    return jax.dtypes.issubdtype(leaf.dtype, jax.dtypes.prng_key)


def _describe(leaf: Any) -> str:
    return f"{leaf.dtype}[{', '.join(map(str, leaf.shape))}]"


def _storage(leaf: Any) -> jax.ShapeDtypeStruct:
    """The array that a leaf is stored as; a typed key's data has one axis more."""
    sharding = leaf.sharding or jax.sharding.SingleDeviceSharding(jax.local_devices()[0])
    stored = jax.eval_shape(jax.random.key_data, leaf) if _is_key(leaf) else leaf
    return jax.ShapeDtypeStruct(stored.shape, stored.dtype, sharding=sharding)


def _require_same(step: int, wanted: dict[str, str], contents: dict[str, Any]) -> None:
    found = contents["leaves"]
    for name in [*wanted, *found]:
        if wanted.get(name) != found.get(name):
            raise _OtherTemplate(
                errors.message(
                    "template",
                    f"{wanted.get(name, 'no leaf')} at {name!r}",
                    f"{found.get(name, 'no leaf')} there, as the checkpoint of step {step} holds",
                    "build the state from the config the checkpoint was trained with",
                )
            )
