"""Curves against an independent reading of the file."""

import json
import math

import numpy as np
import pytest

from mmdiffusion_jax.report.curves import MOST_CURVES, Curve, Curves
from tests.report.workdirs import write_lines


def thinned(values, most):
    """The indices that stay, by the definition, from all values at once."""
    width = 1
    while math.ceil(len(values) / width) > most // 2:
        width *= 2
    kept = {len(values) - 1}
    for start in range(0, len(values), width):
        part = np.asarray(values[start : start + width])
        finite = np.isfinite(part)
        if finite.any():
            kept.add(start + int(np.where(finite, part, np.inf).argmin()))
            backward = np.where(finite, part, -np.inf)[::-1]
            kept.add(start + len(part) - 1 - int(backward.argmax()))
        if not finite.all():
            kept.add(start + int((~finite).argmax()))
    return sorted(kept)


@pytest.mark.parametrize("count", [1, 2, 7, 8, 9, 16, 17, 63, 64, 65, 1000])
@pytest.mark.parametrize("kind", ["ties", "floats", "holes"])
def test_what_stays_of_a_curve(count, kind):
    rng = np.random.default_rng(count)
    values = rng.integers(0, 3, count) * 1.0 if kind == "ties" else rng.normal(size=count)
    if kind == "holes":
        values[rng.random(count) < 0.2] = np.nan
    curve = Curve(most=8)
    for step, value in enumerate(values):
        curve.add(step, float(value))
    steps, kept = np.array(curve.points()).T
    want = thinned(values, 8)
    assert steps.tolist() == want
    np.testing.assert_array_equal(kept, values[want])
    assert len(want) <= 8 // 2 * 3 + 1
    assert curve.is_thinned == (len(want) < count)
    if count <= 8 and kind != "holes":
        assert len(want) == count


def lines_of(count):
    rng = np.random.default_rng(0)
    return [{"step": 10 * k, "train/loss": x, "a": -x} for k, x in enumerate(rng.random(count))]


def test_a_file_that_grows_is_read_on(tmp_path):
    lines = lines_of(50)
    curves = Curves(tmp_path / "metrics.jsonl", most=16)
    curves.read()
    assert curves.names() == []
    for count in (1, 7, 7, 50):
        with (tmp_path / "metrics.jsonl").open("a") as stream:
            for line in lines[
                len(curves.to_json().get("a", [[]])[0]) and curves.last_step // 10 + 1 : count
            ]:
                stream.write(json.dumps(line) + "\n")
        curves.read()
        values = [line["train/loss"] for line in lines[:count]]
        want = thinned(values, 16)
        assert curves.to_json()["train/loss"] == [[10 * k for k in want], [values[k] for k in want]]
        assert curves.last("a") == lines[count - 1]["a"]
        assert curves.last_step == lines[count - 1]["step"]


def test_a_file_that_was_cut_by_a_resumed_run_is_read_anew(tmp_path):
    lines = lines_of(9)
    write_lines(tmp_path, lines)
    curves = Curves(tmp_path / "metrics.jsonl")
    curves.read()
    # As `MetricWriter` does it: another file takes its place, and grows beyond the old length.
    again = [{**line, "train/loss": 5.0} for line in lines_of(20)]
    (tmp_path / "other").write_text("".join(json.dumps(x) + "\n" for x in again))
    (tmp_path / "other").rename(tmp_path / "metrics.jsonl")
    curves.read()
    assert curves.to_json()["train/loss"] == [[10 * k for k in range(20)], [5.0] * 20]


def test_half_a_line_waits_and_a_damaged_one_is_counted(tmp_path):
    file = tmp_path / "metrics.jsonl"
    file.write_bytes(
        b'{"step": 1, "a": 1}\n\x00\xff\n[1]\n{"step": 2, "a": "inf"}\n{"step": 3, "a"'
    )
    curves = Curves(file)
    curves.read()
    assert curves.to_json() == {"a": [[1, 2], [1.0, "inf"]]}
    assert curves.damaged == 2
    with file.open("a") as stream:
        stream.write(": 7}\n")
    curves.read()
    assert curves.to_json() == {"a": [[1, 2, 3], [1.0, "inf", 7.0]]}


def test_there_is_a_limit_of_names(tmp_path):
    write_lines(tmp_path, [{"step": 1, **{f"x{k}": k for k in range(MOST_CURVES + 5)}}])
    curves = Curves(tmp_path / "metrics.jsonl")
    curves.read()
    assert len(curves.names()) == MOST_CURVES
    assert len(curves.left_out) == 5
