"""A world where all is Gaussian and linear, so that the best model and log p(X) are known exactly.

x_p ~ N(m, diag v), x_i = A_i x_p + noise; encoders are linear maps into the latent; the optimal
denoiser and heads are conditional expectations of one joint Gaussian.
"""

from collections.abc import Mapping

import jax
import jax.numpy as jnp
import numpy as np
from scipy import stats

from mmdiffusion_jax import process
from mmdiffusion_jax.model import Diffusion, ModalityFunctions, ModelFunctions, Prediction, Roles

DIMS = 2


def cholesky(covariance: jax.Array) -> jax.Array:
    """The lower roots of covariances (batch, DIMS, DIMS), an entry at a time.

    LAPACK's batched calls, two of them at once, lock up a pool of two threads.
    """
    rows: list[list[jax.Array]] = []
    for i in range(DIMS):
        rows.append([])
        for j in range(i + 1):
            known = sum((a * b for a, b in zip(rows[i], rows[j], strict=False)), jnp.zeros(()))
            left = covariance[:, i, j] - known
            rows[i].append(jnp.sqrt(left) if i == j else left / rows[j][j])
        rows[i].extend(jnp.zeros_like(rows[0][0]) for _ in range(i + 1, DIMS))
    return jnp.stack([jnp.stack(row, axis=-1) for row in rows], axis=-2)


