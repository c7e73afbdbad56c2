"""What a session on a GPU measures, in the order of what is worth most if it is cut short."""

import contextlib
import dataclasses
import functools
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from benchmarks.speed import sizes
from benchmarks.speed.harness import ROOT, Pace, Worker, interleave, ratio
from benchmarks.speed.suite import LOOPS, OURS, RIVAL
from benchmarks.speed.worker import Unavailable
from mmdiffusion_jax import training
from mmdiffusion_jax.training import speed

Line = Mapping[str, str | int | float]
"""A row of a section's table, {column: value}."""

_ON_DEVICE = "benchmarks.gpu.on_device"
_TRAINING = 3
"""A training step takes the operations of three forward passes: forward, and backward twice."""
_RATE = "speed/steps_per_second"
_ARMS = ("train", "sampler")
_MODALITY_COUNTS = (0, 1, 3, 8)
_NETWORK_SECONDS = 60
"""Compilation and measuring of one network on both sides; with less left, none is begun."""


@dataclasses.dataclass(frozen=True)
class Plan:
    """How large everything is.

    Attributes:
        networks: {name: size}; the first also has light modalities beside its image.
        small: {name: size} whose values are compared with the CPU's.
        matrix_side: of the products that show the device's ceiling.
        copied_values: float32 numbers, of the copies that show the memory's.
        pace: of the comparisons.
        stall_steps: of the run whose waiting for batches is measured.
        device: "cuda", or "cpu" where the order is tried.
        backbone: fields that make the trained networks smaller; empty for none.
        training: options of training that differ from the configs'.
        evaluation: the same of evaluation.
        probe_steps: of the run that tells how fast steps are.
        evaluation_seconds: that a trained model's evaluation is thought to take.
    """

    networks: Mapping[str, Mapping[str, Any]]
    small: Mapping[str, Mapping[str, Any]]
    matrix_side: int
    copied_values: int
    pace: Pace
    stall_steps: int
    device: str = "cuda"
    backbone: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    training: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    evaluation: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    probe_steps: int = 200
    evaluation_seconds: float = 120.0

    @property
    def environment(self) -> dict[str, str]:
        """Of every process. Several share the device, so none may take all of its memory."""
        if self.device == "cpu":
            return {"JAX_PLATFORMS": "cpu"}
        return {"JAX_PLATFORMS": "", "XLA_FLAGS": "", "XLA_PYTHON_CLIENT_PREALLOCATE": "false"}


_SMALL = {"a DiT": sizes.TOY["DiT-L/2"], "a U-Net": sizes.TOY["ADM-64"]}
FULL = Plan(sizes.GPU, _SMALL, 8192, 2**30, Pace(rounds=5, seconds=1.0), 600)
TOY = Plan(
    sizes.TOY,
    _SMALL,
    256,
    2**16,
    Pace(rounds=2, seconds=0.05),
    60,
    device="cpu",
    backbone={"width": 8, "num_res_blocks": 1, "num_head_channels": 8, "num_groups": 4},
    training={"batch_size": 8},
    evaluation={"num_samples": 32, "features": "classifier", "judge_steps": 20},
    probe_steps=20,
    evaluation_seconds=200.0,
)


@dataclasses.dataclass(frozen=True)
class Session:
    """A plan, and what there is for it.

    Attributes:
        plan: how large everything is.
        deadline: by `time.monotonic`, when all has to be done.
        data: the folder of the public sets, or None.
        out: the folder of the results.
    """

    plan: Plan
    deadline: float
    data: Path | None
    out: Path

    @property
    def seconds_left(self) -> float:
        """Until the deadline."""
        return self.deadline - time.monotonic()


def model_flops_utilisation(flops: float, seconds: float, peak: float) -> float:
    """The share of the peak that goes into the model's own products: flops / (seconds · peak).

    Args:
        flops: operations of a step by formula, nothing that is computed anew among them.
        seconds: of a step.
        peak: FLOP/s.
    """
    return flops / (seconds * peak)


def parity(session: Session) -> Iterator[Line]:
    """Predictions and gradients of small networks, with the CPU's as the truth."""
    plan = session.plan
    with Worker(f"{_ON_DEVICE}:parity", {"sizes": plan.small}, plan.environment) as worker:
        for name in plan.small:
            for dtype, distances in worker.run(name).value.items():
                yield {"network": name, "dtype": dtype, **distances}


