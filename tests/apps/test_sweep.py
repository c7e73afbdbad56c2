"""Sweeps: expansion and names, what is refused, training in parallel, arrays and tables."""

import csv
import itertools
import json
import os
import re
import shlex
import shutil
import signal
import stat
import subprocess
import sys
import threading
import time

import pytest

from mmdiffusion_jax import apps, experiment
from tests.apps.small import ROOT, SMALL, launch

CONFIG = """
from configs import smoke

def get_config(form="plain"):
    config = smoke.get_config()
    config.backbone.width = 64 if form == "wide" else 16
    return config

def get_sweep({parameters}):
    return {sweep}
"""
# Stands in for launch/train.py: writes what a run leaves behind, and ends as its folder asks.
TRAIN = """\
#!/usr/bin/env bash
for flag in "$@"; do [[ $flag == --workdir=* ]] && workdir=${flag#--workdir=}; done
printf '%s\\n' "$*" >>"$workdir/../starts"
printf 'start %s\\n' "$(date +%s%N)" >>"$workdir/times"
echo "I train."
sleep "${SECONDS_OF_A_RUN:-0.3}" &
trap 'kill $!; echo end; printf "end %s\\n" "$(date +%s%N)" >>"$workdir/times"; exit 75' TERM
wait $!
printf 'end %s\\n' "$(date +%s%N)" >>"$workdir/times"
codes=$workdir/../codes-$(basename "$workdir")
code=$(tail -n 1 "$codes" 2>/dev/null)
sed -i '$d' "$codes" 2>/dev/null
code=${code:-0}
if [[ $code == 0 ]]; then
  mkdir -p "$workdir/checkpoints/100"
  printf '{"step": 100, "train/loss": 1.0}\\n{"step": 100, "eval/loss": 0.5}\\n' \\
    >>"$workdir/metrics.jsonl"
fi
exit "$code"
"""


@pytest.fixture
def train(tmp_path):
    file = tmp_path / "train"
    file.write_text(TRAIN)
    file.chmod(file.stat().st_mode | stat.S_IXUSR)
    return [str(file)]


@pytest.fixture
def write_config(tmp_path):
    def write(sweep, parameters=""):
        file = tmp_path / "config.py"
        file.write_text(CONFIG.format(sweep=sweep, parameters=parameters))
        return str(file)

    return write


def finish(a_run, step, evaluated=True, **metrics):
    """What a run leaves behind that has reached this step."""
    if evaluated:
        metrics = {"eval/loss": 1.0, **metrics}
    (a_run.workdir / "checkpoints" / str(step)).mkdir(parents=True)
    lines = [{"step": step, "train/loss": 2.0}, {"step": step, **metrics}]
    text = "".join(json.dumps(line) + "\n" for line in lines)
    (a_run.workdir / "metrics.jsonl").write_text(text)


def starts(root):
    file = root / "starts"
    return file.read_text().splitlines() if file.exists() else []


SEEDS = "[{'seed': k} for k in range(4)]"


# Expansion and names.


def test_a_run_has_the_config_that_its_flags_give(tmp_path, write_config):
    config = write_config("[{'training.learning_rate': 1e-5, 'data.size': (8, 8), 'seed': 3}]")
    (only,) = apps.expand_sweep(config, str(tmp_path / "w"), ["--config.backbone.depth=1"])
    expected = experiment.read_config_file(config)
    expected.training.learning_rate = 1e-5
    expected.data.size = (8, 8)
    expected.seed = 3
    expected.backbone.depth = 1
    assert only.config.to_dict() == expected.to_dict()
    assert only.arguments[-1] == f"--workdir={only.workdir}"
    assert only.workdir.parent == tmp_path / "w"
    assert not (tmp_path / "w").exists()


def test_the_example_in_the_configs(tmp_path):
    runs = apps.expand_sweep("configs/smoke.py", str(tmp_path))
    pairs = {(r.config.training.learning_rate, r.config.seed) for r in runs}
    assert pairs == set(itertools.product((1e-3, 3e-3), (0, 1)))


def test_forms(tmp_path, write_config):
    sweep = "[{'seed': 0 if form == 'wide' else 1}]"
    config = write_config(sweep, "form")
    (wide,) = apps.expand_sweep(f"{config}:wide", str(tmp_path))
    assert (wide.config.backbone.width, wide.config.seed) == (64, 0)
    (wide,) = apps.expand_sweep(f"{write_config(SEEDS[:-9] + 'range(1)]')}:wide", str(tmp_path))
    assert wide.config.backbone.width == 64


