"""What is asked for is measured, and the results are kept."""

import json

import pytest

from benchmarks.speed import conduct, report, suite
from benchmarks.speed.harness import Row
from benchmarks.speed.worker import Unavailable


def measured(**values):
    return lambda pace: {
        name: Row(value, (value,) * 4, {"rounds": pace.rounds}) for name, value in values.items()
    }


def unavailable(pace):
    raise Unavailable("it needs a moon")


def broken(pace):
    raise RuntimeError("its last words")


@pytest.fixture
def benchmarks(monkeypatch):
    three = {
        "apples": suite.Benchmark({"apples_over_pears": 0.5}, measured(apples_over_pears=0.4), "a"),
        "pair": suite.Benchmark({"one": 1.0, "two": None}, measured(one=1.5, two=0.25), "b"),
        "moon": suite.Benchmark({"tides": 1.0}, unavailable, "c"),
    }
    monkeypatch.setattr(conduct, "BENCHMARKS", three)
    return three


def read(folder):
    return json.loads((folder / "results.json").read_text())


def test_every_row_is_written_with_its_goal(benchmarks, tmp_path, capsys):
    conduct.run([], False, str(tmp_path / "new"))
    written = read(tmp_path / "new")
    assert (written["apples_over_pears"], written["one"], written["two"]) == (0.4, 1.5, 0.25)
    assert {name: row["met"] for name, row in written["details"].items()} == {
        "apples_over_pears": True,
        "one": False,
        "two": None,
    }
    assert written["skipped"] == {"tides": "it needs a moon"}
    assert written["details"]["one"]["rounds"] == conduct.FULL.rounds
    assert written["versions"]["jax"].count(".") >= 2
    table = (tmp_path / "new" / "results.md").read_text()
    assert "| `one` | 1.500 | 1.500–1.500 | ≤ 1.0 | no |" in table
    assert "- `tides`: it needs a moon." in table
    assert capsys.readouterr().out == table


def test_only_some_and_the_others_stay(benchmarks, tmp_path):
    conduct.run([], False, str(tmp_path))
    conduct.run(["two"], True, str(tmp_path))
    written = read(tmp_path)
    assert written["details"]["two"]["quick"]
    assert not written["details"]["apples_over_pears"]["quick"]


def test_results_of_other_versions_go(benchmarks, tmp_path):
    conduct.run([], False, str(tmp_path))
    before = read(tmp_path)
    before["versions"]["jax"] = "0.0.1"
    (tmp_path / "results.json").write_text(json.dumps(before))
    conduct.run(["apples"], False, str(tmp_path))
    assert list(read(tmp_path)["details"]) == ["apples_over_pears"]


def test_one_that_breaks_leaves_the_others(benchmarks, tmp_path):
    benchmarks["apples"] = suite.Benchmark({"apples_over_pears": 0.5}, broken, "a")
    with pytest.raises(RuntimeError, match="apples: its last words"):
        conduct.run([], False, str(tmp_path))
    written = read(tmp_path)
    assert written["skipped"]["apples_over_pears"] == "it broke"
    assert written["one"] == 1.5


def test_an_unknown_name(benchmarks, tmp_path):
    with pytest.raises(ValueError, match=r"`only`: got 'appels', .*did you mean 'apples'\?"):
        conduct.run(["appels"], False, str(tmp_path))


def test_a_failed_write_leaves_the_old_results(benchmarks, tmp_path, monkeypatch):
    conduct.run([], False, str(tmp_path))
    before = (tmp_path / "results.json").read_bytes()
    broken = {**read(tmp_path), "details": {"one": object()}}
    with pytest.raises(TypeError):
        report.write(tmp_path, broken)
    assert (tmp_path / "results.json").read_bytes() == before


def test_names_are_told_apart():
    rows = [row for benchmark in suite.BENCHMARKS.values() for row in benchmark.goals]
    assert len(rows) == len(set(rows))
    assert not set(rows) & set(suite.BENCHMARKS)
