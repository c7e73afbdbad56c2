"""Sampling from a model given as plain functions: steppers, grids, guidance, any-to-any."""

from mmdiffusion_jax.sampling.ancestral import Ancestral
from mmdiffusion_jax.sampling.any_to_any import Trajectory, sample, sample_trajectory
from mmdiffusion_jax.sampling.ddim import DDIM
from mmdiffusion_jax.sampling.denoiser import (
    ESTIMATES,
    Decorator,
    Denoiser,
    Question,
    Reading,
    own_belief,
    with_known,
)
from mmdiffusion_jax.sampling.dpm_solver_pp import DPMSolverPP
from mmdiffusion_jax.sampling.grids import (
    GRIDS,
    check_grid,
    karras_grid,
    log_snr_grid,
    quadratic_grid,
    uniform_grid,
)
from mmdiffusion_jax.sampling.guidance import (
    EVERYWHERE,
    classifier_free_guidance,
    decoder_guidance,
)
from mmdiffusion_jax.sampling.heun import Heun
from mmdiffusion_jax.sampling.plan import Clean, Plan, plan
from mmdiffusion_jax.sampling.request import READS, UNKNOWNS
from mmdiffusion_jax.sampling.samplers import SAMPLERS
from mmdiffusion_jax.sampling.separate import sample_separate
from mmdiffusion_jax.sampling.steppers import Multistep, Stepper
from mmdiffusion_jax.sampling.thresholding import dynamic_threshold, static_threshold
from mmdiffusion_jax.sampling.walk import walk

__all__ = [
    "DDIM",
    "ESTIMATES",
    "EVERYWHERE",
    "GRIDS",
    "READS",
    "SAMPLERS",
    "UNKNOWNS",
    "Ancestral",
    "Clean",
    "DPMSolverPP",
    "Decorator",
    "Denoiser",
    "Heun",
    "Multistep",
    "Plan",
    "Question",
    "Reading",
    "Stepper",
    "Trajectory",
    "check_grid",
    "classifier_free_guidance",
    "decoder_guidance",
    "dynamic_threshold",
    "karras_grid",
    "log_snr_grid",
    "own_belief",
    "plan",
    "quadratic_grid",
    "sample",
    "sample_separate",
    "sample_trajectory",
    "static_threshold",
    "uniform_grid",
    "walk",
    "with_known",
]
