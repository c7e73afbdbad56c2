"""The rivals that a shared space is compared with, and the arms of a comparison with them."""

from mmdiffusion_jax.baselines.arms import ARMS, make_arm, make_predictor, make_variant
from mmdiffusion_jax.baselines.augmentation import hide_squares
from mmdiffusion_jax.baselines.comparison import (
    BUDGETS,
    ArmRun,
    Cost,
    arms_table,
    equal_steps,
    plot_arms,
    ratios_table,
)
from mmdiffusion_jax.baselines.prediction import Predict, predict, prediction_loss_terms
from mmdiffusion_jax.baselines.separate.formulation import Separate
from mmdiffusion_jax.baselines.separate.functions import SeparateFunctions, separate_state
from mmdiffusion_jax.baselines.separate.loss import separate_loss_terms
from mmdiffusion_jax.baselines.separate.network import SeparateModel
from mmdiffusion_jax.baselines.separate.sample import sample_separate
from mmdiffusion_jax.baselines.separate.unused import leave_unused_out, unused_by_separate

__all__ = [
    "ARMS",
    "BUDGETS",
    "ArmRun",
    "Cost",
    "Predict",
    "Separate",
    "SeparateFunctions",
    "SeparateModel",
    "arms_table",
    "equal_steps",
    "hide_squares",
    "leave_unused_out",
    "make_arm",
    "make_predictor",
    "make_variant",
    "plot_arms",
    "predict",
    "prediction_loss_terms",
    "ratios_table",
    "sample_separate",
    "separate_loss_terms",
    "separate_state",
    "unused_by_separate",
]
