"""Samples of any modalities given any others."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from mmdiffusion_jax import errors
from mmdiffusion_jax.model import (
    Diffusion,
    ModelFunctions,
    Roles,
    call_modality,
    function_of,
    head_of,
    query_roles,
)
from mmdiffusion_jax.model.diffusion import expect_diffusion
from mmdiffusion_jax.model.showing import shown_at
from mmdiffusion_jax.process.checks import expect, expect_callable, expect_whole
from mmdiffusion_jax.sampling.fixed import Fixed, certain_part, with_fixed
from mmdiffusion_jax.sampling.grids import uniform_grid
from mmdiffusion_jax.sampling.guidance.decoder import decoder_guidance
from mmdiffusion_jax.sampling.heads import alone, heads_given_known, heads_given_primary, value_of
from mmdiffusion_jax.sampling.loop import (
    DRAW,
    READ,
    SHOWN,
    START,
    fold,
    normal,
    run_stepper,
    sample_keys,
)
from mmdiffusion_jax.sampling.method import Method, as_shape, check_given
from mmdiffusion_jax.sampling.order import Stage, parse_order, stages_of
from mmdiffusion_jax.sampling.plan import Plan, plan
from mmdiffusion_jax.sampling.query import Query, plain_denoiser, with_given


def sample(
    key: jax.Array,
    diffusion: Diffusion,
    shape: tuple[int, ...],
    given: Mapping[str, jax.Array] | None = None,
    method: Method | None = None,
    fixed: Fixed | None = None,
) -> dict[str, jax.Array]:
    """Generates what is not given, stage after stage of `Method.order`, each known to the next.

    A network that shows what is known (`ModelFunctions.shows`) learns E[ε | z_t, x_known] and the
    heads p(x_i | z_t, x_known) themselves, so that nothing is corrected. A stage without the
    primary is one call of the heads. A given modality that the network does not see drives the
    process, and its head corrects ẑ_0 by Bayes' rule unless `decorators` says otherwise.

    At each visited t, ẑ_0 is solved for with the model's estimates Ê_i of all encodings; then the
    given encodings E_i(x_i) replace theirs, and the stepper moves the shifted state
    y_t = z_t − Σ_i w̄_t^(i) E_i. States are of JAX's default float type, whatever the network
    computes in. Where a primary is given that the network does not see, z_t is drawn anew from the
    marginal of its z_0 at every visited t, the heads at all these t are pooled,
    Σ_t log p(x_i | z_t) / n, as in L2 of the bound, and steppers and decorators are not used.

    Args:
        key: a typed key, example k then uses `fold_in(key, k)`; or (num_samples,) typed keys, one
            an example. An example does not depend on the others in its batch.
        diffusion: the process and the model.
        shape: (num_samples, *latent).
        given: {name: x (num_samples, …)}; left out, all modalities are generated.
        method: how to sample; left out, all steps of ancestral sampling.
        fixed: a part of the primary that every sample keeps, where the primary is not given.

    Returns:
        {name: x} for every modality that is given, as it came, or generated.

    Raises:
        ValueError: an unknown modality, a given array of another batch size, a bad grid, functions
            of the model that return other shapes, or nothing left to generate.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> from mmdiffusion_jax import model, process, sampling
        >>> pixels = model.ModalityFunctions(
        ...     encode=lambda x: x,
        ...     log_prob=lambda mean, x: mean[:, 0],
        ...     most_likely=lambda mean: mean,
        ... )
        >>> functions = model.ModelFunctions(
        ...     denoise=lambda z_t, t: model.Prediction(jnp.full_like(z_t, 0.5), {}),
        ...     modalities={"pixels": pixels}, primary="pixels", target="z_0",
        ... )
        >>> schedule = process.cosine_schedule(100)
        >>> diffusion = model.Diffusion(process.Process(schedule), functions)
        >>> times = sampling.uniform_grid(schedule, 10)
        >>> samples = sampling.sample(
        ...     jax.random.key(0), diffusion, (1, 2),
        ...     method=sampling.Method(stepper=sampling.DPMSolverPP(), times=times),
        ... )
        >>> samples["pixels"].tolist()
        [[0.5, 0.5]]
    """
    return _generate(key, diffusion, shape, given, method, fixed)[0]


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
    """

    times: jax.Array
    states: jax.Array
    clean: jax.Array
    values: dict[str, jax.Array]


