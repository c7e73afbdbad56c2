"""Settings of every test: CPU, a compilation cache, and strict promotion for the pure floors."""

import gc
import importlib.util
import os
import re
from pathlib import Path
from typing import Any

from tests import xla

os.environ.setdefault("JAX_PLATFORMS", "cpu")
# Tests compile for longer than they compute.
os.environ.setdefault(
    "XLA_FLAGS",
    xla.known(
        "--xla_backend_optimization_level=0",
        "--xla_cpu_use_fusion_emitters=false",
        "--xla_cpu_parallel_codegen_split_count=1",
    ),
)

from collections.abc import Iterator

import jax
import pytest
from absl import flags

_HAS_TORCH = importlib.util.find_spec("torch") is not None
# What compares with PyTorch imports it, or what stands on it.
_OF_TORCH = re.compile(
    r"^(import|from) (torch|diffusers|efficientnet_lite_pytorch|benchmarks\.speed\.rival)\b"
    r"|^from benchmarks\.speed import .*\brival",
    re.M,
)

_PURE = ("process", "objective", "sampling", "baselines")

_cache = os.environ.get("JAX_COMPILATION_CACHE_DIR", "~/.cache/mmdiffusion_jax/xla")
jax.config.update("jax_compilation_cache_dir", os.path.expanduser(_cache))
jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.5)
xla.share_contexts()
# Tracing makes many objects, and most of them stay.
gc.set_threshold(20_000, 20, 20)


@pytest.fixture(autouse=True)
def _settings(request: pytest.FixtureRequest) -> Iterator[None]:
    if not flags.FLAGS.is_parsed():
        flags.FLAGS.mark_as_parsed()
    strict = any(f"/{floor}/" in str(request.path) for floor in _PURE)
    with jax.numpy_dtype_promotion("strict" if strict else "standard"):
        yield


def pytest_ignore_collect(collection_path: Path) -> bool | None:
    """Leaves out what compares with PyTorch where that is not installed."""
    if _HAS_TORCH or collection_path.suffix != ".py":
        return None
    return bool(_OF_TORCH.search(collection_path.read_text(encoding="utf-8"))) or None


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """Says what was left out."""
    if not _HAS_TORCH:
        terminalreporter.write_line("PyTorch is not installed: no test that compares with it ran.")
