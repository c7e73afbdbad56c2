"""Graceful updates: replace a deployed model without breaking what was built on it.

Stored latents stay usable, and decisions that were right stay right.
"""

from mmdiffusion_jax.graceful.methods.architectures import Candidate, search
from mmdiffusion_jax.graceful.methods.compatibility import (
    class_prototypes,
    compatible_loss,
    cosine_logits,
    extended_head,
    mix_stored,
    shared_coordinates,
    unit,
)
from mmdiffusion_jax.graceful.methods.decisions import (
    DISTANCES,
    Flips,
    ensemble_logits,
    flips,
    focal_distillation,
    focal_weights,
)
from mmdiffusion_jax.graceful.methods.kronecker import (
    Factors,
    kronecker_factors,
    kronecker_preconditioner,
)
from mmdiffusion_jax.graceful.methods.linear_quadratic import (
    ClosedForm,
    closed_form,
    jacobian_of,
    linearised,
    quadratic_loss,
    solve,
    targets,
)
from mmdiffusion_jax.graceful.methods.retrieval import (
    Cells,
    Retrieval,
    migration_curve,
    nearest,
    retrieve,
)
from mmdiffusion_jax.graceful.updates.bundle import (
    Bundle,
    encoder_of,
    freeze,
    read_bundle,
    write_bundle,
)
from mmdiffusion_jax.graceful.updates.deployed import (
    deployed_terms,
    heads_at_noise,
    latent_distance,
    with_encoders,
)
from mmdiffusion_jax.graceful.updates.fingerprints import (
    Encoder,
    StoredLatents,
    check_together,
    fingerprint,
    read_latents,
    write_latents,
)
from mmdiffusion_jax.graceful.updates.options import UpdateOptions
from mmdiffusion_jax.graceful.updates.plots import plot_report
from mmdiffusion_jax.graceful.updates.report import Limits, Report, UpdateRefused, compare
from mmdiffusion_jax.graceful.updates.successor import aligned, constraint, update

__all__ = [
    "DISTANCES",
    "Bundle",
    "Candidate",
    "Cells",
    "ClosedForm",
    "Encoder",
    "Factors",
    "Flips",
    "Limits",
    "Report",
    "Retrieval",
    "StoredLatents",
    "UpdateOptions",
    "UpdateRefused",
    "aligned",
    "check_together",
    "class_prototypes",
    "closed_form",
    "compare",
    "compatible_loss",
    "constraint",
    "cosine_logits",
    "deployed_terms",
    "encoder_of",
    "ensemble_logits",
    "extended_head",
    "fingerprint",
    "flips",
    "focal_distillation",
    "focal_weights",
    "freeze",
    "heads_at_noise",
    "jacobian_of",
    "kronecker_factors",
    "kronecker_preconditioner",
    "latent_distance",
    "linearised",
    "migration_curve",
    "mix_stored",
    "nearest",
    "plot_report",
    "quadratic_loss",
    "read_bundle",
    "read_latents",
    "retrieve",
    "search",
    "shared_coordinates",
    "solve",
    "targets",
    "unit",
    "update",
    "with_encoders",
    "write_bundle",
    "write_latents",
]