def sample_trajectory(
    key: jax.Array,
    diffusion: Diffusion,
    shape: tuple[int, ...],
    given: Mapping[str, jax.Array] | None = None,
    method: Method | None = None,
    num_states: int = 10,
) -> tuple[dict[str, jax.Array], Trajectory]:
    """`sample`, and some of the states that it went through.

    Only these states are held in memory, num_states times as much as the samples need. Each costs
    one more call of the model.

    `num_states` is at most the number of visited t's; of two or more, the first and the last state
    are among them, else the last. The primary must not be given, as then no state is denoised. The
    other arguments and errors are those of `sample`.

    Returns:
        The samples, and the trajectory; its last values are the samples.

    Example:
        >>> from mmdiffusion_jax import model, process
        >>> pixels = model.ModalityFunctions(
        ...     encode=lambda x: x, log_prob=lambda m, x: m[:, 0], most_likely=lambda m: m
        ... )
        >>> functions = model.ModelFunctions(
        ...     lambda z_t, t: model.Prediction(jnp.full_like(z_t, 0.5), {}),
        ...     {"pixels": pixels}, "pixels", target="z_0",
        ... )
        >>> diffusion = model.Diffusion(process.Process(process.cosine_schedule(100)), functions)
        >>> values, path = sample_trajectory(
        ...     jax.random.key(0), diffusion, (1, 2), method=Method("ddim"), num_states=3
        ... )
        >>> path.times.tolist(), path.states.shape, path.values["pixels"][-1].tolist()
        ([100, 50, 1], (3, 1, 2), [[0.5, 0.5]])
    """
    expect_whole("num_states", num_states, 1)
    return _generate(key, diffusion, shape, given, method, None, num_states)


def _generate(
    key: jax.Array,
    diffusion: Diffusion,
    shape: tuple[int, ...],
    given: Mapping[str, jax.Array] | None,
    method: Method | None,
    fixed: Fixed | None,
    num_states: int | None = None,
) -> tuple[dict[str, jax.Array], Any]:
    """All values, and the trajectory of the primary where `num_states` is set."""
    process, model = expect_diffusion(diffusion).process, diffusion.model
    method = expect("method", Method() if method is None else method, Method)
    shape = as_shape(shape)
    values = check_given(model, shape, given)
    times = method.times
    if times is None:
        times = uniform_grid(process.schedule, process.num_steps)
    grid = plan(process, times, model.variance)
    places = _spread(len(grid.times), num_states)
    if places is not None and model.primary in values:
        raise errors.invalid(
            "given",
            f"the primary {model.primary!r}",
            "other modalities alone for a trajectory",
            "leave it out, or use sample: no state is denoised where it is given",
        )
    keys, path = sample_keys(key, shape[0]), None
    for stage in stages_of(model, values, method.order):
        if model.primary in stage:
            how = stage, method, grid, places, fixed
            drawn, path = _diffuse(keys, diffusion, shape, values, how)
        else:
            drawn = _answer(keys, diffusion, shape, values, (stage, method, grid))
        values = {**values, **drawn}
    return values, path


def _query(
    diffusion: Diffusion, shape: tuple[int, ...], values: Mapping[str, jax.Array]
) -> tuple[Query, set[str]]:
    """The query of given values, and the names of those that the network is shown."""
    dtype = jnp.zeros(()).dtype
    encodings = {
        name: call_modality(diffusion.model, name, "encode", x, shape=shape, dtype=dtype)
        for name, x in values.items()
    }
    return Query(diffusion, values, encodings), set(values) & set(diffusion.model.shows)


def _answer(
    keys: jax.Array,
    diffusion: Diffusion,
    shape: tuple[int, ...],
    given: Mapping[str, jax.Array],
    how: tuple[Stage, Method, Plan],
) -> dict[str, jax.Array]:
    """The values of a stage without the primary, by the heads."""
    stage, method, grid = how
    model = diffusion.model
    query, shown = _query(diffusion, shape, given)
    # What the primary is to be drawn from has to be a draw: of labels without anything given, the
    # most likely is one and the same.
    is_draw = method.read == "draw" or (model.primary not in given and not _is_last(method, stage))
    read_keys = fold(keys, READ) if is_draw else None
    heads: Any
    if model.primary in shown or model.primary not in given:
        roles = query_roles(model.modalities, shape[0], given, shown=shown)
        at_levels = _shown(keys, query, roles, method)
        heads = heads_given_known(diffusion, stage, at_levels, shape)
    else:
        absent = _absent(model, stage, method.unknown, primary_given=True)
        carried = set(model.modalities) - shown - set(absent)
        roles = query_roles(model.modalities, shape[0], given, carried, shown)
        roles = _shown(keys, query, roles, method)[0]
        draw_keys = fold(keys, DRAW) if method.estimate == "draw" else None
        heads = heads_given_primary(query, grid, keys, draw_keys, roles)
    return {name: value_of(model, name, heads[name], read_keys) for name in stage}


