"""Steppers: how to go from one state of a grid to the next, one file each."""

from mmdiffusion_jax.sampling.steppers.ancestral import Ancestral
from mmdiffusion_jax.sampling.steppers.ddim import DDIM
from mmdiffusion_jax.sampling.steppers.dpm_solver_pp import DPMSolverPP
from mmdiffusion_jax.sampling.steppers.heun import Heun
from mmdiffusion_jax.sampling.steppers.multistep import Multistep, Stepper
from mmdiffusion_jax.sampling.steppers.names import SAMPLERS, as_stepper

__all__ = [
    "DDIM",
    "SAMPLERS",
    "Ancestral",
    "DPMSolverPP",
    "Heun",
    "Multistep",
    "Stepper",
    "as_stepper",
]
