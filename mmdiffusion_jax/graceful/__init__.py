"""Graceful updates: replace a deployed model by a better one, and nobody is worse off.

What was stored with the old one goes on serving, and decisions that were right stay right.
"""

from mmdiffusion_jax.graceful.architectures import Candidate, search
from mmdiffusion_jax.graceful.bundle import (
    Bundle,
    encoder_of,
    freeze,
    read_bundle,
    write_bundle,
)
from mmdiffusion_jax.graceful.compatibility import (
    class_prototypes,
    compatible_loss,
    cosine_logits,
    extended_head,
    mix_stored,
    shared_coordinates,
    unit,
)
from mmdiffusion_jax.graceful.decisions import (
    DISTANCES,
    Flips,
    ensemble_logits,
    flips,
    focal_distillation,
    focal_weights,
)
from mmdiffusion_jax.graceful.fingerprints import (
    Encoder,
    StoredLatents,
    check_together,
    fingerprint,
    read_latents,
    write_latents,
)
from mmdiffusion_jax.graceful.kronecker import (
    Factors,
    kronecker_factors,
    kronecker_preconditioner,
)
from mmdiffusion_jax.graceful.linear_quadratic import (
    ClosedForm,
    closed_form,
    jacobian_of,
    linearised,
    quadratic_loss,
    solve,
    targets,
)
from mmdiffusion_jax.graceful.retrieval import Cells, Retrieval, migration_curve, retrieve

__all__ = [
    "DISTANCES",
    "Bundle",
    "Candidate",
    "Cells",
    "ClosedForm",
    "Encoder",
    "Factors",
    "Flips",
    "Retrieval",
    "StoredLatents",
    "check_together",
    "class_prototypes",
    "closed_form",
    "compatible_loss",
    "cosine_logits",
    "encoder_of",
    "ensemble_logits",
    "extended_head",
    "fingerprint",
    "flips",
    "focal_distillation",
    "focal_weights",
    "freeze",
    "jacobian_of",
    "kronecker_factors",
    "kronecker_preconditioner",
    "linearised",
    "migration_curve",
    "mix_stored",
    "quadratic_loss",
    "read_bundle",
    "read_latents",
    "retrieve",
    "search",
    "shared_coordinates",
    "solve",
    "targets",
    "unit",
    "write_bundle",
    "write_latents",
]
