"""Settings of every test: CPU, a compilation cache, and strict promotion for the pure floors."""

import gc
import os

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

_PURE = ("process", "objective", "sampling", "baselines")

_cache = os.environ.get("JAX_COMPILATION_CACHE_DIR", "~/.cache/mmdiffusion_jax/xla")
jax.config.update("jax_compilation_cache_dir", os.path.expanduser(_cache))
jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.5)
# Tracing makes many objects, and most of them stay.
gc.set_threshold(20_000, 20, 20)


@pytest.fixture(autouse=True)
def _settings(request: pytest.FixtureRequest) -> Iterator[None]:
    if not flags.FLAGS.is_parsed():
        flags.FLAGS.mark_as_parsed()
    strict = any(f"/{floor}/" in str(request.path) for floor in _PURE)
    with jax.numpy_dtype_promotion("strict" if strict else "standard"):
        yield
