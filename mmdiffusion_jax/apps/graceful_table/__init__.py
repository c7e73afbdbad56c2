"""What graceful updates give, reproduced on small worlds with fresh seeds: one table."""

from mmdiffusion_jax.apps.graceful_table.table import graceful_benchmark

__all__ = ["graceful_benchmark"]
