"""The sections of a config, one frozen dataclass each, which checks itself."""

from mmdiffusion_jax.experiment.sections.evaluation import EvaluationOptions
from mmdiffusion_jax.experiment.sections.sampling import THRESHOLDS, SamplingOptions

__all__ = ["THRESHOLDS", "EvaluationOptions", "SamplingOptions"]
