"""What graceful updates give, reproduced on small worlds with fresh seeds: one table."""

from benchmarks.graceful_worlds.table import graceful_benchmark

__all__ = ["graceful_benchmark"]
