"""One stage of sampling: modalities that are generated together, all else known or absent."""

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from mmdiffusion_jax import errors
from mmdiffusion_jax.model import (
    Denoiser,
    Diffusion,
    ModelFunctions,
    Roles,
    function_of,
    head_of,
    query_roles,
)
from mmdiffusion_jax.model.showing import shown_at
from mmdiffusion_jax.model.tasks import diffused_of
from mmdiffusion_jax.process.checks import expect_callable
from mmdiffusion_jax.sampling.fixed import Fixed, Noised, certain_part, check_shares, with_fixed
from mmdiffusion_jax.sampling.guidance.decoder import decoder_guidance
from mmdiffusion_jax.sampling.heads import alone, heads_given_known, heads_given_primary, value_of
from mmdiffusion_jax.sampling.loop import DRAW, READ, SHOWN, STAGE, START, fold, normal, run_stepper
from mmdiffusion_jax.sampling.method import Method
from mmdiffusion_jax.sampling.order import Stage, parse_order
from mmdiffusion_jax.sampling.plan import Plan, plan
from mmdiffusion_jax.sampling.prior import warn_of_the_start
from mmdiffusion_jax.sampling.query import (
    DrawingDenoiser,
    Query,
    make_query,
    plain_denoiser,
    with_given,
)

Values = Mapping[str, jax.Array]


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Trajectory:
    """States on the way from noise to data, n of them, evenly spread over the visited t's.

    Attributes:
        times: (n,), from noise to data.
        states: z_t, (n, batch, *latent).
        clean: ẑ_0 from each, guidance and thresholds included, (n, batch, *latent).
        values: {name: (n, batch, …)}, the samples if sampling ended there: the clean estimate in
            data units, and what is generated together with the primary.

    Example:
        >>> from mmdiffusion_jax import model, process
        >>> point = model.ModalityFunctions(
        ...     encode=lambda x: x,
        ...     log_prob=lambda mean, x: model.gaussian_log_prob(mean, jnp.zeros_like(mean), x),
        ...     most_likely=lambda mean: mean,
        ... )
        >>> functions = model.ModelFunctions(  # it knows that all data are 1
        ...     lambda z_t, t: model.Prediction(jnp.ones_like(z_t), {}), {"x": point}, "x",
        ...     target="z_0",
        ... )
        >>> diffusion = model.Diffusion(process.Process(process.cosine_schedule(10)), functions)
        >>> from mmdiffusion_jax import sampling
        >>> method = sampling.Method(sampling.DDIM(), np.array([10, 5, 1]))
        >>> samples, way = sampling.sample_trajectory(
        ...     jax.random.key(0), diffusion, (4, 2), method=method, num_states=3
        ... )
        >>> way.states.shape
        (3, 4, 2)
    """

    times: jax.Array
    states: jax.Array
    clean: jax.Array
    values: dict[str, jax.Array]


