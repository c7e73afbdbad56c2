"""Ground floor: the diffusion process as pure functions of arrays and {modality name: array}."""

from mmdiffusion_jax.process.forward import (
    VARIANCES,
    Process,
    marginal,
    posterior,
    reverse_variance,
    shift,
    transition,
)
from mmdiffusion_jax.process.gaussian import Gaussian, gaussian_kl, sum_per_example
from mmdiffusion_jax.process.parameterisation import (
    TARGETS,
    Pivot,
    from_pivot,
    noise_error_factor,
    to_pivot,
)
from mmdiffusion_jax.process.schedules import (
    Schedule,
    cosine_schedule,
    linear_schedule,
    schedule_from_betas,
    sigmoid_schedule,
)
from mmdiffusion_jax.process.timesteps import (
    TIMESTEP_DRAWS,
    antithetic_timesteps,
    logit_normal_timesteps,
    stratified_timesteps,
    uniform_timesteps,
)
from mmdiffusion_jax.process.weights import (
    RULES,
    Bump,
    Constant,
    Decay,
    ModalityWeights,
    modality_weights,
)

__all__ = [
    "RULES",
    "TARGETS",
    "TIMESTEP_DRAWS",
    "VARIANCES",
    "Bump",
    "Constant",
    "Decay",
    "Gaussian",
    "ModalityWeights",
    "Pivot",
    "Process",
    "Schedule",
    "antithetic_timesteps",
    "cosine_schedule",
    "from_pivot",
    "gaussian_kl",
    "linear_schedule",
    "logit_normal_timesteps",
    "marginal",
    "modality_weights",
    "noise_error_factor",
    "posterior",
    "reverse_variance",
    "schedule_from_betas",
    "shift",
    "sigmoid_schedule",
    "stratified_timesteps",
    "sum_per_example",
    "to_pivot",
    "transition",
    "uniform_timesteps",
]
