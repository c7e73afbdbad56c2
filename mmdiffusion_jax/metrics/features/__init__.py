"""Feature networks: a small classifier fitted to the data at hand."""

from mmdiffusion_jax.metrics.features.fitting import fit_classifier
from mmdiffusion_jax.metrics.features.perceptual import perceptual_distance
from mmdiffusion_jax.metrics.features.small import ClassifierSizes, SmallClassifier

__all__ = ["ClassifierSizes", "SmallClassifier", "fit_classifier", "perceptual_distance"]
