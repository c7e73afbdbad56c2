"""Feature networks: Inception and LPIPS of user-supplied weights, and a small one fitted here."""

from mmdiffusion_jax.metrics.features.fitting import fit_classifier
from mmdiffusion_jax.metrics.features.inception import InceptionFeatures
from mmdiffusion_jax.metrics.features.lpips import LPIPS
from mmdiffusion_jax.metrics.features.perceptual import perceptual_distance
from mmdiffusion_jax.metrics.features.small import ClassifierSizes, SmallClassifier

__all__ = [
    "LPIPS",
    "ClassifierSizes",
    "InceptionFeatures",
    "SmallClassifier",
    "fit_classifier",
    "perceptual_distance",
]
