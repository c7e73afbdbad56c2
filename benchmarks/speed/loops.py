"""The training loop as users run it, held at a gate between turns, and beside it the bare step."""

import functools
import queue
import threading
from collections.abc import Callable, Mapping
from typing import Any
from unittest import mock

import jax
import numpy as np
from ml_collections import ConfigDict

from benchmarks.speed.ours import TrainStep
from benchmarks.speed.worker import Arms, Unavailable
from configs import digits, image_label
from mmdiffusion_jax import apps, data, experiment, training
from mmdiffusion_jax.training import loop as the_loop

_FOREVER = 10**9
_SETTLING = 2
_STALL_SHARE = "speed/input_stall_share"


class Gate:
    """A compiled step that lets as many calls through as `open` asks for, then waits.

    Asked for none, it ends the loop.
    """

    def __init__(self) -> None:
        self._asked: queue.Queue[int] = queue.Queue()
        self._done: queue.Queue[Any] = queue.Queue()
        self._left = 0
        self._idle = True

    def around(self, compile_step: Callable[..., Any]) -> Callable[..., Any]:
        """The loop's `compile_step` with the gate around what it compiles."""

        def gated(*arguments: Any) -> Any:
            compiled, cost = compile_step(*arguments)
            return functools.partial(self._pass, compiled), cost

        return gated

    def open(self, count: int) -> None:
        """Lets so many steps through and returns when they are done.

        Raises:
            RuntimeError: the loop ended.
        """
        self._asked.put(count)
        error = self._done.get()
        if error is not None:
            raise RuntimeError("the loop ended") from error

    def fail(self, error: BaseException) -> None:
        """Tells whoever waits that the loop is over."""
        self._done.put(error)

    def _pass(self, step: Any, state: Any, batch: Any) -> Any:
        if not self._left:
            if not self._idle:
                jax.block_until_ready(state)
                self._done.put(None)
            self._left, self._idle = self._asked.get(), False
            if not self._left:
                raise KeyboardInterrupt("no more steps are wanted")
        self._left -= 1
        return step(state, batch)


def digits_config(
    folder: str, backbone: Mapping[str, Any] | None = None, **options: int
) -> ConfigDict:
    """The digits as their config has them, but for these fields and these options of training."""
    config = digits.get_config()
    config.backbone.update(backbone or {})
    config.data.folder = f"{folder}/data"
    config.training.update({"eval_every": 0, "sample_every": 0, **options})
    return config


def bare(folder: str, **options: Any) -> Arms:
    """The compiled step of the digits on one batch."""
    config = digits_config(folder, num_steps=_FOREVER, **options)
    built = experiment.build(config)
    source, _ = experiment.open_data(config)
    return {"step": TrainStep(built, source.take(np.arange(built.training.batch_size)))}


def loop(folder: str, **options: Any) -> Arms:
    """`apps.train` on the digits: loader, averages, logs and checkpoints; a turn is some steps.

    Evaluation and pictures, whose intervals are a matter of taste, are left out.
    """
    gate = Gate()

    def train() -> None:
        try:
            with mock.patch.object(the_loop, "compile_step", gate.around(the_loop.compile_step)):
                apps.train(digits_config(folder, num_steps=_FOREVER, **options), f"{folder}/loop")
        except BaseException as error:
            gate.fail(error)
        gate.fail(EOFError("no step is left"))

    threading.Thread(target=train, daemon=True).start()
    return {"step": gate.open}


def stalls(folder: str, **options: Any) -> Arms:
    """A whole run of the digits; the share of its time that the loop waited for batches.

    The share is the mean of what the loop itself writes, but for the first intervals, in which the
    step is compiled.
    """
    return {"share": lambda _: _stall_share(digits_config(folder, **options), folder)}


def large_stalls(folder: str, backbone: Mapping[str, Any], **options: Any) -> Arms:
    """As `stalls`, of pictures and labels in files, with the form for one GPU of their config.

    Args:
        folder: for the files and the run.
        backbone: fields that differ from the config's; empty for none.
        options: of training.
    """
    draws = np.random.default_rng(0)
    config = image_label.get_config("cifar_gpu")
    config.data.source = "npz"
    for split, count in (("train", 50_000), ("test", 1000)):
        config.data[split] = f"{folder}/{split}.npz"
        images = draws.integers(0, 256, (count, *config.latent)).astype(np.uint8)
        data.write_npz(config.data[split], {"image": images, "label": draws.integers(0, 10, count)})
    config.backbone.update(backbone)
    config.training.update(options)
    return {"share": lambda _: _stall_share(config, folder)}


def _stall_share(config: ConfigDict, folder: str) -> float:
    apps.train(config, f"{folder}/stalls")
    lines = training.read_metrics(f"{folder}/stalls/metrics.jsonl")
    shares = [line[_STALL_SHARE] for line in lines if _STALL_SHARE in line]
    if len(shares) <= _SETTLING:
        raise Unavailable(f"the loop writes no {_STALL_SHARE}")
    return float(np.mean(shares[_SETTLING:]))


def pipeline(path: str, batch_size: int) -> Arms:
    """Our batches of an `.npz` file, on the device; a turn is so many of them, told by labels."""
    device = jax.sharding.SingleDeviceSharding(jax.devices()[0])
    batches = data.to_device(
        data.train_batches(data.open_npz(path), batch_size=batch_size, seed=0), device, batch_size
    )

    def take(count: int) -> list[list[int]]:
        # The labels alone, so that no more batches are held than training would hold.
        labels = [jax.block_until_ready(next(batches))["label"] for _ in range(count)]
        return [np.asarray(x).tolist() for x in labels]

    return {"batches": take}
