"""Runs all rows, holds them against what they should give, and writes one file."""

import json
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from absl import logging

from benchmarks.graceful_worlds.encoders import chain_rows, encoder_rows
from benchmarks.graceful_worlds.fine_tuning import (
    exactness_rows,
    fine_tuning_rows,
    preconditioning_rows,
)
from benchmarks.graceful_worlds.flips import flip_rows
from benchmarks.graceful_worlds.ranges import range_rows
from benchmarks.graceful_worlds.small_queries import small_query_rows
from mmdiffusion_jax import errors, files

PARTS: tuple[Callable[[Sequence[int]], Mapping[str, np.ndarray]], ...] = (
    encoder_rows,
    flip_rows,
    fine_tuning_rows,
    exactness_rows,
    preconditioning_rows,
    small_query_rows,
    chain_rows,
)


class Row(NamedTuple):
    """A figure that is asked for.

    Attributes:
        name: of the figure.
        least: what its mean over seeds should reach, or None.
        most: what it should not exceed, or None.
        sham: the same figure of something that should fail, or "".
        every: whether each seed has to pass, not the mean alone.
    """

    name: str
    least: float | None = None
    most: float | None = None
    sham: str = ""
    every: bool = False


TABLE = (
    Row("is_compatible", least=1.0, every=True),
    Row("cross_map_gain", least=0.3, sham="map_free_old"),
    Row("self_accuracy_cost", most=0.01),
    Row("old_decoder_gain", least=0.02, sham="old_decoder_on_free"),
    Row("old_denoiser_mse_ratio", most=1.1, sham="old_denoiser_mse_ratio_free"),
    Row("negative_flip_cut", least=0.25, sham="negative_flip_cut_inverted"),
    Row("error_increase", most=0.006),
    Row("lqf_gap", most=0.03),
    Row("lqf_over_naive", least=0.015),
    Row("alpha_1_loss_inverted_5_shots", least=0.2),
    Row("leave_one_out_error", most=1e-6, every=True),
    Row("kronecker_suboptimality_ratio", least=10.0, sham="diagonal_suboptimality_ratio"),
    Row("small_query_map_gain", least=0.05, sham="small_query_map_independent"),
)
"""The figures of the table, in its order."""


def graceful_benchmark(num_seeds: int, first_seed: int, out: str, ranges: bool = False) -> str:
    """Reproduces what graceful updates give, and writes every figure of every seed.

    The file has the mean of each figure at its top, its standard deviation under "spread", its
    values under "seeds", and under "passed" what `TABLE` asks for. Shares are fractions. Shares of
    flips are pooled over seeds, as one seed has a handful.

    Args:
        num_seeds: 2 or more.
        first_seed: the seeds count up from it.
        out: the JSON file.
        ranges: whether ranges of scales, widths and weights are gone through as well.

    Returns:
        The table in Markdown.

    Raises:
        ValueError: fewer than 2 seeds, a negative one, or a file that cannot be written.
    """
    if num_seeds < 2:
        raise errors.invalid("seeds", num_seeds, "2 or more", "a spread needs them")
    if first_seed < 0:
        raise errors.invalid("first_seed", first_seed, "0 or more", "raise it")
    file = files.writable_file(out, "out", make_folder=True)
    seeds = range(first_seed, first_seed + num_seeds)
    rows: dict[str, np.ndarray] = {}
    seconds: dict[str, float] = {}
    for part in (*PARTS, *([range_rows] if ranges else [])):
        begun = time.monotonic()
        rows |= {name: np.asarray(x, np.float64) for name, x in part(seeds).items()}
        seconds[part.__name__] = time.monotonic() - begun
        logging.info("%s: %.0f s.", part.__name__, seconds[part.__name__])
    passed = {row.name: _passes(row, rows[row.name]) for row in TABLE}
    report: dict[str, Any] = {name: float(np.mean(values)) for name, values in rows.items()}
    report |= {
        "passed": passed,
        "spread": {name: float(np.std(x, ddof=1)) for name, x in rows.items()},
        "seeds": {name: x.tolist() for name, x in rows.items()},
        "first_seed": first_seed,
        "num_seeds": num_seeds,
        "seconds": seconds,
    }
    file.parent.mkdir(parents=True, exist_ok=True)
    files.write_text(file, json.dumps(report, indent=2) + "\n")
    table = _table(rows, passed)
    print(table, flush=True)
    return table


def _passes(row: Row, values: np.ndarray) -> bool:
    figure = values if row.every else np.mean(values)
    # A figure that is no number does not pass.
    return bool(
        np.all(np.isfinite(figure))
        and (row.least is None or np.all(figure >= row.least))
        and (row.most is None or np.all(figure <= row.most))
    )


def _table(rows: Mapping[str, np.ndarray], passed: Mapping[str, bool]) -> str:
    lines = ["| figure | mean ± spread | asked for | passes | sham |", "|---|---:|---:|---|---:|"]
    for row in TABLE:
        asked = f"≥ {row.least:g}" if row.least is not None else f"≤ {row.most:g}"
        sham = _spread(rows[row.sham]) + f" ({row.sham})" if row.sham else ""
        lines.append(
            f"| {row.name} | {_spread(rows[row.name])} | {asked}{' on each seed' * row.every} "
            f"| {'yes' if passed[row.name] else 'no'} | {sham} |"
        )
    others = sorted(set(rows) - {row.name for row in TABLE} - {row.sham for row in TABLE})
    lines += ["", "| other figures | mean ± spread |", "|---|---:|"]
    lines += [f"| {name} | {_spread(rows[name])} |" for name in others]
    return "\n".join(lines)


def _spread(values: np.ndarray) -> str:
    return f"{values.mean():.4g} ± {values.std(ddof=1):.2g}"