AWKWARD = [
    {"data.path": "/a b/ü"},
    {"data.path": "/a-b/u"},
    {"data.path": "A"},
    {"data.path": "a"},
    {"data.path": "x" * 300},
    {"data.path": "x" * 299 + "y"},
    {"data.path": "a,seed=1"},
    {"data.path": "a", "seed": 1},
    {"data.path": "$(rm -r x); `y` 'z' \"|"},
    {"data.size": (8, 8)},
    {"data.size": (8, 88)},
    {"training.learning_rate": 1e-10},
    {"training.learning_rate": 10.0},
    {},
]


def test_names_are_safe_apart_and_stable(tmp_path, write_config):
    runs = apps.expand_sweep(write_config(repr(AWKWARD)), str(tmp_path))
    names = [r.name for r in runs]
    # Apart even where a file system does not tell capitals from small letters.
    assert len({name.lower() for name in names}) == len(AWKWARD)
    assert all(re.fullmatch(r"[a-z0-9._=,+-]{1,140}", name) for name in names)
    assert not set(names) & {".", ".."}
    for overrides, name in zip(AWKWARD, names):
        backward = dict(reversed(overrides.items()))
        (alone,) = apps.expand_sweep(write_config(repr([backward])), str(tmp_path))
        assert alone.name == name


@pytest.mark.parametrize(
    ("sweep", "words"),
    [
        ("[{'seed': 1}, {'training.learning_rat': 1}]", "did you mean 'learning_rate'"),
        ("[{'seeds': 1}]", "did you mean 'seed'"),
        ("[{'backbone.width': 'wide'}]", "backbone.width=wide .*expected keys and values that fit"),
        ("[{'process.schedule': 'cosin'}]", "did you mean 'cosine'"),
        ("[{'backbone': {'kind': 'unet'}}]", "`config.backbone`: .*name the keys inside"),
        ("[{'seed': 1}, {'seed': 1}]", "got seed=1 twice"),
        ("[{'training.learning_rate': 1}, {'training.learning_rate': 1.0}]", "=1.0 twice"),
        ("[]", "expected one dict of overrides or more"),
        ("{'seed': 1}", "expected one dict of overrides or more"),
        ("['seed=1']", "expected a dict of overrides"),
    ],
)
def test_bad_sweeps_start_nothing(tmp_path, write_config, sweep, words):
    root = tmp_path / "w"
    with pytest.raises(ValueError, match=words):
        apps.expand_sweep(write_config(sweep), str(root))
    assert not root.exists()


def test_bad_files_and_flags(tmp_path, write_config):
    with pytest.raises(ValueError, match="without a function get_sweep"):
        apps.expand_sweep("configs/digits.py", str(tmp_path))
    with pytest.raises(ValueError, match="expected a config file"):
        apps.expand_sweep("configs/missing.py", str(tmp_path))
    config = write_config(SEEDS)
    for flag in ("seed", "--workdir=x", "--config=x"):
        with pytest.raises(ValueError, match="expected further flags"):
            apps.expand_sweep(config, str(tmp_path), [flag])
    with pytest.raises(ValueError, match=r"config.seed from get_sweep\(\) and as a flag"):
        apps.expand_sweep(config, str(tmp_path), ["--config.seed=1"])


def test_options_of_a_cluster_without_the_cluster(tmp_path):
    done = launch(
        "sweep", "--config=configs/smoke.py", f"--workdir={tmp_path / 'w'}", "--sbatch=--time=1"
    )
    assert done.returncode == 1
    assert "--sbatch without --slurm or --submit says nothing" in done.stderr
    assert not (tmp_path / "w").exists()


def test_another_experiment_under_the_same_name_is_refused(tmp_path, write_config):
    config = write_config(SEEDS)
    third = apps.expand_sweep(config, str(tmp_path))[2]
    other = third.config.copy_and_resolve_references()
    other.training.learning_rate = 0.5
    with experiment.hold_workdir(third.workdir, other):
        pass
    with pytest.raises(ValueError, match=r"seed=2, which holds .* differs in training\.learning"):
        apps.expand_sweep(config, str(tmp_path))


# Training on this machine.


