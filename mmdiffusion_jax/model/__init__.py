"""What a model is to the maths: its functions, the roles of modalities, clean and noisy states."""

from mmdiffusion_jax.model.absence import where_present
from mmdiffusion_jax.model.backbone import Backbone, Features, Shown
from mmdiffusion_jax.model.batches import Batch, Presence, split_presence
from mmdiffusion_jax.model.calls import (
    call_modality,
    draw,
    estimate_encodings,
    function_of,
    head_of,
)
from mmdiffusion_jax.model.diffusion import Diffusion
from mmdiffusion_jax.model.functions import (
    Denoise,
    Modal,
    ModalityFunctions,
    ModelFunctions,
    Prediction,
)
from mmdiffusion_jax.model.likelihoods import (
    categorical_log_prob,
    discretised_gaussian_log_prob,
    gaussian_log_prob,
)
from mmdiffusion_jax.model.roles import Role, Roles, all_carried, query_roles
from mmdiffusion_jax.model.state import CleanState, Denoiser, NoisyState, denoise, encode, observe
from mmdiffusion_jax.model.tasks import default_tasks, parse_tasks, training_roles
from mmdiffusion_jax.model.von_mises_fisher import (
    von_mises_fisher_draw,
    von_mises_fisher_log_prob,
    von_mises_fisher_resultant,
)

__all__ = [
    "Backbone",
    "Batch",
    "CleanState",
    "Denoise",
    "Denoiser",
    "Diffusion",
    "Features",
    "Modal",
    "ModalityFunctions",
    "ModelFunctions",
    "NoisyState",
    "Prediction",
    "Presence",
    "Role",
    "Roles",
    "Shown",
    "all_carried",
    "call_modality",
    "categorical_log_prob",
    "default_tasks",
    "denoise",
    "discretised_gaussian_log_prob",
    "draw",
    "encode",
    "estimate_encodings",
    "function_of",
    "gaussian_log_prob",
    "head_of",
    "observe",
    "parse_tasks",
    "query_roles",
    "split_presence",
    "training_roles",
    "von_mises_fisher_draw",
    "von_mises_fisher_log_prob",
    "von_mises_fisher_resultant",
    "where_present",
]
