"""The page `report.html` of a run or a comparison: one file that needs no network."""

from mmdiffusion_jax.report.comparison import is_comparison
from mmdiffusion_jax.report.run import FILE, RunPage, is_run
from mmdiffusion_jax.report.writing import live, try_to_write, write

__all__ = ["FILE", "RunPage", "is_comparison", "is_run", "live", "try_to_write", "write"]
