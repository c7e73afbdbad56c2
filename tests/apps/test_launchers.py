"""The launchers in shell, with stand-ins for all they call, which write down their arguments."""

import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from mmdiffusion_jax import apps
from tests.apps.small import ROOT

SCRIPTS = ("local.sh", "tpu_pod.sh", "slurm.sbatch")
TRAIN = ("--config=configs/smoke.py", "--workdir=a b/w", "--config.data.size=(8,8)", "--x=it's")
# Takes its next exit code, and where it has one, what it prints, from files that the test writes.
STAND_IN = """\
#!/usr/bin/env bash
name=$(basename "$0")
# Appended in one write, as several processes call at once; `printf` makes one for every line.
printf '%s\\0' "$name" "$@" $'\\n' >"$RECORDS/call.$$"
cat "$RECORDS/call.$$" >>"$RECORDS/calls"
next() {
  head -n 1 "$1" 2>/dev/null
  sed -i 1d "$1" 2>/dev/null
}
next "$RECORDS/$name.out"
[[ $* == *--format=* ]] && exit 0
[[ -e $RECORDS/$name.hook ]] && source "$RECORDS/$name.hook"
code=$(next "$RECORDS/$name.codes")
exit "${code:-0}"
"""

# Where the tests run in the background Ctrl-C is ignored, and a shell never listens to it again.
LISTENING = """\
import os, signal, sys
signal.signal(signal.SIGINT, signal.SIG_DFL)
os.execvp("bash", ["bash", *sys.argv[1:]])
"""


