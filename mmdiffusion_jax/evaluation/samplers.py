"""Compares samplers: quality and speed by the number of visited states."""

import dataclasses
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np

from mmdiffusion_jax import data, files
from mmdiffusion_jax.evaluation.real import RealData
from mmdiffusion_jax.experiment import Experiment, SamplingOptions

REFERENCE = "ancestral, every step"
"""The sampler that the others are compared with."""


@dataclasses.dataclass(frozen=True)
class Figures:
    """Figures of joint samples by one sampler with one number of states.

    Attributes:
        sampler: its name, or `REFERENCE`.
        num_steps: how many states were visited.
        frechet: the Fréchet distance of the images to test images, over that of training images.
        agreement: the mean agreement of images and labels by the judges; None without labels.
        seconds: wall time for all samples, compilation left out.
        seconds_ratio: over that of the reference in the same run.
    """

    sampler: str
    num_steps: int
    frechet: float
    agreement: float | None
    seconds: float
    seconds_ratio: float


def compare_samplers(
    experiment: Experiment,
    params: Any,
    train: data.Source,
    test: data.Source,
    samplers: Sequence[str],
    steps: Sequence[int],
) -> Iterator[Figures]:
    """Figures of every sampler with every number of states, the reference's first.

    All start from the same noise. Everything else is as in the experiment's sampling options.

    Args:
        experiment: with an image as its primary modality.
        params: parameters, usually the moving average.
        train: the training split, for judges and the floor only.
        test: the test split.
        samplers: names of `sampling.SAMPLERS`.
        steps: numbers of states, at most the schedule's.

    Raises:
        ValueError: no image to generate, an unknown sampler, numbers out of range, or test images
            that are those of training.
    """
    real = RealData(experiment, train, test)
    real.check()
    # Refuses data without a floor before anything is drawn.
    real.floor(min(experiment.evaluation.num_samples, real.most_for_floor))
    every = experiment.process.num_steps

    def choose(sampler: str, num_steps: int | None) -> SamplingOptions:
        options = dataclasses.replace(experiment.sampling, sampler=sampler, num_steps=num_steps)
        options.times(experiment.process.schedule)  # refuses a bad number before anything is drawn
        return options

    plans = [(REFERENCE, choose("ancestral", None))]
    plans += [(name, choose(name, count)) for name in samplers for count in steps]
    reference = 0.0
    for name, options in plans:
        samples, seconds = _timed(experiment, params, options)
        reference = reference or seconds
        images = samples[experiment.model.primary]
        agreements = [
            real.agreement(label, real.primary, images, samples[label])
            for label in real.labels
            if label in samples
        ]
        yield Figures(
            name,
            options.num_steps or every,
            real.frechet_ratio(real.features(images)),
            float(np.mean(agreements)) if agreements else None,
            seconds,
            seconds / reference,
        )


def sampler_table(runs: Sequence[Sequence[Figures]]) -> str:
    """Mean and standard deviation over runs of `compare_samplers`, as a table in Markdown."""
    lines = [
        "| sampler | states | Fréchet / floor | over reference | agreement | seconds | time |",
        "|---|---:|---:|---:|---:|---:|---:|",
    ]
    for row in zip(*runs, strict=True):
        frechet = [figures.frechet for figures in row]
        over = [figures.frechet / run[0].frechet for figures, run in zip(row, runs, strict=True)]
        agreement = [figures.agreement for figures in row if figures.agreement is not None]
        lines.append(
            f"| {row[0].sampler} | {row[0].num_steps} | {_spread(frechet)} | {_spread(over)} "
            f"| {_spread(agreement, 3)} | {_spread([f.seconds for f in row], 1)} "
            f"| × {np.mean([f.seconds_ratio for f in row]):.2f} |"
        )
    return "\n".join(lines)


def plot_samplers(runs: Sequence[Sequence[Figures]], file: str | Path) -> None:
    """Draws Fréchet distance and agreement against the number of states.

    Args:
        runs: `compare_samplers` of each run; lines are means, bands one standard deviation.
        file: the picture to write.
    """
    from matplotlib.figure import Figure
    from matplotlib.ticker import LogFormatter

    figure = Figure(figsize=(9, 3.6), layout="constrained")
    panels = figure.subplots(1, 2)
    titles = {"frechet": "Fréchet distance / floor", "agreement": "image–label agreement"}
    for axes, (field, title) in zip(panels, titles.items(), strict=True):
        for name in dict.fromkeys(row.sampler for row in runs[0]):
            rows = [[row for row in run if row.sampler == name] for run in runs]
            figures = [[getattr(row, field) for row in run] for run in rows]
            if figures[0][0] is None:
                continue
            counts, values = [row.num_steps for row in rows[0]], np.array(figures, float)
            mean, spread = values.mean(0), values.std(0, ddof=len(runs) > 1)
            if name == REFERENCE:
                axes.axhline(mean[0], color="black", linestyle="--", linewidth=1, label=name)
                axes.axhspan(mean[0] - spread[0], mean[0] + spread[0], color="black", alpha=0.1)
                continue
            (line,) = axes.plot(counts, mean, marker="o", markersize=3, label=name)
            axes.fill_between(
                counts, mean - spread, mean + spread, color=line.get_color(), alpha=0.2
            )
        axes.set(xscale="log", xlabel="visited states", title=title)
        ticks = sorted({row.num_steps for row in runs[0]})
        axes.set_xticks(ticks, [str(tick) for tick in ticks])
        axes.minorticks_off()
        axes.grid(alpha=0.3)
    panels[0].set_yscale("log")
    panels[0].yaxis.set_major_formatter(LogFormatter())
    panels[0].yaxis.set_minor_formatter(LogFormatter(minor_thresholds=(2, 0.5)))
    panels[1].legend(fontsize="small")
    with files.replacing(file) as stream:
        figure.savefig(stream, dpi=120, format="png")


def _timed(experiment: Experiment, params: Any, options: SamplingOptions) -> tuple[Any, float]:
    generate = experiment.generator(options)
    key = jax.random.key(experiment.evaluation.seed)
    count = experiment.evaluation.num_samples
    generate(key, params, min(count, options.batch_size))
    start = time.perf_counter()
    samples = generate(key, params, count)
    return samples, time.perf_counter() - start


def _spread(values: Sequence[float], digits: int = 2) -> str:
    if not values:
        return "–"
    mean = f"{np.mean(values):.{digits}f}"
    return mean if len(values) == 1 else f"{mean} ± {np.std(values, ddof=1):.{digits}f}"
