"""Metrics of samples: pure functions on arrays, and statistics that are merged by addition."""

from mmdiffusion_jax.metrics.classifier import Judge, fit_judge
from mmdiffusion_jax.metrics.embeddings import CosineStatistics, cosine_similarity
from mmdiffusion_jax.metrics.features.efficientnet import EFFICIENTNET, EfficientNetFeatures
from mmdiffusion_jax.metrics.features.embedder import Embedder, embedder_file, read_embedder
from mmdiffusion_jax.metrics.features.fitting import fit_classifier
from mmdiffusion_jax.metrics.features.inception import InceptionFeatures
from mmdiffusion_jax.metrics.features.lpips import LPIPS
from mmdiffusion_jax.metrics.features.perceptual import perceptual_distance
from mmdiffusion_jax.metrics.features.small import SmallClassifier
from mmdiffusion_jax.metrics.frechet import frechet_distance
from mmdiffusion_jax.metrics.inception_score import PredictionStatistics, inception_score
from mmdiffusion_jax.metrics.kernel import kernel_distance, kernel_distance_of_subsets
from mmdiffusion_jax.metrics.labels import CalibrationStatistics, agreement
from mmdiffusion_jax.metrics.neighbours import density_coverage, precision_recall
from mmdiffusion_jax.metrics.reconstruction import psnr, ssim
from mmdiffusion_jax.metrics.segmentation import ConfusionStatistics
from mmdiffusion_jax.metrics.statistics import MeanStatistics, MomentStatistics

__all__ = [
    "EFFICIENTNET",
    "LPIPS",
    "CalibrationStatistics",
    "ConfusionStatistics",
    "CosineStatistics",
    "EfficientNetFeatures",
    "Embedder",
    "InceptionFeatures",
    "Judge",
    "MeanStatistics",
    "MomentStatistics",
    "PredictionStatistics",
    "SmallClassifier",
    "agreement",
    "cosine_similarity",
    "density_coverage",
    "embedder_file",
    "fit_classifier",
    "fit_judge",
    "frechet_distance",
    "inception_score",
    "kernel_distance",
    "kernel_distance_of_subsets",
    "perceptual_distance",
    "precision_recall",
    "psnr",
    "read_embedder",
    "ssim",
]