def ceilings(session: Session) -> Iterator[Line]:
    """The device's fastest products and copies, beside the peak of its data sheet."""
    plan = session.plan
    options = {"side": plan.matrix_side, "values": plan.copied_values}
    with Worker(f"{_ON_DEVICE}:ceilings", options, plan.environment) as worker:
        device = worker.run("device").value
        arms = {name: (worker, name) for name in ("products", "copies")}
        clock = _medians(arms, plan.pace)
    rate = 2 * plan.matrix_side**3 / clock["products"]
    peak = speed.peak_flops(device)
    yield {
        "device": device,
        "bfloat16 products, TFLOP/s": rate / 1e12,
        "data sheet": peak / 1e12 if peak else "unknown",
        "copies, GB/s read and written": 8 * plan.copied_values / clock["copies"] / 1e9,
    }


def networks(session: Session) -> Iterator[Line]:
    """Train step and sampler step of the published networks, and PyTorch's compiled ones."""
    for name, size in session.plan.networks.items():
        if session.seconds_left < _NETWORK_SECONDS:
            yield {"network": name, "batch": "no time was left"}
            continue
        try:
            yield {"network": name, "batch": size["batch"], **_measured(session.plan, size)}
        except RuntimeError as error:
            # Memory may do for the others.
            yield {"network": name, "batch": f"it broke: {last_line(str(error))}"}


def _measured(plan: Plan, size: Mapping[str, Any]) -> dict[str, str | float]:
    options = {"size": size, "compiled": plan.device != "cpu", "device": plan.device}
    sides: dict[str, tuple[Any, ...]] = {
        "ours": (f"{OURS}:arms", {"size": size}, plan.environment),
        "torch": (f"{RIVAL}:arms", options, plan.environment),
    }
    with _started(sides) as (started, why):
        clock, samples = (
            _medians({side: (worker, arm) for side, worker in started.items()}, plan.pace)
            for arm in _ARMS
        )
        peaks = {side: worker.run("peak").value for side, worker in started.items()}
        flops = _TRAINING * started["ours"].run("flops").value
        peak = speed.peak_flops(started["ours"].run("device").value)
    used = model_flops_utilisation(flops, clock["ours"], peak) if peak else "no known peak"
    return {
        "train step, ms": 1e3 * clock["ours"],
        "share of the peak": used,
        "memory, GiB": peaks["ours"] / 2**30,
        "sampler step, ms": 1e3 * samples["ours"] / sizes.SAMPLER_STEPS,
        **_beside("train", clock, why),
        **_beside("sampler", samples, why),
        "PyTorch's memory, GiB": peaks["torch"] / 2**30 if "torch" in peaks else "–",
    }


def modalities(session: Session) -> Iterator[Line]:
    """The train step with light modalities beside the image, over the image alone."""
    plan = session.plan
    name, size = next(iter(plan.networks.items()))
    if size["kind"] != "unet":
        size = {**size, "scan_layers": True}  # compiles in less time
    options = {"size": size, "counts": _MODALITY_COUNTS}
    with Worker(f"{OURS}:with_modalities", options, plan.environment) as worker:
        arms = {str(count): (worker, str(count)) for count in _MODALITY_COUNTS}
        measured = interleave(arms, plan.pace)
    for count in _MODALITY_COUNTS[1:]:
        row = ratio(str(count), "0", measured)
        yield {
            "network": name,
            "modalities": count,
            "train step, ms": 1e3 * row.details["seconds"][str(count)],
            "over the image alone": row.value,
        }


def stalls(session: Session) -> Iterator[Line]:
    """The share of its time that the training loop waits for the next batch."""
    plan = session.plan
    with tempfile.TemporaryDirectory() as folder:
        options = {
            "folder": folder,
            "backbone": plan.backbone,
            "num_steps": plan.stall_steps,
            "log_every": plan.stall_steps // 10,
            **plan.training,
        }
        with Worker(f"{LOOPS}:large_stalls", options, plan.environment) as worker:
            share = worker.run("share").value
    yield {"steps": plan.stall_steps, "share of the time without a batch": share}


def trainings(session: Session) -> Iterator[Line]:
    """Restorations and labelled images of CIFAR-10, trained for half of the time left each."""
    if session.data is None:
        yield {"config": "no --data"}
        return
    for count, name in ((2, "masked_image"), (1, "image_label")):
        try:
            yield from _trained(session, name, session.seconds_left / count)
        except subprocess.CalledProcessError as error:
            yield {"config": name, "figure": f"it broke with {error.returncode}; see {name}.log"}


