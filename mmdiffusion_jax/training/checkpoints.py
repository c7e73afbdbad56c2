"""Checkpoints by Orbax, with a digest file beside every step that shows later damage."""

import concurrent.futures
import json
import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Self

import jax
import numpy as np
import orbax.checkpoint as ocp
from absl import logging
from jax.experimental import multihost_utils

from mmdiffusion_jax import errors, files
from mmdiffusion_jax.training.digests import Verdict
from mmdiffusion_jax.training.leaves import (
    describe,
    is_key,
    named_leaves,
    read_leaves,
    require_same,
    storage,
)
from mmdiffusion_jax.training.orbax_buckets import for_orbax
from mmdiffusion_jax.training.step_folders import StepFolders


@dataclass(frozen=True)
class Restored:
    """A checkpoint that was read.

    Attributes:
        step: the step that it was saved at.
        state: the saved pytree, in the structure and with the shardings of the template.
        position: the saved position in the data.
    """

    step: int
    state: Any
    position: dict[str, Any]


class CheckpointError(RuntimeError):
    """A checkpoint was not written, because the disk is full or failed."""


class Checkpoints:
    """Saves and restores the training state; use it as a context manager.

    Saves run in the background. Orbax neither keeps a checksum nor reports a failed background
    write until it is asked, so every finished save is sealed with a digest file and its failure
    raised: in `poll`, at the next `save`, and on leaving the `with` block. In a run of several
    processes all of them make the same calls on one shared folder, and process 0 alone writes and
    checks digests and moves damaged steps.

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
        ...     restored = checkpoints.restore({"w": jax.ShapeDtypeStruct((3,), jnp.float32)})
        >>> restored.step, restored.state["w"].tolist(), restored.position
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
            raise errors.invalid("keep", keep, "at least 1", "keep one step or more on disk")
        if keep_every < 0:
            raise errors.invalid("keep_every", keep_every, "0 or more", "raise it")
        self._folder = for_orbax(folder)
        self._disk = StepFolders(self._folder)
        self._keep, self._keep_every = keep, keep_every
        self._read_only = read_only
        self._first = jax.process_index() == 0
        self._pending: int | None = None
        self._sealing: concurrent.futures.Future[None] | None = None
        self._sealer = concurrent.futures.ThreadPoolExecutor(1)
        self._closed = False
        # With read_only Orbax overrides these anyway, with a warning for each.
        self._manager = ocp.CheckpointManager(
            self._folder,
            options=ocp.CheckpointManagerOptions(
                read_only=read_only,
                create=not read_only,
                # Those of a process that was killed while it saved.
                cleanup_tmp_directories=not read_only,
                max_to_keep=None if read_only else keep,
                keep_period=None if read_only else keep_every or None,
                save_interval_steps=0 if read_only else 1,
            ),
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if jax.process_count() > 1 and isinstance(error, jax.errors.JaxRuntimeError):
            # A process is gone, and its part of a save that is under way will not come.
            self._closed = True
            self._sealer.shutdown()
            return
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
            files.LeaseLostError: another process has taken over this folder in a bucket.

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
            raise errors.invalid("read_only", True, "False to save", "open the folder for writing")
        if step < 0:
            raise errors.invalid("step", step, "0 or more", "count steps from 0")
        leaves, _ = named_leaves(state, "state", (jax.Array,))
        try:
            faithful = json.loads(json.dumps(position)) == position
        except (TypeError, ValueError):
            faithful = False
        if not faithful:
            mend = "use str keys, and numbers, strings, lists and dicts as values"
            raise errors.invalid(
                "position", position, "a dict that JSON gives back unchanged", mend
            )
        keys = {name: leaf for name, leaf in leaves.items() if is_key(leaf)}
        contents = {
            "position": position,
            "leaves": {name: describe(leaf) for name, leaf in leaves.items()},
            "keys": {name: str(jax.random.key_impl(key)) for name, key in keys.items()},
        }
        arrays = leaves | {name: jax.random.key_data(key) for name, key in keys.items()}
        self.wait()
        files.require_held(self._folder)
        if self._first and step not in self._disk.steps():
            # Left by a process that died after Orbax deleted the step of this number: it would
            # condemn the new one, should this process die before it seals.
            self._disk.unseal(step)
        started = self._manager.save(
            step,
            args=ocp.args.Composite(
                state=ocp.args.StandardSave(arrays), contents=ocp.args.JsonSave(contents)
            ),
        )
        if not started:
            newest = self._manager.latest_step()
            raise errors.invalid(
                "step",
                step,
                f"a step above {newest}, the newest in the folder",
                "call `restore` first to go on from there, or save to another folder",
            )
        self._pending = step

    def poll(self) -> None:
        """Has the last save sealed if it is done; returns at once in any case.

        Raises:
            CheckpointError: if that save failed in the background.
        """
        if self._pending is not None and not self._manager.is_saving_in_progress():
            self._begin_sealing()
        elif self._sealing is not None and self._sealing.done():
            self.wait()

    def wait(self) -> None:
        """Waits until the last save is done and sealed; raises as `poll`."""
        self._begin_sealing()
        sealing, self._sealing = self._sealing, None
        if sealing is not None:
            sealing.result()

    def restore(self, template: Any) -> Restored | None:
        """Reads the newest undamaged step, and logs a warning for each newer one.

        A step that was never sealed (its process died between commit and seal) is used with a
        warning, if it can be read, and sealed then. The steps skipped are moved to
        `<folder>/damaged`, so that training can save their numbers again. With `read_only` nothing
        is sealed or moved.

        Args:
            template: a pytree of `jax.Array` or `jax.ShapeDtypeStruct` (typed keys included) as
                the state was saved. Each restored array gets the sharding of its leaf; a leaf
                without one goes to the first local device.

        Returns:
            The checkpoint, or None if the folder has no step at all.

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
        self.wait()
        leaves, structure = named_leaves(template, "template", (jax.Array, jax.ShapeDtypeStruct))
        newest = self._newest_usable(lambda step: self._read(step, leaves))
        if newest is None:
            return None
        step, (arrays, position) = newest
        return Restored(step, jax.tree.unflatten(structure, arrays), position)

    def restore_part(self, choose: Callable[[Mapping[str, Any]], str]) -> Restored | None:
        """Reads a part of the newest undamaged step, without a template, into host memory.

        Steps that are unsealed or damaged are treated as in `restore`.

        Args:
            choose: the saved position → the path of the part, keys joined by "/".

        Returns:
            The checkpoint, whose state is {path of a leaf within the part: `np.ndarray`}, empty
            where no leaf has such a path; or None if the folder has no step at all.

        Raises:
            ValueError: as `restore`.

        Example:
            >>> import tempfile
            >>> import jax.numpy as jnp
            >>> with Checkpoints(tempfile.mkdtemp()) as checkpoints:
            ...     state = {"ema": {"w": jnp.ones(2)}, "params": {"w": jnp.zeros(2)}}
            ...     checkpoints.save(5, state, {"examples": 160})
            ...     checkpoints.restore_part(lambda position: "ema").state
            {'w': array([1., 1.], dtype=float32)}
        """
        self._require_open()
        self.wait()
        newest = self._newest_usable(lambda step: self._read_part(step, choose))
        return None if newest is None else Restored(newest[0], *newest[1])

    def newest_position(self) -> tuple[int, dict[str, Any]] | None:
        """The newest undamaged step and the position saved with it, without its arrays.

        Steps that are unsealed or damaged are treated as in `restore`; where no step is left, the
        answer is None.

        Example:
            >>> import tempfile
            >>> import jax.numpy as jnp
            >>> with Checkpoints(tempfile.mkdtemp()) as checkpoints:
            ...     checkpoints.save(5, {"w": jnp.zeros(3)}, {"examples": 160})
            ...     checkpoints.newest_position()
            (5, {'examples': 160})
        """
        self._require_open()
        self.wait()
        newest, skipped = self._newest(lambda step: self._contents(step)["position"])
        self._set_aside(list(skipped))
        return newest

    def steps(self) -> list[int]:
        """The committed steps on disk.

        Returns:
            The steps in rising order. One that is still being written is not among them; one
            that turns out damaged may be.

        Example:
            >>> import tempfile
            >>> with Checkpoints(tempfile.mkdtemp()) as checkpoints:
            ...     checkpoints.steps()
            []
        """
        return self._disk.committed()

    def trim(self, keep: int | None = None) -> None:
        """Deletes the steps beyond the newest `keep`, as a save does that has the time.

        Args:
            keep: how many stay; by default as many as the folder keeps.

        Example:
            >>> import tempfile
            >>> import jax.numpy as jnp
            >>> folder = tempfile.mkdtemp()
            >>> with Checkpoints(folder) as checkpoints:
            ...     for step in (5, 6):
            ...         checkpoints.save(step, {"w": jnp.zeros(3)}, {})
            >>> with Checkpoints(folder, keep=1) as checkpoints:
            ...     checkpoints.trim()
            ...     checkpoints.steps()
            [6]
        """
        self._require_open()
        steps = self._manager.all_steps()
        for step in steps[: max(0, len(steps) - (self._keep if keep is None else keep))]:
            if not self._keep_every or step % self._keep_every:
                self._manager.delete(step)
                if self._first:
                    self._disk.unseal(step)

    def close(self) -> None:
        """Waits for the last save, seals it and closes Orbax; raises as `poll`.

        The `with` block calls it.
        """
        if self._closed:
            return
        self._closed = True
        try:
            self.wait()
        finally:
            self._sealer.shutdown()
            self._manager.close()

    def _require_open(self) -> None:
        # Orbax accepts a save after its own close, and loses it.
        if self._closed:
            raise errors.invalid(
                "checkpoints", "a closed manager", "an open one", "stay inside its `with` block"
            )

    def _begin_sealing(self) -> None:
        """Waits for the pending save, raises its failure, or has it sealed in the background."""
        if self._pending is None:
            return
        step, self._pending = self._pending, None
        try:
            self._manager.wait_until_finished()
            if self._first and step not in self._disk.steps():
                raise FileNotFoundError(f"no folder {self._folder / str(step)} after its commit")
        except Exception as error:
            if jax.process_count() > 1 and isinstance(error, jax.errors.JaxRuntimeError):
                raise
            raise CheckpointError(
                f"the checkpoint of step {step} was not written to {self._folder} "
                f"({_reason(error)}); make room or mend the disk and run again: what was committed "
                f"is kept, here the steps {self.steps()}"
            ) from error
        if self._first:
            self._sealing = self._sealer.submit(self._disk.seal, step)

    def _examine(self, step: int) -> tuple[Verdict, str]:
        """Compares a step with its digests; the verdict of process 0 holds for all of them."""
        verdict, reason = Verdict.VERIFIED, "process 0 found it damaged or unsealed"
        if self._first:
            verdict, reason = self._disk.verify(step)
        if jax.process_count() > 1:
            verdict = Verdict(int(multihost_utils.broadcast_one_to_all(np.int32(verdict))))
        return verdict, reason

    def _newest(self, read: Callable[[int], Any]) -> tuple[tuple[int, Any] | None, dict[int, str]]:
        """The newest usable step with what was read of it, and why newer ones are not."""
        steps = sorted(self._disk.steps(), reverse=True)
        skipped: dict[int, str] = {}
        for step, older in zip(steps, [*steps[1:], None]):
            reason, value = self._open(step, read)
            if reason is None:
                return (step, value), skipped
            skipped[step] = reason
            instead = "no older step is left" if older is None else f"step {older} is tried instead"
            logging.warning("checkpoint of step %d is skipped: %s; %s", step, reason, instead)
        return None, skipped

    def _newest_usable(self, read: Callable[[int], Any]) -> tuple[int, Any] | None:
        """The newest usable step with what was read of it, or None where there is no step."""
        newest, skipped = self._newest(read)
        if newest is not None:
            self._set_aside(list(skipped))
            return newest
        if not skipped:
            return None
        listed = "; ".join(f"step {step}: {reason}" for step, reason in skipped.items())
        raise errors.invalid(
            "folder",
            f"{self._folder} without a usable checkpoint ({listed})",
            "at least one whole checkpoint, or no step at all",
            "bring one back from a copy, or train in another folder",
        )

    def _open(self, step: int, read: Callable[[int], Any]) -> tuple[str | None, Any]:
        """Why a step cannot be used, or None and what was read of it."""
        verdict, reason = self._examine(step)
        if verdict == Verdict.DAMAGED:
            return reason, None
        if verdict == Verdict.VERIFIED:
            return None, read(step)
        logging.warning("checkpoint of step %d: %s; it is read as it is", step, reason)
        value = None
        try:
            value = read(step)
        # What Orbax and TensorStore raise on cut or garbled files shares no type.
        except Exception as error:
            reason = (
                f"unsealed and unreadable, {type(error).__name__}: {str(error).split(chr(10))[0]}"
            )
        usable = value is not None
        if jax.process_count() > 1:
            usable = bool(multihost_utils.process_allgather(np.asarray(usable)).all())
        if not usable:
            return reason, None
        if self._first and not self._read_only:
            # Damage from now on is noticed.
            self._disk.seal(step)
        return None, value

    def _contents(self, step: int) -> dict[str, Any]:
        args = ocp.args.Composite(contents=ocp.args.JsonRestore())
        return self._manager.restore(step, args=args)["contents"]

    def _read(self, step: int, leaves: dict[str, Any]) -> tuple[list[Any], dict[str, Any]]:
        contents = self._contents(step)
        require_same(
            step, {name: describe(leaf) for name, leaf in leaves.items()}, contents["leaves"]
        )
        wanted = {name: storage(leaf) for name, leaf in leaves.items()}
        args = ocp.args.Composite(state=ocp.args.StandardRestore(wanted))
        arrays = self._manager.restore(step, args=args)["state"]
        for name, kind in contents["keys"].items():
            key = jax.random.wrap_key_data(arrays[name], impl=kind)
            arrays[name] = jax.device_put(key, wanted[name].sharding)
        return [arrays[name] for name in leaves], contents["position"]

    def _read_part(
        self, step: int, choose: Callable[[Mapping[str, Any]], str]
    ) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
        contents = self._contents(step)
        part = f"{choose(contents['position'])}/"
        names = [name for name in contents["leaves"] if name.startswith(part)]
        arrays = read_leaves(self._folder / str(step) / "state", names)
        return {name.removeprefix(part): arrays[name] for name in names}, contents["position"]

    def _set_aside(self, steps: list[int]) -> None:
        if self._read_only or not steps:
            return
        if self._first:
            self._disk.set_aside(steps)
        if jax.process_count() > 1:
            multihost_utils.sync_global_devices("damaged checkpoints are set aside")
        self._manager.reload()


def _reason(error: Exception) -> str:
    """Why a save failed, in a few words; TensorStore's errors have the system's among pages."""
    stated = re.search(r"os_error_code='(\d+)'", str(error))
    number = int(stated[1]) if stated else getattr(error, "errno", None)
    if number is not None:
        return os.strerror(number)
    return f"{type(error).__name__}: {str(error).partition(chr(10))[0][:200]}"
