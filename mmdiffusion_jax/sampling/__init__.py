"""Sampling from a model given as plain functions: steppers, grids, guidance, any-to-any."""

from mmdiffusion_jax.sampling.fixed import Fixed, Noised
from mmdiffusion_jax.sampling.grids import (
    GRIDS,
    check_grid,
    karras_grid,
    log_snr_grid,
    quadratic_grid,
    uniform_grid,
)
from mmdiffusion_jax.sampling.guidance.autoguidance import autoguidance
from mmdiffusion_jax.sampling.guidance.classifier_free import classifier_free_guidance
from mmdiffusion_jax.sampling.guidance.decoder import decoder_guidance
from mmdiffusion_jax.sampling.guidance.options import EVERYWHERE
from mmdiffusion_jax.sampling.guidance.thresholding import dynamic_threshold, static_threshold
from mmdiffusion_jax.sampling.loop import run_stepper
from mmdiffusion_jax.sampling.method import READS, UNKNOWNS, Method
from mmdiffusion_jax.sampling.order import parse_order, stages_of
from mmdiffusion_jax.sampling.plan import Plan, plan
from mmdiffusion_jax.sampling.query import ESTIMATES, Decorator, Query, plain_denoiser, with_given
from mmdiffusion_jax.sampling.sample import sample, sample_trajectory
from mmdiffusion_jax.sampling.stage import Trajectory
from mmdiffusion_jax.sampling.steppers.ancestral import Ancestral
from mmdiffusion_jax.sampling.steppers.ddim import DDIM
from mmdiffusion_jax.sampling.steppers.dpm_solver_pp import DPMSolverPP
from mmdiffusion_jax.sampling.steppers.heun import Heun
from mmdiffusion_jax.sampling.steppers.multistep import Multistep, Stepper
from mmdiffusion_jax.sampling.steppers.names import SAMPLERS

__all__ = [
    "DDIM",
    "ESTIMATES",
    "EVERYWHERE",
    "GRIDS",
    "READS",
    "SAMPLERS",
    "UNKNOWNS",
    "Ancestral",
    "DPMSolverPP",
    "Decorator",
    "Fixed",
    "Heun",
    "Method",
    "Multistep",
    "Noised",
    "Plan",
    "Query",
    "Stepper",
    "Trajectory",
    "autoguidance",
    "check_grid",
    "classifier_free_guidance",
    "decoder_guidance",
    "dynamic_threshold",
    "karras_grid",
    "log_snr_grid",
    "parse_order",
    "plain_denoiser",
    "plan",
    "quadratic_grid",
    "run_stepper",
    "sample",
    "sample_trajectory",
    "stages_of",
    "static_threshold",
    "uniform_grid",
    "with_given",
]
