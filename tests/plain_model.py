"""A model of two modalities without a framework, small enough to be traced in no time."""

import jax
import jax.numpy as jnp

from mmdiffusion_jax import process
from mmdiffusion_jax.baselines import SeparateFunctions
from mmdiffusion_jax.model import ModalityFunctions, ModelFunctions, Prediction, gaussian_log_prob

SCHEDULE = process.cosine_schedule(6)
WEIGHTS = process.modality_weights(SCHEDULE, {"y": "bump"}, given="marginal")
PROCESS = process.Process(SCHEDULE, WEIGHTS)


def point(**functions):
    """A point by a Gaussian of unit variance about the head, summed over all axes."""
    return ModalityFunctions(
        **{
            "encode": lambda x: x,
            "log_prob": lambda mean, x: gaussian_log_prob(mean, jnp.zeros_like(mean), x),
            "expected_encoding": lambda mean: mean,
            "encoding_variance": lambda mean: jnp.ones_like(mean),
            "draw": lambda key, mean: mean + jax.random.normal(key, mean.shape, mean.dtype),
            "most_likely": lambda mean: mean,
            "num_dims": 2,
            **functions,
        }
    )


def shared(denoise=None, y=None, **options):
    """z_0 encodes the point x; the point y drives the process."""

    def plain(z_t, t):
        return Prediction(0.5 * z_t, {"y": jnp.tanh(z_t)})

    modalities = {"x": point(), "y": point() if y is None else y}
    return ModelFunctions(denoise or plain, modalities, "x", **options)


def separate(denoise=None, y=None, **options):
    """The same modalities, each with a time of its own."""

    def plain(states, times):
        return Prediction(0.5 * states["x"], {"y": jnp.tanh(states["y"])})

    modalities = {"x": point(), "y": point() if y is None else y}
    return SeparateFunctions(denoise or plain, modalities, "x", **options)


def batch(size=3):
    """(size, 2) each."""
    x, y = jax.random.normal(jax.random.key(1), (2, size, 2))
    return {"x": x, "y": y}
