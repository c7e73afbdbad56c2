"""A world of Gaussian clusters in the plane, the number of the cluster its label; all is exact.

k ~ p, x | k ~ N(c_k, s² I); the label's encoder is a table in the latent. Given z_t, the label is
categorical and x a mixture, so that this world, unlike the linear one, is not Gaussian.
"""

import jax
import jax.numpy as jnp
import numpy as np
from scipy import stats

from mmdiffusion_jax import process
from mmdiffusion_jax.model import (
    Diffusion,
    ModalityFunctions,
    ModelFunctions,
    Prediction,
    Roles,
    categorical_log_prob,
    gaussian_log_prob,
)

SPREAD = 0.3
_ANGLES = 2 * np.pi * np.arange(3) / 3
CENTRES = 0.6 * np.stack([np.cos(_ANGLES), np.sin(_ANGLES)], axis=1)
TABLE = 2**0.5 * np.stack([np.cos(_ANGLES + 1), np.sin(_ANGLES + 1)], axis=1)


class MixtureWorld:
    def __init__(
        self,
        num_steps: int,
        log_snr: tuple[float, float] = (5.0, -8.0),
        weight: float = 0.7,
        probabilities: tuple[float, float, float] = (1 / 3, 1 / 3, 1 / 3),
    ) -> None:
        alpha_bar = 1 / (1 + np.exp(-np.linspace(*log_snr, num_steps)))
        ratios = alpha_bar / np.concatenate([[1.0], alpha_bar[:-1]])
        self.schedule = process.schedule_from_betas(1 - ratios)
        weights = process.modality_weights(
            self.schedule, {"label": process.Bump(weight)}, given="marginal"
        )
        self.process = process.Process(self.schedule, weights)
        self.probabilities = np.array(probabilities)
        self.mean = self.probabilities @ CENTRES
        around = CENTRES - self.mean
        self.covariance = (self.probabilities * around.T) @ around + SPREAD**2 * np.eye(2)

    def draw(self, count: int, seed: int = 1) -> dict[str, jax.Array]:
        rng = np.random.default_rng(seed)
        labels = rng.choice(3, count, p=self.probabilities)
        x = CENTRES[labels] + SPREAD * rng.normal(size=(count, 2))
        return {"x": jnp.asarray(np.float32(x)), "label": jnp.asarray(labels)}

    def cdf(self, points: np.ndarray, direction: np.ndarray) -> np.ndarray:
        """P(x · direction ≤ point)."""
        parts = stats.norm.cdf(points[:, None], CENTRES @ direction, SPREAD)
        return parts @ self.probabilities

    def posterior(self, x: np.ndarray) -> np.ndarray:
        """p(k | x), (batch, 3)."""
        logits = -0.5 * ((x[:, None] - CENTRES) ** 2).sum(-1) / SPREAD**2
        weighted = self.probabilities * np.exp(logits - logits.max(1, keepdims=True))
        return weighted / weighted.sum(1, keepdims=True)

    def diffusion(self, model=None):
        """The process with its optimal model, or with another one."""
        return Diffusion(self.process, self.model() if model is None else model)

    def model(self, **options: object) -> ModelFunctions:
        """The optimal model of this world, as plain functions."""
        schedule, drifts = self.schedule, self.process.weights.marginal["label"]
        centres, table = jnp.asarray(CENTRES), jnp.asarray(TABLE)
        prior = jnp.log(jnp.asarray(self.probabilities))

        def denoise(z_t: jax.Array, t: jax.Array, roles: Roles) -> Prediction:
            bar, noise = schedule.alpha_bar[t][:, None], schedule.noise_variance[t][:, None]
            variance = bar * SPREAD**2 + noise
            drift = (roles.carried("label").astype(z_t.dtype) * drifts[t])[:, None, None] * table
            distance = z_t[:, None] - jnp.sqrt(bar)[:, None] * centres - drift
            logits = prior - 0.5 * (distance**2).sum(-1) / variance
            residual = jnp.einsum("bk,bkd->bd", jax.nn.softmax(logits), distance)
            log_std = jnp.broadcast_to(0.5 * jnp.log(noise * SPREAD**2 / variance), z_t.shape)
            value = residual * jnp.sqrt(noise) / variance
            return Prediction(value, {"label": jax.nn.log_softmax(logits), "x": log_std})

        def variance_of_encoding(logits: jax.Array) -> jax.Array:
            p = jax.nn.softmax(logits)
            return p @ table**2 - (p @ table) ** 2

        modalities = {
            # The head of x is the spread that is left within one cluster.
            "x": ModalityFunctions(
                encode=lambda x: x,
                log_prob=lambda head, x: gaussian_log_prob(*head, x),
                draw=lambda key, head: (
                    head[0] + jnp.exp(head[1]) * jax.random.normal(key, head[0].shape)
                ),
                most_likely=lambda head: head[0],
                reconstruct=lambda z_0, log_std: (z_0, log_std),
                num_dims=2,
            ),
            "label": ModalityFunctions(
                encode=lambda k: table[k],
                log_prob=categorical_log_prob,
                expected_encoding=lambda logits: jax.nn.softmax(logits) @ table,
                encoding_variance=variance_of_encoding,
                draw=jax.random.categorical,
                most_likely=lambda logits: jnp.argmax(logits, axis=-1),
                pool=lambda logits: jax.nn.log_softmax(logits.mean(0)),
            ),
        }
        return ModelFunctions(denoise, modalities, primary="x", sees_roles=True, **options)
