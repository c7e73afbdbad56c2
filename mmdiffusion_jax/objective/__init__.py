"""The variational bound and the training losses, pure functions of plain callables."""

from mmdiffusion_jax.objective.bound import (
    bound,
    bound_at,
    bound_estimate,
    draw_t_and_noise,
    step_noise,
)
from mmdiffusion_jax.objective.flow import flow_bound, flow_log_density
from mmdiffusion_jax.objective.loss_terms import LossTerm, LossTerms
from mmdiffusion_jax.objective.losses import (
    LossOptions,
    bound_loss,
    bound_loss_terms,
    simple_loss,
    simple_loss_terms,
)
from mmdiffusion_jax.objective.parallel import pmap_gradient, shard_map_loss
from mmdiffusion_jax.objective.scoring import candidate_log_probs
from mmdiffusion_jax.objective.stages import BoundTerms
from mmdiffusion_jax.objective.terms import (
    posterior_term,
    prior_term,
    reconstruction_term,
    recovery_terms,
)
from mmdiffusion_jax.objective.weightings import (
    min_snr_weighting,
    no_weighting,
    p2_weighting,
    sigmoid_weighting,
    v_weighting,
)

__all__ = [
    "BoundTerms",
    "LossOptions",
    "LossTerm",
    "LossTerms",
    "bound",
    "bound_at",
    "bound_estimate",
    "bound_loss",
    "bound_loss_terms",
    "candidate_log_probs",
    "draw_t_and_noise",
    "flow_bound",
    "flow_log_density",
    "min_snr_weighting",
    "no_weighting",
    "p2_weighting",
    "pmap_gradient",
    "posterior_term",
    "prior_term",
    "reconstruction_term",
    "recovery_terms",
    "shard_map_loss",
    "sigmoid_weighting",
    "simple_loss",
    "simple_loss_terms",
    "step_noise",
    "v_weighting",
]
