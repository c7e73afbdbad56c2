"""The table of graceful updates: what passes, what is written, and rows on few seeds."""

import json

import numpy as np
import pytest

from benchmarks.graceful_worlds import fine_tuning, graceful_benchmark, small_queries, table, worlds
from benchmarks.graceful_worlds.table import TABLE, Row

KEYS = {
    "cross_map_gain",
    "self_accuracy_cost",
    "old_decoder_gain",
    "old_denoiser_mse_ratio",
    "negative_flip_cut",
    "error_increase",
    "lqf_gap",
    "lqf_over_naive",
    "leave_one_out_error",
    "kronecker_suboptimality_ratio",
    "small_query_map_gain",
}


def rows(seeds):
    """Each figure at its limit on the first seed and far beyond on the others."""
    figures = {}
    for row in TABLE:
        limit = row.least if row.least is not None else row.most
        beyond = limit + 1 if row.least is not None else limit - 1
        figures[row.name] = np.array([limit, *[beyond] * (len(seeds) - 1)])
        if row.sham:
            figures[row.sham] = np.zeros(len(seeds))
    return figures


def test_the_file_has_means_seeds_and_verdicts(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(table, "PARTS", (rows,))
    out = tmp_path / "new" / "f.json"
    graceful_benchmark(3, 7, str(out))
    figures = json.loads(out.read_text())
    assert figures.keys() >= KEYS
    assert all(figures["passed"].values())
    assert figures["first_seed"] == 7
    for name in KEYS:
        assert figures[name] == pytest.approx(np.mean(figures["seeds"][name]))
        assert figures["spread"][name] == pytest.approx(np.std(figures["seeds"][name], ddof=1))
    assert "| cross_map_gain |" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("row", "values", "passes"),
    [
        (Row("x", least=0.3), [0.2, 0.5], True),
        (Row("x", least=0.3, every=True), [0.2, 0.5], False),
        (Row("x", most=0.3), [0.2, 0.5], False),
        (Row("x", most=0.3), [0.2, float("nan")], False),
        (Row("x", least=1.0, every=True), [True, True], True),
    ],
)
def test_what_passes(row, values, passes):
    assert table._passes(row, np.array(values)) is passes


def test_bad_requests(tmp_path):
    with pytest.raises(ValueError, match="`seeds`: got 1, expected 2 or more"):
        graceful_benchmark(1, 0, str(tmp_path / "f.json"))
    with pytest.raises(ValueError, match="`first_seed`: got -1"):
        graceful_benchmark(2, -1, str(tmp_path / "f.json"))


def test_splits_do_not_overlap_and_differ_by_seed():
    world = worlds.worlds([0, 1])
    assert world["x_old"].shape == (2, 150, 64)
    np.testing.assert_array_equal(world["x_new"][:, :150], world["x_old"])
    assert np.any(np.asarray(world["y_test"][0]) != np.asarray(world["y_test"][1]))
    x, y = worlds.digits()
    seen = np.concatenate([world["x_new"][0], world["x_test"][0]])
    assert sorted(map(tuple, seen)) == sorted(map(tuple, x))
    assert len(y) == len(seen)
    task = fine_tuning._task(0, 5, "inverted")
    np.testing.assert_array_equal(np.bincount(task["y"]), np.full(10, 5))
    known = {tuple(row) for row in np.concatenate([task["x_before"], -task["x"]])}
    # Some digits are there twice, pixel by pixel, but hardly ever.
    assert sum(tuple(row) in known for row in -task["x_test"]) < 3


def test_multiply_adds_are_those_of_the_layers():
    assert small_queries.macs(worlds.Mlp((6, 32))) == 64 * 6 + 6 * 32
    assert small_queries.macs(small_queries.LARGE) == 64 * 512 + 512 * 512 + 512 * 32


@pytest.mark.long
def test_leave_one_out_is_exact():
    assert fine_tuning.exactness_rows([3])["leave_one_out_error"][0] < 1e-9
