"""Sampling from a model given as plain functions."""

from mmdiffusion_jax.sampling.ancestral import ESTIMATES, sample

__all__ = ["ESTIMATES", "sample"]