def _shown(keys: jax.Array, query: Query, roles: Roles, method: Method) -> list[Roles]:
    """The roles with what is known to be shown, at each of its noise levels."""
    roles = dataclasses.replace(roles, encodings=query.encodings)
    levels = {name: x for name, x in method.shown_levels.items() if name in query.given and x}
    schedule, at_levels = query.diffusion.process.schedule, []
    for place in range(max(map(len, levels.values()), default=0)):
        here = {name: x[min(place, len(x) - 1)] for name, x in levels.items()}
        steps = {
            name: jnp.full(keys.shape, round(level * schedule.num_steps), jnp.int32)
            for name, level in here.items()
        }
        at_levels.append(shown_at(fold(fold(keys, SHOWN), place), schedule, roles, steps))
    return at_levels or [roles]


def _is_last(method: Method, stage: Stage) -> bool:
    """Whether an order ends with this stage."""
    return method.order is not None and parse_order(method.order)[-1] == stage


def _diffuse(
    keys: jax.Array,
    diffusion: Diffusion,
    shape: tuple[int, ...],
    given: Mapping[str, jax.Array],
    how: tuple[Stage, Method, Plan, np.ndarray | None, Fixed | None],
) -> tuple[dict[str, jax.Array], Trajectory | None]:
    """The values of a stage with the primary, and the states on the way if places are given."""
    stage, method, grid, places, fixed = how
    model = diffusion.model
    fixed = certain_part(model, given, fixed)
    query, shown = _query(diffusion, shape, given)
    generated = [name for name in stage if name != model.primary]
    absent = {*_absent(model, generated, method.unknown, primary_given=False)}
    carried = {*stage, *given} - shown - absent
    roles = query_roles(model.modalities, shape[0], given, carried, shown)
    roles = _shown(keys, query, roles, method)[0]
    draw_keys = fold(keys, DRAW) if method.estimate == "draw" else None
    read_keys = fold(keys, READ) if method.read == "draw" else None
    denoiser = plain_denoiser(query, draw_keys)
    decorators = method.decorators
    if decorators is None:
        by_heads = dict.fromkeys(sorted(set(given) - shown), 1.0)
        decorators = [decoder_guidance(by_heads)] if by_heads else []
    for decorate in decorators:
        denoiser = decorate(denoiser, query)
        expect_callable("decorators", denoiser, "from a decorator")
    denoiser = with_given(denoiser, query, moments=method.estimate == "moments")
    if fixed is not None:
        denoiser = with_fixed(denoiser, model, fixed, shape)

    def read(t: jax.Array, z_t: jax.Array) -> tuple[jax.Array, dict[str, jax.Array]]:
        """ẑ_0, and the values of the stage, if sampling ends at this state."""
        state = denoiser(jnp.full(shape[:1], t, jnp.int32), z_t, roles)
        z_0, prediction = state.clean.z_0, state.prediction
        values = {
            name: value_of(model, name, alone(head_of(prediction, name)), read_keys)
            for name in generated
        }
        head = function_of(model, model.primary, "reconstruct")(
            model.primary_encoding(z_0, state.clean.encodings), prediction.heads.get(model.primary)
        )
        value = value_of(model, model.primary, alone(head), read_keys)
        values[model.primary] = value if fixed is None else fixed.kept_in(value)
        return z_0, values

    start = normal(fold(keys, START), shape)
    states = run_stepper(denoiser, method, grid, start, keys, roles, kept=places)
    if places is None:
        return read(jnp.asarray(grid.times[-1]), states)[1], None
    visited = jnp.asarray(grid.times[places])
    clean, values = jax.lax.map(lambda pair: read(*pair), (visited, states))
    last = {name: x[-1] for name, x in values.items()}
    return last, Trajectory(visited, states, clean, values)


def _spread(num_places: int, num_states: int | None) -> np.ndarray | None:
    """The places of the states that are kept, evenly spread, the last one always among them."""
    if num_states is None:
        return None
    expect_whole("num_states", num_states, 1, num_places)
    ends = np.linspace(num_places - 1, 0, num_states) if num_states > 1 else [num_places - 1]
    return np.round(ends).astype(np.int32)[::-1]


def _absent(
    model: ModelFunctions, generated: Sequence[str], unknown: str, primary_given: bool
) -> list[str]:
    """The generated secondaries that the states do not carry; see `Method.unknown`."""
    if unknown == "auto":
        return [name for name in generated if primary_given and model.can_drop(name)]
    return list(generated) if unknown == "absent" else []
