"""The sections of a config, one frozen dataclass each, which checks itself."""

from mmdiffusion_jax.experiment.sections.data import DataOptions
from mmdiffusion_jax.experiment.sections.evaluation import EvaluationOptions
from mmdiffusion_jax.experiment.sections.loss import (
    AugmentationOptions,
    LossOptions,
    PredictOptions,
)
from mmdiffusion_jax.experiment.sections.process import ProcessOptions
from mmdiffusion_jax.experiment.sections.sampling import THRESHOLDS, SamplingOptions

__all__ = [
    "THRESHOLDS",
    "AugmentationOptions",
    "DataOptions",
    "EvaluationOptions",
    "LossOptions",
    "PredictOptions",
    "ProcessOptions",
    "SamplingOptions",
]