@contextlib.contextmanager
def _started(sides: Mapping[str, tuple[Any, ...]]) -> Iterator[tuple[dict[str, Worker], str]]:
    """The sides that run here, compiled at the same time, and why PyTorch's does not."""
    why = ""
    with contextlib.ExitStack() as stack:
        started = {"ours": stack.enter_context(Worker(*sides["ours"]))}
        try:
            started["torch"] = stack.enter_context(Worker(*sides["torch"]))
        except Unavailable as reason:
            why = str(reason)
        with ThreadPoolExecutor() as pool:
            failures = dict(zip(started, pool.map(_compiled, started.values()), strict=True))
        if failures["ours"]:
            raise RuntimeError(failures["ours"])
        if failures.get("torch"):
            why = f"it broke: {last_line(failures['torch'])}"
            del started["torch"]
        yield started, why


def _compiled(worker: Worker) -> str:
    """Takes the first step of each arm; the last words of a process that dies, or nothing."""
    try:
        for arm in _ARMS:
            worker.run(arm)
    except RuntimeError as error:
        return str(error)
    return ""


def last_line(words: str) -> str:
    """What an error says in the end."""
    return (words.strip() or "without a word").splitlines()[-1]


def _medians(arms: Mapping[str, tuple[Worker, str]], pace: Pace) -> dict[str, float]:
    """{name: seconds of one piece of an arm's work}, the median of the rounds."""
    clock = interleave(arms, pace).clock
    return {name: statistics.median(rounds) for name, rounds in clock.items()}


def _beside(arm: str, clock: Mapping[str, float], why: str) -> dict[str, str | float]:
    """Our time over PyTorch's, or why there is none."""
    shown = clock["ours"] / clock["torch"] if "torch" in clock else why
    return {f"{arm} step over compiled PyTorch": shown}


def _trained(session: Session, name: str, seconds: float) -> Iterator[Line]:
    """Trains a config for so many seconds, evaluation among them, and gives its figures."""
    plan, begun = session.plan, time.monotonic()

    def left() -> float:
        return seconds - (time.monotonic() - begun)

    with tempfile.TemporaryDirectory() as folder:
        run = functools.partial(_launch, session, name, {"JAX_COMPILATION_CACHE_DIR": folder})
        probe = {"num_steps": plan.probe_steps, "log_every": plan.probe_steps // 10}
        if not run("train", f"{folder}/probe", left(), probe):
            yield {"config": name, "figure": "cut off while its steps were timed"}
            return
        lines = training.read_metrics(f"{folder}/probe/metrics.jsonl")
        rate = statistics.median(line[_RATE] for line in lines if _RATE in line)
        num_steps = int(rate * (left() - plan.evaluation_seconds))
        if num_steps < plan.probe_steps:
            yield {"config": name, "figure": "no time was left"}
            return
        yield {"config": name, "figure": "steps a second", "value": rate}
        yield {"config": name, "figure": "steps", "value": num_steps}
        flags = ["--arms=multi", "--seeds=1", "--budgets=steps", f"--steps={num_steps}"]
        workdir = session.out / name
        if not run("compare", str(workdir), left() + plan.evaluation_seconds, {}, flags):
            yield {"config": name, "figure": "cut off; its last checkpoint is in the folder"}
    for file in workdir.glob("multi-*/figures.json"):
        for figure, value in json.loads(file.read_text())["figures"].items():
            yield {"config": name, "figure": figure, "value": value}


def _launch(
    session: Session,
    name: str,
    environment: Mapping[str, str],
    script: str,
    workdir: str,
    seconds: float,
    options: Mapping[str, Any],
    flags: Sequence[str] = (),
) -> bool:
    """Runs a launch script on a config's form for one GPU: whether it ended in time."""
    plan = session.plan
    sections = {
        "backbone": plan.backbone,
        "training": {**plan.training, **options},
        "evaluation": plan.evaluation,
    }
    command = [sys.executable, f"launch/{script}.py", f"--config=configs/{name}.py:cifar_gpu"]
    command += [f"--config.data.path={session.data}", f"--workdir={workdir}", *flags]
    for section, values in sections.items():
        command += [f"--config.{section}.{key}={value}" for key, value in values.items()]
    with (session.out / f"{name}.log").open("ab") as log:
        try:
            subprocess.run(
                command,
                cwd=ROOT,
                env={**os.environ, **plan.environment, **environment},
                timeout=max(seconds, 1),
                check=True,
                stdout=log,
                stderr=log,
            )
        except subprocess.TimeoutExpired:
            return False
    return True


SECTIONS: Mapping[str, Callable[[Session], Iterator[Line]]] = {
    "parity": parity,
    "ceilings": ceilings,
    "networks": networks,
    "modalities": modalities,
    "stalls": stalls,
    "trainings": trainings,
}
"""In their order, by the names that `--only` knows."""
