"""The linear Gaussian world with its optimal network that sees what is known beside z_t."""

import jax
import jax.numpy as jnp
import numpy as np
from scipy import stats

from mmdiffusion_jax.model import ModelFunctions, Prediction, Roles
from tests.linear_world import DIMS, LinearWorld


class ShownWorld(LinearWorld):
    """Tables of E[u | z_t, x_K] for every choice of diffused, carried and known modalities."""

    def __init__(self, count: int, num_steps: int, **options: object) -> None:
        super().__init__(count, num_steps, **options)
        self.everyone = ("p", *self.names)
        self.codes = dict(zip(self.everyone, (np.eye(DIMS), *self.encoders), strict=True))
        size = len(self.everyone)
        noise = np.asarray(self.schedule.noise_variance, np.float64)
        bar = np.sqrt(np.asarray(self.schedule.alpha_bar, np.float64))
        factors = {"p": bar, **self.process.weights.marginal}
        choices = size, 2**size, 2**size, len(bar)
        maps = np.zeros((*choices, DIMS * (size + 1), DIMS * size))
        gains = np.zeros((*choices, DIMS * size, DIMS * (size + 1)))
        left = np.zeros((*choices, DIMS * size, DIMS * size))
        for diffused, carried, known in np.ndindex(choices[:3]):
            rows = np.zeros((len(bar), DIMS * (size + 1), DIMS * size))
            spread = np.zeros((len(bar), DIMS * (size + 1)))
            spread[:, :DIMS] = noise[:, None]
            for i, name in enumerate(self.everyone):
                columns = slice(DIMS * i, DIMS * (i + 1))
                factor = np.asarray(factors[name], np.float64)[:, None, None]
                rows[:, :DIMS, columns] = (carried >> i & 1) * factor * self.codes[name]
                if i and i == diffused:  # in the place of the primary
                    rows[:, :DIMS, columns] = bar[:, None, None] * self.codes[name]
                # What is not known is observed as nothing, under noise of its own.
                here = slice(DIMS * (i + 1), DIMS * (i + 2))
                rows[:, here, columns] = (known >> i & 1) * self.codes[name]
                spread[:, here] = 1 - (known >> i & 1)
            if not carried and not diffused:
                spread[:, :DIMS] = 1.0
            spread[0, :DIMS] = 1.0
            seen = rows @ self.covariance
            inside = seen @ rows.transpose(0, 2, 1) + spread[:, :, None] * np.eye(len(spread[0]))
            gain = np.linalg.solve(inside, seen).transpose(0, 2, 1)
            place = diffused, carried, known
            maps[place], gains[place] = rows, gain
            left[place] = self.covariance - gain @ seen
        self.tables = maps, gains, left

    def exact(self, batch: dict[str, jax.Array], known: tuple[str, ...]) -> np.ndarray:
        """−log p(all others | known) of each example."""
        u = np.concatenate([np.asarray(batch[name]) for name in self.everyone], axis=1)
        whole = stats.multivariate_normal(self.mean, self.covariance).logpdf(u)
        places = [DIMS * self.everyone.index(name) + i for name in known for i in range(DIMS)]
        if not places:
            return -whole
        part = stats.multivariate_normal(
            self.mean[places], self.covariance[np.ix_(places, places)]
        ).logpdf(u[:, places])
        return part - whole

    def model(self, **options: object) -> ModelFunctions:
        """The optimal model that sees what is known."""
        maps, gains, left = (jnp.asarray(table) for table in self.tables)
        mu = jnp.asarray(self.mean)
        plain = super().model()

        def denoise(z_t: jax.Array, t: jax.Array, roles: Roles) -> Prediction:
            carried, known = (
                sum(
                    (has(name).astype(t.dtype) << i for i, name in enumerate(self.everyone)),
                    jnp.zeros_like(t),
                )
                for has in (roles.carried, roles.known)
            )
            diffused = sum(
                (roles.diffused(name).astype(t.dtype) * i for i, name in enumerate(self.everyone)),
                jnp.zeros_like(t),
            )
            shown = [roles.shown(name, z_t) for name in self.everyone]
            seen = jnp.concatenate([z_t, *shown], axis=1)
            place = diffused, carried, known, t
            seen = seen - jnp.einsum("bij,j->bi", maps[place], mu)
            u = mu + jnp.einsum("bij,bj->bi", gains[place], seen)
            noise = z_t - jnp.einsum("bij,bj->bi", maps[place][:, :DIMS], u)
            noise = noise / jnp.sqrt(self.schedule.noise_variance[t])[:, None]
            heads = {}
            for i, name in enumerate(self.everyone):
                part = slice(DIMS * i, DIMS * (i + 1))
                heads[name] = (u[:, part], left[place][:, part, part])
            return Prediction(noise, heads)

        return ModelFunctions(
            denoise=denoise,
            modalities=plain.modalities,
            primary="p",
            sees_roles=True,
            shows=self.everyone,
            **options,
        )


def against_the_law(world, batch, samples, known):
    """Kolmogorov–Smirnov tests of the residuals, whitened by the exact conditional law.

    One a coordinate, against N(0, 1), and one of their squared norms, against χ².
    """
    places = [DIMS * world.everyone.index(name) + i for name in known for i in range(DIMS)]
    asked = [i for i in range(len(world.mean)) if i not in places]
    u = np.concatenate([np.asarray(samples[name]) for name in world.everyone], axis=1)
    mean, covariance = world.mean[asked], world.covariance[np.ix_(asked, asked)]
    residual = u[:, asked] - mean
    if places:
        cross = world.covariance[np.ix_(asked, places)]
        gain = np.linalg.solve(world.covariance[np.ix_(places, places)], cross.T).T
        given = np.concatenate([np.asarray(batch[name]) for name in known], axis=1)
        residual = residual - (given - world.mean[places]) @ gain.T
        covariance = covariance - gain @ cross.T
    white = np.linalg.solve(np.linalg.cholesky(covariance), residual.T)
    tests = [stats.kstest(row, "norm") for row in white]
    # Norms see what the single coordinates do not: that they depend on each other.
    return [*tests, stats.kstest((white**2).sum(0), stats.chi2(len(white)).cdf)]


def p_values(world, batch, samples, known):
    """Of the tests above."""
    return [test.pvalue for test in against_the_law(world, batch, samples, known)]