def test_no_more_at_once_than_asked(tmp_path, write_config, train):
    runs = apps.expand_sweep(write_config(SEEDS), str(tmp_path))
    assert apps.train_sweep(runs, train, max_parallel=2) == 0
    events = []
    for r in runs:
        assert (r.workdir / "log.txt").read_text() == "I train.\n"
        lines = (r.workdir / "times").read_text().split()
        events += [
            (int(when), +1 if what == "start" else -1) for what, when in zip(*[iter(lines)] * 2)
        ]
    at_once = list(itertools.accumulate(change for _, change in sorted(events)))
    assert max(at_once) == 2
    assert len(events) == 8


def test_what_is_done_is_not_trained_again(tmp_path, write_config, train):
    runs = apps.expand_sweep(write_config(SEEDS), str(tmp_path))
    finish(runs[0], 100)
    finish(runs[1], 40)
    # Trained to the end, and stopped before it was saved.
    finish(runs[2], 100)
    (runs[2].workdir / "checkpoints" / "100").rmdir()
    wanted = [" ".join(r.arguments) for r in runs[1:]]
    commands = apps.sweep_commands(runs, ["python", "launch/train.py"])
    assert [shlex.split(line)[2:] for line in commands] == [list(r.arguments) for r in runs[1:]]
    assert apps.train_sweep(runs, train, max_parallel=1) == 0
    assert starts(tmp_path) == wanted
    assert apps.train_sweep(runs, train) == 0
    assert starts(tmp_path) == wanted
    assert apps.sweep_commands(runs, train) == []


def test_a_run_whose_last_evaluation_failed_is_not_done(tmp_path, write_config, train):
    """Its checkpoint is there, and the evaluation is made up for when it is started again."""
    runs = apps.expand_sweep(write_config("[{'seed': k} for k in range(3)]"), str(tmp_path))
    finish(runs[0], 100)
    finish(runs[1], 100, evaluated=False)
    finish(runs[2], 100)
    (runs[2].workdir / "exit_code").write_text("1")
    states = states_of(apps.collect_sweep(runs, str(tmp_path)), tmp_path)
    assert [states[run.name] for run in runs] == [
        "done", "step 100, to be evaluated", "failed with exit code 1"
    ]  # fmt: skip
    assert apps.train_sweep(runs, train, max_parallel=1) == 0
    assert starts(tmp_path) == [" ".join(run.arguments) for run in runs[1:]]


def test_a_failed_run_stops_no_other(tmp_path, write_config, train):
    runs = apps.expand_sweep(write_config(SEEDS), str(tmp_path))
    (tmp_path / f"codes-{runs[1].name}").write_text("3\n")
    assert apps.train_sweep(runs, train, max_parallel=2) == 1
    states = states_of(apps.collect_sweep(runs, str(tmp_path)), tmp_path)
    assert states.pop(runs[1].name) == "failed with exit code 3"
    assert set(states.values()) == {"done"}
    # Started again it has no failure any more.
    assert apps.train_sweep(runs, train) == 0
    assert len(starts(tmp_path)) == 5
    apps.collect_sweep(runs, str(tmp_path))
    assert set(states_of(None, tmp_path).values()) == {"done"}


@pytest.mark.parametrize(("restarts", "code", "count"), [(2, 0, 3), (1, 75, 2)])
def test_a_stopped_run_goes_on(tmp_path, write_config, train, restarts, code, count):
    runs = apps.expand_sweep(write_config("[{'seed': 0}]"), str(tmp_path))
    (tmp_path / f"codes-{runs[0].name}").write_text("0\n75\n75\n")
    assert apps.train_sweep(runs, train, restarts=restarts) == code
    assert len(starts(tmp_path)) == count


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_the_runs_politely(tmp_path, write_config, train, monkeypatch, number):
    monkeypatch.setenv("SECONDS_OF_A_RUN", "60")
    runs = apps.expand_sweep(write_config(SEEDS), str(tmp_path))

    def interrupt():
        while not all((r.workdir / "times").exists() for r in runs[:2]):
            time.sleep(0.05)
        time.sleep(0.2)
        os.kill(os.getpid(), number)

    thread = threading.Thread(target=interrupt)
    thread.start()
    began = time.monotonic()
    assert apps.train_sweep(runs, train, max_parallel=2) == 75
    thread.join()
    assert time.monotonic() - began < 20
    assert len(starts(tmp_path)) == 2
    for r in runs[:2]:
        assert (r.workdir / "log.txt").read_text().endswith("end\n")
    apps.collect_sweep(runs, str(tmp_path))
    assert set(states_of(None, tmp_path).values()) == {"not started"}


