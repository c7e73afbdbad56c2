"""Ground floor: the diffusion process as pure functions of arrays and {modality name: array}."""

from mmdiffusion_jax.process.answers import (
    ask_modality,
    belief,
    check_model,
    draw,
    estimate_encodings,
    function_of,
    gate,
    head_of,
    modalities_of,
    where_present,
)
from mmdiffusion_jax.process.contract import (
    Modal,
    ModalityFunctions,
    ModelFunctions,
    Prediction,
)
from mmdiffusion_jax.process.forward import (
    VARIANCES,
    marginal,
    posterior,
    reverse_variance,
    shift,
    transition,
)
from mmdiffusion_jax.process.gaussian import Gaussian, gaussian_kl, sum_per_example
from mmdiffusion_jax.process.likelihoods import (
    categorical_log_prob,
    discretised_gaussian_log_prob,
    gaussian_log_prob,
)
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
from mmdiffusion_jax.process.separate import SeparateFunctions, separate_state
from mmdiffusion_jax.process.timesteps import (
    TIMESTEP_DRAWS,
    antithetic_timesteps,
    stratified_timesteps,
    uniform_timesteps,
)
from mmdiffusion_jax.process.von_mises_fisher import (
    von_mises_fisher_draw,
    von_mises_fisher_log_prob,
    von_mises_fisher_resultant,
)
from mmdiffusion_jax.process.weights import (
    RULES,
    Bump,
    Constant,
    Decay,
    ModalityWeights,
    check_weights,
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
    "Modal",
    "ModalityFunctions",
    "ModalityWeights",
    "ModelFunctions",
    "Pivot",
    "Prediction",
    "Schedule",
    "SeparateFunctions",
    "antithetic_timesteps",
    "ask_modality",
    "belief",
    "categorical_log_prob",
    "check_model",
    "check_weights",
    "cosine_schedule",
    "discretised_gaussian_log_prob",
    "draw",
    "estimate_encodings",
    "from_pivot",
    "function_of",
    "gate",
    "gaussian_kl",
    "gaussian_log_prob",
    "head_of",
    "linear_schedule",
    "marginal",
    "modalities_of",
    "modality_weights",
    "noise_error_factor",
    "posterior",
    "reverse_variance",
    "schedule_from_betas",
    "separate_state",
    "shift",
    "sigmoid_schedule",
    "stratified_timesteps",
    "sum_per_example",
    "to_pivot",
    "transition",
    "uniform_timesteps",
    "von_mises_fisher_draw",
    "von_mises_fisher_log_prob",
    "von_mises_fisher_resultant",
    "where_present",
]
