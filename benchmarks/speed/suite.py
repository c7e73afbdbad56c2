"""The benchmarks on the processor, by name; each is our time over another's, in float32."""

import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from benchmarks.speed import sizes
from benchmarks.speed.harness import Measured, Pace, Row, Worker, blocks, interleave, ratio, workers

# No flags of the compiler, no compiled programs of earlier runs, no GPU; huge pages for both sides.
CPU = {
    "GLIBC_TUNABLES": "glibc.malloc.hugetlb=1",
    "JAX_PLATFORMS": "cpu",
    "XLA_FLAGS": "",
    "JAX_ENABLE_COMPILATION_CACHE": "false",
    "CUDA_VISIBLE_DEVICES": "",
}
TWO_DEVICES = {**CPU, "JAX_NUM_CPU_DEVICES": "2"}
OURS, RIVAL, LOOPS = (f"benchmarks.speed.{name}" for name in ("ours", "rival", "loops"))
MODALITIES = {1: "one_modality", 2: "two_modalities", 3: "three_modalities", 4: "four_modalities"}
MODALITIES[8] = "eight_modalities"


@dataclass(frozen=True)
class Benchmark:
    """One measurement, which may give several rows.

    Attributes:
        goals: {row: greatest value that will do, or None where there is no goal}.
        measure: how long to take → {row: what was measured}.
        title: what is compared.
    """

    goals: Mapping[str, float | None]
    measure: Callable[[Pace], Mapping[str, Row]]
    title: str


def pair(
    name: str,
    arm: str,
    size: Mapping[str, Any],
    compiled: bool = False,
    environment: Mapping[str, str] = CPU,
) -> Callable[[Pace], dict[str, Row]]:
    """One arm of ours against the same of PyTorch."""

    def measure(pace: Pace) -> dict[str, Row]:
        ours = (f"{OURS}:arms", {"size": size}, environment)
        theirs = (f"{RIVAL}:arms", {"size": size, "compiled": compiled}, CPU)
        with workers(ours=ours, torch=theirs) as sides:
            measured = interleave({side: (worker, arm) for side, worker in sides.items()}, pace)
        return {name: ratio("ours", "torch", measured, size=size)}

    return measure


def modalities(pace: Pace) -> dict[str, Row]:
    """The train step with light modalities beside the image, over the image's alone."""
    counts = (0, *MODALITIES)
    options = {"size": sizes.DIT, "counts": counts}
    with workers(ours=(f"{OURS}:with_modalities", options, CPU)) as sides:
        measured = interleave({str(n): (sides["ours"], str(n)) for n in counts}, pace)
    return {
        f"{MODALITIES[n]}_over_none": ratio(str(n), "0", measured, size=sizes.DIT)
        for n in MODALITIES
    }


def scanned(pace: Pace) -> dict[str, Row]:
    """A scan over the layers that keeps nothing of them, over layers written out that keep all."""
    folded = {**sizes.DEEP_DIT, "scan_layers": True, "remat": "nothing_saveable"}
    plain = {**sizes.DEEP_DIT, "scan_layers": False, "remat": "none"}
    folded_side, plain_side = ((f"{OURS}:arms", {"size": size}, CPU) for size in (folded, plain))
    with workers(folded=folded_side, plain=plain_side) as sides:
        held = {name: worker.run("memory").value for name, worker in sides.items()}
        measured = interleave({name: (worker, "train") for name, worker in sides.items()}, pace)
    return {
        "scan_remat_memory_over_unrolled": Row(
            held["folded"] / held["plain"], (), {"bytes": held, "size": folded}
        ),
        "scan_remat_time_over_unrolled": ratio("folded", "plain", measured, size=folded),
    }


def flops(pace: Pace) -> dict[str, Row]:
    """Operations of a compiled forward pass over those that the formula counts."""
    del pace
    with Worker(f"{OURS}:counted", {"size": sizes.DIT}, CPU) as worker:
        counts = {name: worker.run(name).value for name in ("analytic", "compiled")}
    value = counts["compiled"] / counts["analytic"]
    return {"flops_over_analytic": Row(value, (), {"flops": counts, "size": sizes.DIT})}


