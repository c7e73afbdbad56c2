"""The page `report.html` of a run or a comparison: one file that needs no network."""

from mmdiffusion_jax.report.comparison import is_comparison, write_comparison
from mmdiffusion_jax.report.run import FILE, RunPage, live

__all__ = ["FILE", "RunPage", "is_comparison", "live", "write_comparison"]