@dataclasses.dataclass(frozen=True)
class Run:
    """What all stages of one call of `sample` share.

    Attributes:
        diffusion: the process and the model.
        shape: (num_samples, *latent).
        keys: (num_samples,) typed keys.
        method: how to sample.
        grid: the process at the visited t.
    """

    diffusion: Diffusion
    shape: tuple[int, ...]
    keys: jax.Array
    method: Method
    grid: Plan

    def of(self, stage: Stage, given: Values) -> "Run | None":
        """The run whose primary is what this stage diffuses; None where the heads answer."""
        model = self.diffusion.model
        name = diffused_of(model, stage)
        if name == model.primary:
            return self
        if name is None or (model.primary in given and model.primary not in model.shows):
            return None
        diffusion = self.diffusion.of(name)
        # Another stage has other noise, or its samples would depend on each other.
        place = sorted(model.modalities).index(name)
        keys = fold(fold(self.keys, STAGE), place)
        grid = plan(diffusion.process, self.grid.times, self.grid.variance)
        return dataclasses.replace(self, diffusion=diffusion, keys=keys, grid=grid)

    def answer(self, stage: Stage, given: Values) -> dict[str, jax.Array]:
        """The values of a stage without the primary, by the heads alone."""
        model, query = self.diffusion.model, make_query(self.diffusion, given, self.shape)
        shown = set(given) & set(model.shows)
        heads: Any
        if model.primary in given and model.primary not in shown:
            carried = {*stage, *given} - shown - self._absent(stage, primary_given=True)
            roles = self._shown(
                query, query_roles(model.modalities, len(self.keys), given, carried, shown)
            )[0]
            heads = heads_given_primary(query, self.grid, self.keys, self._draw_keys(), roles)
        else:
            if set(given) > shown:
                raise errors.invalid(
                    "order",
                    f"{', '.join(stage)} by itself, while {sorted(set(given) - shown)} is given",
                    f"nothing given but what the network is shown, {sorted(model.shows)}",
                    f"generate {model.primary!r} in the same stage, or leave the order out",
                )
            roles = query_roles(model.modalities, len(self.keys), given, shown=shown)
            heads = heads_given_known(self.diffusion, stage, self._shown(query, roles), self.shape)
        # What the primary is to be drawn from has to be a draw: of labels without anything given,
        # the most likely is one and the same.
        order = self.method.order
        is_last = order is not None and parse_order(order)[-1] == stage
        keys = self._read_keys(always=model.primary not in given and not is_last)
        return {name: value_of(model, name, heads[name], keys) for name in stage}

    def diffuse(
        self,
        stage: Stage,
        given: Values,
        fixed: Fixed | None = None,
        begin: Noised | None = None,
        places: np.ndarray | None = None,
    ) -> tuple[dict[str, jax.Array], Trajectory | None]:
        """The values of a stage with the primary, and the states at these places of the grid."""
        model, query = self.diffusion.model, make_query(self.diffusion, given, self.shape)
        shown = set(given) & set(model.shows)
        fixed = certain_part(model, given, fixed)
        generated = [name for name in stage if name != model.primary]
        carried = {*stage, *given} - shown - self._absent(generated, primary_given=False)
        carried -= set(model.only_known)
        roles = query_roles(model.modalities, len(self.keys), given, carried, shown)
        roles = self._shown(query, roles)[0]
        denoiser = self._denoiser(query, fixed)
        read_keys = self._read_keys()

        def read(t: jax.Array, z_t: jax.Array) -> tuple[jax.Array, dict[str, jax.Array]]:
            """ẑ_0, and the values of the stage, if sampling ends at this state."""
            state = denoiser(jnp.full(self.shape[:1], t, jnp.int32), z_t, roles)
            z_0, prediction = state.clean.z_0, state.prediction
            values = {
                name: value_of(model, name, alone(head_of(prediction, name)), read_keys)
                for name in generated
            }
            head = function_of(model, model.primary, "reconstruct")(
                model.primary_encoding(z_0, state.clean.encodings),
                prediction.heads.get(model.primary),
            )
            value = value_of(model, model.primary, alone(head), read_keys)
            values[model.primary] = value if fixed is None else fixed.kept_in(value)
            return z_0, values

        start, grid = normal(fold(self.keys, START), self.shape), self.grid
        unknown = carried - set(given) - {model.primary}
        if begin is None:
            warn_of_the_start(grid, unknown, math.prod(self.shape[1:]))
        else:
            check_shares(model, unknown)
            grid = begin.rest_of(grid, self.diffusion.process)
            drift = roles.mask(query.encodings)
            start = begin.noised(self.diffusion, grid, drift, start)
        states = run_stepper(denoiser, self.method, grid, start, self.keys, roles, kept=places)
        if places is None:
            return read(jnp.asarray(grid.times[-1]), states)[1], None
        visited = jnp.asarray(grid.times[places])
        clean, values = jax.lax.map(lambda pair: read(*pair), (visited, states))
        last = {name: x[-1] for name, x in values.items()}
        return last, Trajectory(visited, states, clean, values)

    def _denoiser(self, query: Query, fixed: Fixed | None) -> Denoiser:
        """The model's, guided, and with what is given or fixed in the place of its estimates."""

        def make(keys: jax.Array | None) -> Denoiser:
            denoiser = plain_denoiser(query, keys)
            decorators = self.method.decorators
            for decorate in [decoder_guidance()] if decorators is None else decorators:
                denoiser = decorate(denoiser, query)
                expect_callable("decorators", denoiser, "from a decorator")
            denoiser = with_given(denoiser, query, moments=self.method.estimate == "moments")
            if fixed is None:
                return denoiser
            return with_fixed(denoiser, query.diffusion.model, fixed, self.shape)

        keys = self._draw_keys()
        denoiser = make(keys)
        return denoiser if keys is None else DrawingDenoiser(denoiser, make, keys)

    def _shown(self, query: Query, roles: Roles) -> list[Roles]:
        """The roles with what is known to be shown, at each of its noise levels."""
        roles = dataclasses.replace(roles, encodings=query.encodings)
        levels = {
            name: x for name, x in self.method.shown_levels.items() if name in query.given and x
        }
        schedule, at_levels = self.diffusion.process.schedule, []
        for place in range(max(map(len, levels.values()), default=0)):
            here = {name: x[min(place, len(x) - 1)] for name, x in levels.items()}
            steps = {
                name: jnp.full(self.keys.shape, round(level * schedule.num_steps), jnp.int32)
                for name, level in here.items()
            }
            keys = fold(fold(self.keys, SHOWN), place)
            at_levels.append(shown_at(keys, schedule, roles, steps))
        return at_levels or [roles]

    def _absent(self, generated: Sequence[str], primary_given: bool) -> set[str]:
        """The generated secondaries that the states do not carry; see `Method.unknown`."""
        model: ModelFunctions = self.diffusion.model
        if self.method.unknown == "auto":
            return {name for name in generated if primary_given and model.can_drop(name)}
        return set(generated) if self.method.unknown == "absent" else set()

    def _draw_keys(self) -> jax.Array | None:
        return fold(self.keys, DRAW) if self.method.estimate == "draw" else None

    def _read_keys(self, always: bool = False) -> jax.Array | None:
        return fold(self.keys, READ) if always or self.method.read == "draw" else None
