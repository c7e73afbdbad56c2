"""Metrics of samples: pure functions on arrays."""

from mmdiffusion_jax.metrics.classifier import Judge, agreement, fit_judge
from mmdiffusion_jax.metrics.frechet import frechet_distance, gaussian_statistics

__all__ = ["Judge", "agreement", "fit_judge", "frechet_distance", "gaussian_statistics"]