def cold_compile(pace: Pace) -> dict[str, Row]:
    """The first train step of a process, with nothing compiled before."""
    seconds: dict[str, list[float]] = {"ours": [], "torch": []}
    for _ in range(max(1, pace.rounds // 11)):
        with tempfile.TemporaryDirectory() as empty:
            cold = {**CPU, "TORCHINDUCTOR_CACHE_DIR": empty}
            for name, target, options in (
                ("ours", f"{OURS}:arms", {"size": sizes.DIT}),
                ("torch", f"{RIVAL}:arms", {"size": sizes.DIT, "compiled": True}),
            ):
                with Worker(target, options, cold) as worker:
                    seconds[name].append(worker.run("train").seconds)
    measured = Measured(seconds, {})
    return {"cold_compile_over_torch_compile": ratio("ours", "torch", measured, size=sizes.DIT)}


def trainer(pace: Pace) -> dict[str, Row]:
    """A step of `apps.train` over the compiled step alone, on the digits."""
    # A log each turn and a checkpoint each block of them, as the config has them. Turns are short,
    # as the machine's speed changes within seconds.
    count, turns = (100, 10) if pace.rounds > 3 else (50, 2)
    pace = Pace(min(pace.rounds, 6) * turns, count=count)
    with tempfile.TemporaryDirectory() as folder:
        options = {"folder": folder, "log_every": count, "checkpoint_every": count * turns}
        loop, bare = ((f"{LOOPS}:{name}", options, CPU) for name in ("loop", "bare"))
        with workers(loop=loop, bare=bare) as sides:
            measured = interleave({name: (worker, "step") for name, worker in sides.items()}, pace)
    measured = blocks(measured, turns)
    return {"trainer_over_bare_step": ratio("loop", "bare", measured, steps_a_round=count * turns)}


def stalls(pace: Pace) -> dict[str, Row]:
    """The share of its time that the training loop waits for the next batch, on the digits."""
    num_steps = 2000 if pace.rounds > 3 else 500
    with tempfile.TemporaryDirectory() as folder:
        options = {"folder": folder, "num_steps": num_steps}
        with Worker(f"{LOOPS}:stalls", options, CPU) as worker:
            share = worker.run("share").value
    return {"input_stall_share": Row(share, (), {"steps": num_steps})}


def input_pipeline(pace: Pace) -> dict[str, Row]:
    """A batch of images and labels from an `.npz` file over the same from PyTorch's DataLoader."""
    draws = np.random.default_rng(0)
    images = draws.integers(0, 256, (20_000, 32, 32, 3)).astype(np.uint8)
    with tempfile.TemporaryDirectory() as folder:
        path = f"{folder}/examples.npz"
        np.savez(path, image=images, label=draws.integers(0, 10, len(images)))
        options = {"path": path, "batch_size": 256}
        loader = f"{RIVAL}_loader:pipeline"
        sides = {
            "ours": (f"{LOOPS}:pipeline", options, CPU),
            "two_workers": (loader, options, CPU),
            "no_worker": (loader, {**options, "num_workers": 0}, CPU),
        }
        with workers(**sides) as started:
            arms = {name: (worker, "batches") for name, worker in started.items()}
            measured = interleave(arms, pace)
    rows = [ratio("ours", name, measured, rival=name) for name in ("two_workers", "no_worker")]
    # Against the faster of the two ways to use it.
    return {"input_pipeline_over_torch_dataloader": max(rows, key=lambda row: row.value)}


BENCHMARKS = {
    "forward": Benchmark(
        {"forward_over_torch_eager": 0.95},
        pair("forward_over_torch_eager", "forward", sizes.DIT),
        "forward pass of a DiT",
    ),
    "sampler": Benchmark(
        {"sampler_step_over_torch_eager": 0.95},
        pair("sampler_step_over_torch_eager", "sampler", sizes.DIT),
        "ten steps of DDIM with a DiT",
    ),
    "train": Benchmark(
        {"train_step_over_torch_eager": 1.2},
        pair("train_step_over_torch_eager", "train", sizes.DIT),
        "train step of a DiT",
    ),
    "train_compiled": Benchmark(
        {"train_step_over_torch_compiled": 1.2},
        pair("train_step_over_torch_compiled", "train", sizes.DIT, compiled=True),
        "train step of a DiT",
    ),
    "adm": Benchmark(
        {"adm_train_step_over_torch_eager": 1.6},
        pair("adm_train_step_over_torch_eager", "train", sizes.ADM),
        "train step of ADM's U-Net",
    ),
    "adm_sharded": Benchmark(
        {"adm_train_step_two_devices_over_torch_eager": 1.2},
        pair(
            "adm_train_step_two_devices_over_torch_eager",
            "train",
            sizes.ADM,
            environment=TWO_DEVICES,
        ),
        "train step of ADM's U-Net, the batch split over two devices of one core each",
    ),
    "modalities": Benchmark(
        {
            f"{name}_over_none": 1.02 if n == 1 else 1.05 if n < 4 else 1.1
            for n, name in MODALITIES.items()
        },
        modalities,
        "train step with light modalities beside the image over the image alone",
    ),
    "flops": Benchmark({"flops_over_analytic": 1.02}, flops, "operations of a forward pass"),
    "scan": Benchmark(
        {"scan_remat_memory_over_unrolled": 0.4, "scan_remat_time_over_unrolled": 1.2},
        scanned,
        "a scan over layers that are computed anew, over layers written out and kept",
    ),
    "compile": Benchmark(
        {"cold_compile_over_torch_compile": 0.33}, cold_compile, "first train step of a DiT"
    ),
    "trainer": Benchmark(
        {"trainer_over_bare_step": 1.05}, trainer, "step of the training loop over the step alone"
    ),
    "stalls": Benchmark({"input_stall_share": 0.02}, stalls, "share of time without a batch"),
    "pipeline": Benchmark(
        {"input_pipeline_over_torch_dataloader": 1.0}, input_pipeline, "batch of 256 examples"
    ),
}
"""By the names that `--only` knows beside those of rows."""