def test_bad_numbers(tmp_path, write_config, train):
    runs = apps.expand_sweep(write_config(SEEDS), str(tmp_path))
    with pytest.raises(ValueError, match="`max_parallel`: got 0, expected 1 or more"):
        apps.train_sweep(runs, train, max_parallel=0)
    with pytest.raises(ValueError, match="`max_parallel`: got 0, expected 1 or more"):
        apps.write_array(runs, str(tmp_path), "x", max_parallel=0)
    with pytest.raises(ValueError, match="`restarts`: got -1, expected 0 or more"):
        apps.train_sweep(runs, train, restarts=-1)
    assert starts(tmp_path) == []


# Arrays of a cluster.


def test_an_array_has_a_line_for_each_run(tmp_path, write_config):
    runs = apps.expand_sweep(write_config(SEEDS), str(tmp_path / "a b"), ["--config.data.path=x y"])
    finish(runs[1], 100)
    root = str(tmp_path / "a b")
    command = apps.write_array(runs, root, "launch/slurm.sbatch", 2, ["--time=1:00:00"])
    file = command[-1].removeprefix("--sweep_file=")
    with open(file) as lines:
        assert [tuple(shlex.split(line)) for line in lines] == [r.arguments for r in runs]
    assert command[:2] == ["sbatch", "--time=1:00:00"]
    assert "--array=1,3-4%2" in command
    assert command[-2] == "launch/slurm.sbatch"
    # Queued jobs read their line later on: another sweep must not take the file's place.
    fewer = apps.write_array(runs[2:], root, "launch/slurm.sbatch")
    assert fewer[-1] != command[-1]
    assert "--array=1-2" in fewer
    for r in (runs[0], runs[2], runs[3]):
        finish(r, 100)
    assert apps.write_array(runs, root, "launch/slurm.sbatch") == []


# Tables.


def states_of(table, root):
    with (root / "sweep.csv").open() as file:
        rows = list(csv.DictReader(file))
    if table is not None:
        assert (root / "sweep.md").read_text() == table + "\n"
        lines = [line.strip("| ").split(" | ") for line in table.splitlines()]
        assert lines[0] == list(rows[0])
        assert [line[0] for line in lines[2:]] == [row["run"] for row in rows]
    return {row["run"]: row["state"] for row in rows}


def test_the_table(tmp_path, write_config):
    sweep = "[{'seed': k} for k in range(5)] + [{'training.learning_rate': 0.1}]"
    runs = apps.expand_sweep(write_config(sweep), str(tmp_path))
    losses = {0: 0.75, 1: 0.123456789, 2: float("nan"), 3: 0.5}
    for number, loss in losses.items():
        shown = loss if loss == loss else "nan"
        finish(runs[number], 40 if number == 3 else 100, **{"eval/loss": shown, "eval/a": 1.0})
    table = apps.collect_sweep(runs, str(tmp_path))
    states = states_of(table, tmp_path)
    assert list(states) == [runs[k].name for k in (1, 3, 0, 2, 4, 5)]
    assert [states[r.name] for r in runs] == [*["done"] * 3, "step 40 of 100", *["not started"] * 2]
    with (tmp_path / "sweep.csv").open() as file:
        rows = {row["run"]: row for row in csv.DictReader(file)}
    for number, r in enumerate(runs):
        row = rows[r.name]
        for key in ("seed", "training.learning_rate"):
            assert row[key] == str(r.overrides.get(key, ""))
        assert row["step"] == str({3: 40}.get(number, 100) if number in losses else 0)
        assert row["eval/loss"] == (str(losses[number]) if number in losses else "")
    columns = ["run", "seed", "training.learning_rate", "step", "state", "eval/loss", "eval/a"]
    assert list(row) == columns
    chosen = apps.collect_sweep(runs, str(tmp_path), ["train/loss"])
    assert chosen.splitlines()[0].endswith("| state | train/loss |")
    with pytest.raises(ValueError, match=r"`metrics`: got 'eval/los'.* did you mean 'eval/loss'"):
        apps.collect_sweep(runs, str(tmp_path), ["eval/los"])


