"""Flags of XLA: those that this jaxlib knows, told apart as it does itself."""

import os
import subprocess
import sys

import pytest

from tests import xla

DEVICES = "import jax; print(len(jax.devices()))"


def devices(**environment):
    environment = {**os.environ, "JAX_PLATFORMS": "cpu", **environment}
    command = [sys.executable, "-c", DEVICES]
    return subprocess.run(command, capture_output=True, text=True, env=environment)


@pytest.mark.parametrize("unknown", ["--xla_no_such_flag=1", "--xla_backend_optimization"])
def test_only_known_flags_are_set(unknown):
    level = "--xla_backend_optimization_level=0"
    assert xla.known(unknown, level, f"{unknown}=2") == level
    assert xla.known(unknown) == ""


def test_xla_itself_knows_and_does_not_know_them():
    several = ("--xla_no_such_flag=1", "--xla_backend_optimization_level=0")
    assert devices(XLA_FLAGS=" ".join(several)).returncode != 0
    assert devices(XLA_FLAGS=xla.known(*several)).returncode == 0


def test_devices_are_simulated_without_a_flag_of_xla():
    """As launch/local.sh and the benchmarks do."""
    done = devices(JAX_NUM_CPU_DEVICES="3", XLA_FLAGS="")
    assert done.stdout.split() == ["3"], done.stderr
