"""What needs JAX and nothing else, under one name: processes, losses and samplers.

The names are those of four packages: `process` (schedules, weights, transitions, posteriors),
`model` (what a model is to the maths: plain functions, likelihoods), `objective` (losses, the
bound, the flow, scores) and `sampling` (`sample`, steppers, grids, guidance).

Example:
    >>> import mmdiffusion_jax as mm
    >>> schedule = mm.pure.cosine_schedule(100)
    >>> mm.pure.karras_grid(schedule, 3).tolist()
    [99, 83, 1]
"""

from mmdiffusion_jax import model, objective, process, sampling
from mmdiffusion_jax.model import *  # noqa: F403
from mmdiffusion_jax.objective import *  # noqa: F403
from mmdiffusion_jax.process import *  # noqa: F403
from mmdiffusion_jax.sampling import *  # noqa: F403

__all__ = [*process.__all__, *model.__all__, *objective.__all__, *sampling.__all__]
