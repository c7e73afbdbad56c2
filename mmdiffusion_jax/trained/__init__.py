"""A trained model, opened from Python: samples, bounds, encodings and pictures."""

from mmdiffusion_jax.trained.model import Model
from mmdiffusion_jax.trained.opening import load, untrained

__all__ = ["Model", "load", "untrained"]
