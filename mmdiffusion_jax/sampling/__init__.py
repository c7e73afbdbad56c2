"""Sampling from a model given as plain functions: steppers, grids, guidance, any-to-any."""

import functools
from collections.abc import Callable, Mapping

from mmdiffusion_jax.sampling.ancestral import Ancestral
from mmdiffusion_jax.sampling.any_to_any import READS, UNKNOWNS, sample, walk
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
from mmdiffusion_jax.sampling.separate import sample_separate
from mmdiffusion_jax.sampling.steppers import Multistep, Stepper
from mmdiffusion_jax.sampling.thresholding import dynamic_threshold, static_threshold

SAMPLERS: Mapping[str, Callable[..., Stepper]] = {
    "ancestral": Ancestral,
    "ddim": DDIM,
    "dpm_solver_pp_1": functools.partial(DPMSolverPP, order=1),
    "dpm_solver_pp": DPMSolverPP,
    "dpm_solver_pp_3m": functools.partial(DPMSolverPP, order=3),
    "dpm_solver_pp_2m_sde": functools.partial(DPMSolverPP, sde=True),
    "heun": Heun,
}
"""The steppers by the names that configs and launchers know them by."""

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
    "static_threshold",
    "uniform_grid",
    "walk",
    "with_known",
]
