"""Sampling from a model given as plain functions."""

from mmdiffusion_jax.sampling.ancestral import ESTIMATES, UNKNOWNS, sample

__all__ = ["ESTIMATES", "UNKNOWNS", "sample"]