class Machine:
    """Stand-ins on PATH, what they will answer, and what they were called with."""

    def __init__(self, folder):
        self.folder = folder
        self.bin = folder / "bin"
        self.bin.mkdir()
        for name in ("python", "srun", "scontrol", "sbatch", "gcloud", "xpk", "git", "sleep"):
            (self.bin / name).write_text(STAND_IN)
            (self.bin / name).chmod(0o755)
        # Waiting for processes is real, waiting for a queue is not.
        (self.bin / "sleep").write_text(
            '#!/bin/sh\n[ "$1" = 0.2 ] && exec /bin/sleep 0.05\nexit 0\n'
        )

    def answers(self, name, codes=(), out=(), hook=None):
        for ending, lines in (("codes", codes), ("out", out)):
            text = "".join(f"{line}\n" for line in lines)
            (self.folder / f"{name}.{ending}").write_text(text)
        if hook is not None:
            (self.folder / f"{name}.hook").write_text(hook)

    def environment(self, **more):
        kept = {k: v for k, v in os.environ.items() if not k.startswith(("SLURM_", "XLA_", "JAX_"))}
        path = f"{self.bin}:{os.environ['PATH']}"
        environment = {"PATH": path, "RECORDS": str(self.folder), "PYTHON": "python"}
        return {**kept, **environment, "TMPDIR": str(self.folder), **more}

    def start(self, script, *arguments, cwd=ROOT, **environment):
        return subprocess.Popen(
            [sys.executable, "-IS", "-c", LISTENING, str(ROOT / "launch" / script), *arguments],
            cwd=cwd,
            env=self.environment(**environment),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def run(self, script, *arguments, **options):
        process = self.start(script, *arguments, **options)
        out, err = process.communicate(timeout=60)
        return subprocess.CompletedProcess(process.args, process.returncode, out, err)

    def calls(self):
        file = self.folder / "calls"
        text = file.read_text() if file.exists() else ""
        return [call.split("\0")[:-1] for call in text.split("\n\0") if call]


@pytest.fixture
def machine(tmp_path):
    return Machine(tmp_path)


def commands(done):
    """The commands of a dry run, comments left out."""
    assert done.returncode == 0, done.stderr
    lines = [shlex.split(line, comments=True) for line in done.stdout.splitlines()]
    return [line for line in lines if line]


# All of them.


def test_shellcheck_finds_nothing():
    beside = Path(sys.executable).parent
    shellcheck = shutil.which("shellcheck", path=f"{beside}:{os.environ['PATH']}")
    assert shellcheck, "install the extra `test`"
    files = [f"launch/{script}" for script in (*SCRIPTS, "shell.sh")]
    done = subprocess.run([shellcheck, "-x", *files], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize("script", SCRIPTS)
def test_help_names_every_flag(machine, script):
    text = (ROOT / "launch" / script).read_text()
    flags = set(re.findall(r"^    (--[a-z_-]+)", text, re.M))
    assert {"--help", "--dry-run"} < flags
    done = machine.run(script, "--help")
    assert done.returncode == 0, done.stderr
    assert flags <= set(re.findall(r"--[a-z_-]+", done.stdout))
    assert machine.calls() == []


QUEUED = ("--mode=queued", "--name=n", "--type=v6e-16", "--zone=z")
GKE = ("--mode=gke", "--name=n", "--type=tpu7x-16", "--zone=z", "--cluster=c", "--image=i")


@pytest.mark.parametrize(
    ("script", "arguments", "words"),
    [
        ("local.sh", ["--proceses=2"], "`--proceses`: got '--proceses=2', expected --processes=N"),
        ("local.sh", ["--processes=0"], "`--processes`: got '0', expected a whole number of at"),
        ("local.sh", ["--restarts=x"], "`--restarts`: got 'x', expected a whole number"),
        ("local.sh", ["--", "--config=c"], "`--workdir`: got nothing, expected a flag of launch/"),
        ("slurm.sbatch", ["--config=c"], "`--workdir`: got nothing"),
        ("slurm.sbatch", ["c", "w"], "`c`: got an argument, expected flags alone"),
        ("slurm.sbatch", ["--sweep_file=x"], "`--sweep_file`: got x outside an array"),
        ("tpu_pod.sh", [], "`--mode`: got nothing, expected queued or gke"),
        ("tpu_pod.sh", ["--mode=x", *QUEUED[1:]], "`--mode`: got 'x', expected queued or gke"),
        ("tpu_pod.sh", [*QUEUED[:2], QUEUED[3]], "`--type`: got nothing"),
        ("tpu_pod.sh", [*QUEUED, "--cluster=c"], "`--cluster`: got 'c', expected nothing with"),
        ("tpu_pod.sh", [*QUEUED, "--type=tpu7x-16"], "use --mode=gke for TPU7x and later"),
        ("tpu_pod.sh", GKE[:-1], "`--image`: got nothing"),
        (
            "tpu_pod.sh",
            [*GKE, "--spot"],
            "`--spot`: got '--spot', expected nothing with --mode=gke",
        ),
        ("tpu_pod.sh", QUEUED, "`--config`: got nothing, expected a flag of launch/train.py"),
        ("tpu_pod.sh", [*QUEUED, "--chips=4"], "`--chips`: got '--chips=4', expected one of"),
    ],
)
def test_bad_flags_end_in_one_line(machine, script, arguments, words):
    done = machine.run(script, *arguments)
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert re.fullmatch(r"error: `[^`]+`: got .+, expected .+; .+\.", line)
    assert words in line
    assert done.stdout == ""
    assert machine.calls() == []


# This machine.


def test_one_process(machine):
    (line,) = commands(machine.run("local.sh", "--dry-run", "--", *TRAIN))
    assert line == ["python", str(ROOT / "launch" / "train.py"), *TRAIN]
    assert machine.calls() == []
    assert machine.run("local.sh", "--", *TRAIN).returncode == 0
    assert machine.calls() == [line]


def test_several_processes_are_told_of_each_other(machine):
    flags = ("--processes=3", "--devices=2", "--dry-run")
    *lines, last = commands(machine.run("local.sh", *flags, "--", *TRAIN))
    assert last == ["wait"]
    coordinators = set()
    for index, line in enumerate(lines):
        assert line[:3] == ["env", "JAX_PLATFORMS=cpu", "JAX_NUM_CPU_DEVICES=2"]
        assert line[6:8] == ["--num_processes=3", f"--process_id={index}"]
        assert line[8:] == [*TRAIN, "&"]
        coordinators.add(line[5])
    assert len(lines) == 3
    (coordinator,) = coordinators
    assert re.fullmatch(r"--coordinator=localhost:\d{5}", coordinator)
    assert machine.run("local.sh", *flags[:2], "--", *TRAIN).returncode == 0
    assert sorted(call[4] for call in machine.calls()) == [f"--process_id={k}" for k in range(3)]


@pytest.mark.parametrize(
    ("flags", "codes", "code", "count"),
    [
        ([], [75, 75, 0], 0, 3),
        (["--restarts=1"], [75, 75, 0], 75, 2),
        (["--restarts=0"], [75], 75, 1),
        ([], [75, 4, 0], 4, 2),
        ([], [1], 1, 1),
    ],
)
def test_it_starts_again_after_a_stop_with_a_checkpoint(machine, flags, codes, code, count):
    machine.answers("python", codes)
    done = machine.run("local.sh", *flags, "--", *TRAIN)
    assert done.returncode == code
    assert len(machine.calls()) == count
    assert all(call[2:] == list(TRAIN) for call in machine.calls())


LISTENS = "touch \"$RECORDS/up$$\"; trap 'kill $!; exit 75' TERM; /bin/sleep 60 & wait $!\n"
DEAF = 'touch "$RECORDS/up$$"; exec /bin/sleep 60\n'


def wait_for(condition):
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_one_failure_ends_all(machine):
    fails = "[[ $* == *--process_id=1* ]] && { /bin/sleep 0.3; exit 9; }\n"
    machine.answers("python", hook=fails + LISTENS)
    began = time.monotonic()
    done = machine.run("local.sh", "--processes=3", "--", *TRAIN)
    assert done.returncode == 9
    assert time.monotonic() - began < 20
    assert len(machine.calls()) == 3


@pytest.mark.parametrize("hook", [LISTENS, DEAF])
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_is_handed_on_and_waited_for(machine, number, hook):
    machine.answers("python", hook=hook)
    process = machine.start("local.sh", "--processes=2", "--", *TRAIN)
    wait_for(lambda: len(list(machine.folder.glob("up*"))) == 2)
    process.send_signal(number)
    process.communicate(timeout=30)
    # 75 says that the same command goes on; it was not started again by itself.
    assert process.returncode == 75
    assert len(machine.calls()) == 2


# SLURM.

JOB = {"SLURM_JOB_ID": "77", "SLURM_NTASKS": "1", "SLURM_TASKS_PER_NODE": "1"}
REQUEUE = ["scontrol", "requeue", "77"]


@pytest.mark.parametrize(("code", "requeued"), [(0, False), (75, True), (1, False), (137, False)])
def test_slurm_queues_again_what_stopped_with_a_checkpoint(machine, code, requeued):
    machine.answers("srun", [code])
    done = machine.run("slurm.sbatch", *TRAIN, **JOB)
    assert done.returncode == code
    step, *rest = machine.calls()
    assert step[0] == "srun"
    assert step[-len(TRAIN) - 2 :] == ["python", "launch/train.py", *TRAIN]
    assert rest == ([REQUEUE] if requeued else [])


def test_a_job_that_slurm_ends_is_not_queued_again(machine):
    # `scancel` and preemption reach the batch shell; --signal without `B:` reaches the tasks alone.
    machine.answers("srun", [75], hook="kill -TERM $PPID\n")
    done = machine.run("slurm.sbatch", *TRAIN, **JOB)
    assert done.returncode == 75
    assert [call[0] for call in machine.calls()] == ["srun"]


def test_slurm_dry_run_shows_what_is_done(machine):
    shown = commands(machine.run("slurm.sbatch", "--dry-run", *TRAIN, **JOB))
    assert machine.calls() == []
    machine.answers("srun", [75])
    machine.run("slurm.sbatch", *TRAIN, **JOB)
    assert machine.calls() == shown


def test_slurm_has_a_task_for_each_gpu(machine):
    job = {**JOB, "SLURM_NTASKS": "16", "SLURM_TASKS_PER_NODE": "8(x2)", "SLURM_CPUS_PER_TASK": "6"}
    assert machine.run("slurm.sbatch", *TRAIN, **job, SLURM_GPUS_ON_NODE="8").returncode == 0
    assert "--cpus-per-task=6" in machine.calls()[0]
    assert machine.run("slurm.sbatch", *TRAIN, **job).returncode == 0
    # One task drives all GPUs of its node by itself.
    assert machine.run("slurm.sbatch", *TRAIN, **JOB, SLURM_GPUS_ON_NODE="8").returncode == 0
    assert len(machine.calls()) == 3
    done = machine.run("slurm.sbatch", *TRAIN, **job, SLURM_GPUS_ON_NODE="4")
    assert done.returncode == 1
    assert "`--ntasks-per-node`: got 8, expected 4, one task for each GPU" in done.stderr
    assert len(machine.calls()) == 3


def options_of(script):
    return dict(re.findall(r"^#SBATCH (--[a-z-]+)(?:=(\S+))?$", script.read_text(), re.M))


def test_slurm_options(machine):
    options = options_of(ROOT / "launch" / "slurm.sbatch")
    assert "--requeue" in options
    assert options["--open-mode"] == "append"
    # No `B:`: the tasks get the signal, not the shell. No binding: JAX wants to see all GPUs.
    assert re.fullmatch(r"TERM@\d+", options["--signal"])
    assert not {"--gpus-per-task", "--gpu-bind"} & set(options)
    assert options["--ntasks-per-node"] == options["--gpus-per-node"]


@pytest.mark.parametrize("k", [1, 3])
def test_a_job_of_an_array_takes_its_line(machine, tmp_path, k):
    runs = apps.expand_sweep(
        "configs/smoke.py", str(tmp_path / "it's a b"), ["--config.data.path=$x"]
    )
    command = apps.write_array(runs, str(tmp_path / "it's a b"), "launch/slurm.sbatch")
    array = {"SLURM_ARRAY_JOB_ID": "70", "SLURM_ARRAY_TASK_ID": str(k)}
    machine.answers("srun", [75])
    done = machine.run("slurm.sbatch", command[-1], **JOB, **array)
    assert done.returncode == 75, done.stderr
    step, requeue = machine.calls()
    assert tuple(step[step.index("launch/train.py") + 1 :]) == runs[k - 1].arguments
    assert requeue == ["scontrol", "requeue", f"70_{k}"]


def test_lines_that_an_array_lacks(machine, tmp_path):
    (tmp_path / "runs").write_text("--config=c --workdir=w\n")
    array = {"SLURM_ARRAY_JOB_ID": "70", "SLURM_ARRAY_TASK_ID": "2"}
    done = machine.run("slurm.sbatch", f"--sweep_file={tmp_path / 'runs'}", **JOB, **array)
    assert (done.returncode, machine.calls()) == (1, [])
    assert "`--array`: got 2, expected a line of" in done.stderr
    done = machine.run("slurm.sbatch", f"--sweep_file={tmp_path / 'none'}", **JOB, **array)
    assert (done.returncode, machine.calls()) == (1, [])
    assert "expected a file of runs" in done.stderr


def test_slurm_wants_the_repository(machine, tmp_path):
    done = machine.run("slurm.sbatch", *TRAIN, cwd=tmp_path, **JOB)
    assert (done.returncode, machine.calls()) == (1, [])
    assert f"got {tmp_path}, expected the root of the repository" in done.stderr


def test_a_sweep_is_submitted(machine, tmp_path):
    arguments = ["--config=configs/smoke.py", f"--workdir={tmp_path / 'w'}", "--max_parallel=2"]
    done = subprocess.run(
        [sys.executable, "launch/sweep.py", *arguments, "--submit", "--sbatch=--time=1:00:00"],
        cwd=ROOT,
        # An accelerator is for the runs: the sweep itself must not take it.
        env=machine.environment(PYTHONPATH=str(ROOT), PYTHONWARNINGS="", JAX_PLATFORMS="none"),
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    (call,) = machine.calls()
    assert shlex.split(done.stdout) == call
    assert {"--time=1:00:00", "--array=1-4%2", str(ROOT / "launch" / "slurm.sbatch")} < set(call)
    assert Path(call[-1].removeprefix("--sweep_file=")).exists()


# Cloud TPUs.


@pytest.mark.parametrize(("workdir", "extra"), [("/mnt/w", "train"), ("gs://b/w", "cloud")])
def test_machines_of_a_slice_get_what_a_workdir_needs(machine, workdir, extra):
    train = ("--config=c.py", f"--workdir={workdir}")
    done = machine.run("tpu_pod.sh", *QUEUED, "--dry-run", "--", *train)
    assert done.returncode == 0, done.stderr
    assert f"--editable=.[{extra}]" in done.stdout.replace("\\", "")


def test_a_queued_slice(machine):
    flags = (*QUEUED, "--project=p", "--spot", "--prepare=sudo mount x /mnt", "--poll=1")
    shown = commands(machine.run("tpu_pod.sh", *flags, "--dry-run", "--", *TRAIN))
    assert machine.calls() == []
    states = ["", "WAITING_FOR_RESOURCES", "PROVISIONING", "ACTIVE"]
    out = [states[0], "Create request issued.", *states[1:]]
    machine.answers("gcloud", out=out)
    done = machine.run("tpu_pod.sh", *flags, "--", *TRAIN)
    assert done.returncode == 0, done.stderr
    looks = [call for call in machine.calls() if "describe" in call]
    assert len(looks) == 4
    assert [call for call in machine.calls() if "describe" not in call] == [
        command for command in shown if "describe" not in command
    ]
    assert [command for command in shown if "describe" in command] == looks[:1]
    create, _, archive, copy, install, prepare, train = shown
    assert create[:6] == ["gcloud", "compute", "tpus", "queued-resources", "create", "n"]
    assert {"--accelerator-type=v6e-16", "--zone=z", "--project=p", "--spot"} < set(create)
    assert archive[0] == "git"
    assert copy[3:5] == ["tpu-vm", "scp"]
    for command in (copy, install, prepare, train):
        assert "--worker=all" in command
    assert prepare[-1] == "--command=sudo mount x /mnt"
    # What the shell over there makes of it.
    remote = shlex.split(train[-1].removeprefix("--command="))
    assert remote == ["cd", "mmdiffusion_jax", "&&", ".venv/bin/python", "launch/train.py", *TRAIN]


@pytest.mark.parametrize(
    ("kind", "runtime"),
    [
        ("v4-32", "tpu-ubuntu2204-base"),
        ("v5litepod-16", "v2-alpha-tpuv5-lite"),
        ("v5p-8", "v2-alpha-tpuv5"),
        ("v6e-16", "v2-alpha-tpuv6e"),
    ],
)
def test_the_software_of_a_slice(machine, kind, runtime):
    flags = (*QUEUED, f"--type={kind}", "--dry-run")
    create = commands(machine.run("tpu_pod.sh", *flags, "--", *TRAIN))[0]
    assert f"--runtime-version={runtime}" in create
    create = commands(machine.run("tpu_pod.sh", *flags, "--runtime=own", "--", *TRAIN))[0]
    assert "--runtime-version=own" in create


def test_a_slice_that_is_there_is_used_and_goes_on(machine):
    # The slice is there; copying and installing work; training stops twice with a checkpoint.
    machine.answers("gcloud", [0, 0, 75, 75, 0], out=["ACTIVE"])
    done = machine.run("tpu_pod.sh", *QUEUED, "--", *TRAIN)
    assert done.returncode == 0, done.stderr
    assert not any("create" in call for call in machine.calls())
    assert sum("launch/train.py" in call[-1] for call in machine.calls()) == 3


@pytest.mark.parametrize("state", ["FAILED", "SUSPENDED"])
def test_a_slice_that_is_gone_is_not_waited_for(machine, state):
    machine.answers("gcloud", out=[state])
    done = machine.run("tpu_pod.sh", *QUEUED, "--", *TRAIN)
    assert done.returncode == 1
    assert f"got n, which is {state}" in done.stderr
    assert "gcloud compute tpus queued-resources delete n --zone=z --force" in done.stderr
    assert len(machine.calls()) == 1


def test_a_step_that_fails_ends_the_rest(machine):
    machine.answers("gcloud", [3], out=["ACTIVE"])
    assert machine.run("tpu_pod.sh", *QUEUED, "--", *TRAIN).returncode == 3
    assert machine.calls()[-1][3:5] == ["tpu-vm", "scp"]


def test_a_workload_on_gke(machine):
    flags = (*GKE, "--restarts=7")
    (shown,) = commands(machine.run("tpu_pod.sh", *flags, "--dry-run", "--", *TRAIN))
    assert machine.calls() == []
    assert machine.run("tpu_pod.sh", *flags, "--", *TRAIN).returncode == 0
    assert machine.calls() == [shown]
    assert shown[:3] == ["xpk", "workload", "create"]
    assert {"--workload=n", "--cluster=c", "--tpu-type=tpu7x-16", "--zone=z"} < set(shown)
    assert {"--base-docker-image=i", f"--script-dir={ROOT}", "--max-restarts=7"} < set(shown)
    assert "--restart-on-exit-codes=75" in shown
    remote = shlex.split(shown[-1].removeprefix("--command="))
    assert remote == ["env", "PYTHONPATH=.", "python3", "launch/train.py", *TRAIN]