class LinearWorld:
    def __init__(
        self,
        count: int,
        num_steps: int,
        seed: int = 0,
        log_snr: tuple[float, float] = (5.0, -8.0),
        scale: float = 0.7,
        shares: Mapping[str, float] | None = None,
    ) -> None:
        rng = np.random.default_rng(seed)
        self.names = tuple(f"x{i}" for i in range(count))
        # Steps of equal log-SNR between fixed ends: more steps refine one and the same process.
        # (A cosine keeps SNR_1 / SNR_2 near 4 however many steps there are, and its gap with it.)
        alpha_bar = 1 / (1 + np.exp(-np.linspace(*log_snr, num_steps)))
        ratios = alpha_bar / np.concatenate([[1.0], alpha_bar[:-1]])
        self.schedule = process.schedule_from_betas(1 - ratios)
        weights = process.modality_weights(
            self.schedule, {name: process.Bump(scale) for name in self.names}, given="marginal"
        )
        self.process = process.Process(self.schedule, weights)
        maps = [rng.normal(size=(DIMS, DIMS)) for _ in self.names]
        self.encoders = [rng.normal(size=(DIMS, DIMS)) for _ in self.names]
        mean, spread = np.array([0.5, -0.3]), np.diag([0.5, 1.2])
        self.mean = np.concatenate([mean, *(a @ mean for a in maps)])
        lift = np.vstack([np.eye(DIMS), *maps])
        noise = np.diag([0.0] * DIMS + [0.3] * (DIMS * count))
        self.covariance = lift @ spread @ lift.T + noise
        total = sum(shares.values()) if shares else 1.0
        self.shares = {"p": 1.0, **{name: x / total for name, x in (shares or {}).items()}}
        self.model_shares = shares
        # One set of tables for each choice of what the state carries; bit i stands for x_i, the
        # highest for the primary.
        self.by_carried = [self._conditionals(bits) for bits in range(2 ** (count + 1))]
        self.observe, self.gain, self.left = self.by_carried[-1]

    def _conditionals(self, bits: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """For each t: z_t as a map of u, the matrix of E[u | z_t] and the covariance left."""
        bar, noise = (
            np.asarray(table, np.float64)[:, None, None]
            for table in (self.schedule.alpha_bar, self.schedule.noise_variance)
        )
        signal, has_primary = np.sqrt(bar), bits >> len(self.names) & 1
        if not has_primary:  # Without it the state at t = 0 is nothing at all.
            noise = np.concatenate([np.ones_like(noise[:1]), noise[1:]])
        blocks = [has_primary * self.shares["p"] * signal * np.eye(DIMS)]
        for i, (name, encoder) in enumerate(zip(self.names, self.encoders, strict=True)):
            drift = np.asarray(self.process.weights.marginal[name], np.float64)[:, None, None]
            drift = drift + self.shares.get(name, 0.0) * signal
            blocks.append((bits >> i & 1) * drift * encoder)
        maps = np.concatenate(blocks, axis=2)
        seen = maps @ self.covariance
        inside = seen @ maps.transpose(0, 2, 1) + noise * np.eye(DIMS)
        gains = np.linalg.solve(inside, seen).transpose(0, 2, 1)
        return maps, gains, self.covariance - gains @ seen

    def draw(self, count: int, seed: int = 1) -> tuple[dict[str, jax.Array], np.ndarray]:
        """Examples and their exact −log p(X)."""
        law = stats.multivariate_normal(self.mean, self.covariance)
        u = law.rvs(count, random_state=seed)
        parts = np.split(u, len(self.names) + 1, axis=1)
        batch = dict(zip(("p", *self.names), map(jnp.asarray, parts), strict=True))
        return batch, -law.logpdf(u)

    def diffusion(self, model=None):
        """The process with its optimal model, or with another one."""
        return Diffusion(self.process, self.model() if model is None else model)

    def model(self, **options: object) -> ModelFunctions:
        """The optimal model of this world, as plain functions."""
        observe, gain, left = (jnp.asarray(np.array(x)) for x in zip(*self.by_carried))
        mu = jnp.asarray(self.mean)

        def denoise(z_t: jax.Array, t: jax.Array, roles: Roles) -> Prediction:
            bits = sum(
                (
                    roles.carried(name).astype(t.dtype) << i
                    for i, name in enumerate((*self.names, "p"))
                ),
                jnp.zeros_like(t),
            )
            residual = z_t - jnp.einsum("bij,j->bi", observe[bits, t], mu)
            u = mu + jnp.einsum("bij,bj->bi", gain[bits, t], residual)
            noise = z_t - jnp.einsum("bij,bj->bi", observe[bits, t], u)
            noise = noise / jnp.sqrt(self.schedule.noise_variance[t])[:, None]
            heads = {}
            for index, name in enumerate(("p", *self.names)):
                part = slice(DIMS * index, DIMS * (index + 1))
                heads[name] = (u[:, part], left[bits, t][:, part, part])
            return Prediction(noise, heads)

        def log_prob(head: tuple[jax.Array, jax.Array], x: jax.Array) -> jax.Array:
            mean, root = head[0], cholesky(head[1])
            # Forward substitution; what is left is a standard normal.
            z: list[jax.Array] = []
            for i in range(DIMS):
                known = sum((root[:, i, j] * z[j] for j in range(i)), jnp.zeros(()))
                z.append((x[:, i] - mean[:, i] - known) / root[:, i, i])
            volume = sum(jnp.log(root[:, i, i]) for i in range(DIMS))
            return sum(jax.scipy.stats.norm.logpdf(part) for part in z) - volume

        def modality(encoder: np.ndarray) -> ModalityFunctions:
            matrix, inverse = jnp.asarray(encoder), jnp.asarray(np.linalg.inv(encoder))
            return ModalityFunctions(
                encode=lambda x: x @ matrix.T,
                log_prob=log_prob,
                expected_encoding=lambda head: head[0] @ matrix.T,
                encoding_variance=lambda head: jnp.einsum("ij,bjk,ik->bi", matrix, head[1], matrix),
                draw=lambda key, head: (
                    head[0]
                    + jnp.einsum(
                        "bij,bj->bi", cholesky(head[1]), jax.random.normal(key, head[0].shape)
                    )
                ),
                most_likely=lambda head: head[0],
                reconstruct=lambda z_0, head: (z_0 @ inverse.T, head[1]),
                num_dims=DIMS,
            )

        encoders = dict(zip(self.names, self.encoders, strict=True))
        return ModelFunctions(
            denoise=denoise,
            modalities={
                "p": modality(np.eye(DIMS)),
                **{n: modality(e) for n, e in encoders.items()},
            },
            primary="p",
            sees_roles=True,
            **{"shares": self.model_shares, **options},
        )