def test_what_is_done_by_other_settings_is_said(tmp_path, write_config, train, caplog):
    config, root = write_config(SEEDS), str(tmp_path)

    def calls(runs):
        """The warnings of the table, the commands and the array, which leave out what is done."""
        caplog.clear()
        table = apps.collect_sweep(runs, root)
        assert len(apps.sweep_commands(runs, train)) == 2
        assert "--array=3-4" in apps.write_array(runs, root, "launch/slurm.sbatch")
        lines = [x.getMessage() for x in caplog.records if x.levelname == "WARNING"]
        return states_of(table, tmp_path), lines

    runs = apps.expand_sweep(config, root)
    for a_run in runs[:2]:
        with experiment.hold_workdir(a_run.workdir, a_run.config):
            finish(a_run, 100, **{"eval/loss": 1.0})
    states, lines = calls(runs)
    assert list(states.values()) == ["done", "done", "not started", "not started"]
    assert lines == []

    states, lines = calls(apps.expand_sweep(config, root, ["--config.evaluation.seed=7"]))
    assert list(states.values())[:2] == ["done", "done"]
    assert len(lines) == 3
    for line in lines:
        assert "done 2 keep steps and figures of other settings: evaluation.seed 7 (0 th" in line

    fewer = apps.expand_sweep(config, root, ["--config.training.num_steps=40"])
    states, lines = calls(fewer)
    assert list(states.values())[:2] == ["step 100, beyond num_steps 40"] * 2
    assert len(lines) == 3
    for line in lines:
        assert "other settings: training.num_steps 40 (100 there). " in line
    # Said before the others are trained, and not where the table follows at once.
    caplog.clear()
    assert apps.train_sweep(fewer, train, max_parallel=2) == 0
    assert caplog.text.count("training.num_steps 40 (100 there)") == 1
    caplog.clear()
    assert apps.train_sweep(fewer, train) == 0
    assert "training.num_steps" not in caplog.text
    assert len(starts(tmp_path)) == 2


# The launch script.

STOPPED = """
import runpy, sys
from mmdiffusion_jax import apps
apps.train_sweep = lambda *arguments: 75
runpy.run_path(sys.argv[0], run_name="__main__")
"""


@pytest.mark.parametrize(("flags", "code"), [((), 75), (("--collect",), 1)])
def test_a_sweep_that_was_stopped_before_it_has_the_metric_asks_to_be_started_again(
    tmp_path, write_config, flags, code
):
    config = write_config("[{'seed': 0}]")
    (run,) = apps.expand_sweep(config, str(tmp_path))
    run.workdir.mkdir()
    (run.workdir / "metrics.jsonl").write_text('{"step": 50, "train/loss": 1.0}\n')
    arguments = [f"--config={config}", f"--workdir={tmp_path}", "--metrics=eval/loss", *flags]
    script = f"import sys; sys.argv = {['launch/sweep.py', *arguments]!r}{STOPPED}"
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, cwd=ROOT, check=False
    )
    assert done.returncode == code, done.stderr
    assert "`metrics`: got 'eval/loss', expected one of 'train/loss'" in done.stderr


@pytest.mark.long
def test_a_half_done_sweep_is_finished(tmp_path, write_config, finished):
    root = tmp_path / "sweep"
    shutil.copytree(finished, root / "seed=0")
    before = (root / "seed=0" / "metrics.jsonl").read_bytes()
    done = launch(
        "sweep",
        f"--config={write_config(SEEDS.replace('4', '2'))}",
        f"--workdir={root}",
        "--",
        *(flag for flag in SMALL[1:] if "checkpoint_every" not in flag),
        f"--config.data.folder={finished.parent}",
    )
    assert done.returncode == 0, done.stderr
    assert set(states_of(done.stdout.strip(), root).values()) == {"done"}
    assert [experiment.read_config(root / f"seed={k}").seed for k in (0, 1)] == [0, 1]
    assert not (root / "seed=0" / "log.txt").exists()
    assert (root / "seed=0" / "metrics.jsonl").read_bytes() == before
    with (root / "sweep.csv").open() as file:
        rows = {row["run"]: row for row in csv.DictReader(file)}
    for name, row in rows.items():
        lines = (root / name / "metrics.jsonl").read_text().splitlines()
        (last,) = (x for x in map(json.loads, lines) if x["step"] == 8 and "eval/loss" in x)
        assert {key: float(row[key]) for key in last if key != "step"} == {
            key: value for key, value in last.items() if key != "step"
        }
