"""Steppers driven by hand: every state of a trajectory, under noises that the test chooses."""

import jax
import jax.numpy as jnp
import numpy as np

from mmdiffusion_jax import sampling
from mmdiffusion_jax.model import CleanState, ModelFunctions, NoisyState, all_carried


class StepRunner:
    """Steps of one stepper for one model, compiled once for all grids.

    It denoises as `sample` does with nothing given and no decorator.
    """

    def __init__(
        self,
        world,
        stepper: sampling.Stepper,
        model: ModelFunctions | None = None,
        moments: bool = False,
    ) -> None:
        self.world, self.stepper = world, stepper
        self.model = world.model() if model is None else model
        query = sampling.Query(world.diffusion(self.model), {}, {})
        denoiser = sampling.with_given(sampling.plain_denoiser(query), query, moments)
        self.denoiser = jax.jit(denoiser)
        self._step = jax.jit(self._take)

    def denoise(self, t: jax.Array, z_t: jax.Array) -> NoisyState:
        """The estimates from a state that carries all modalities; t is a scalar."""
        times = jnp.full(z_t.shape[:1], t, jnp.int32)
        return self.denoiser(times, z_t, all_carried(self.model.modalities, z_t.shape[0]))

    def states(self, times: np.ndarray, start: jax.Array, noises: np.ndarray) -> np.ndarray:
        """(n, batch, *latent), the state at each t; noises are (n − 1, batch, *latent)."""
        route = sampling.plan(self.world.process, times, self.model.variance)
        like = CleanState(start, dict.fromkeys(self.model.secondaries, start))
        tables, state = self.stepper.init(route, like)
        tables = jax.tree.map(np.asarray, tables)
        reached = [start]
        for k, noise in enumerate(noises):
            entries = jax.tree.map(lambda table, k=k: table[k], tables)
            z_t, state = self._step(entries, reached[-1], noise, state)
            reached.append(z_t)
        return np.stack(reached)

    def _take(self, entries, z_t, noise, state):
        return self.stepper.step(entries, z_t, self.denoise, noise, state)
