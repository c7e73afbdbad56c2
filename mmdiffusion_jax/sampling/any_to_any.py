"""Any modality from any other."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from mmdiffusion_jax import errors
from mmdiffusion_jax.process import (
    ModalityWeights,
    ModelFunctions,
    Schedule,
    ask_modality,
    check_model,
    check_weights,
    draw,
    estimate_encodings,
    function_of,
    gate,
    head_of,
    marginal,
)
from mmdiffusion_jax.process.checks import (
    expect_callable,
    expect_name,
    expect_whole,
)
from mmdiffusion_jax.sampling.denoiser import Decorator, Question, own_belief, with_known
from mmdiffusion_jax.sampling.grids import uniform_grid
from mmdiffusion_jax.sampling.plan import Plan, plan
from mmdiffusion_jax.sampling.request import Options, as_shape, check_given
from mmdiffusion_jax.sampling.samplers import as_stepper
from mmdiffusion_jax.sampling.steppers import Stepper
from mmdiffusion_jax.sampling.walk import DRAW, NOISE, READ, START, fold, normal, sample_keys, walk


def sample(
    key: jax.Array,
    schedule: Schedule,
    weights: ModalityWeights,
    model: ModelFunctions,
    shape: tuple[int, ...],
    given: Mapping[str, jax.Array] | None = None,
    *,
    stepper: Stepper | str | None = None,
    times: ArrayLike | None = None,
    decorators: Sequence[Decorator] = (),
    estimate: str = "mean",
    unknown: str = "auto",
    read: str = "most_likely",
    corrections: int = 0,
) -> dict[str, jax.Array]:
    """Generates every modality that is not given.

    At each visited t the model's own belief ẑ_0 is read with its own estimates Ê_i of all
    encodings; only then do the known encodings E_i(x_i) enter, and the stepper moves the shifted
    state y_t = z_t − Σ_i w̄_t^(i) E_i. States are of JAX's default float type, whatever the network
    computes in. Where the primary modality is given, z_t is drawn anew from
    the marginal of its z_0 at every visited t, the heads of all these t are pooled,
    Σ_t log p(x_i | z_t) / n, as in the bound's L2, and there is nothing for steppers and decorators
    to do.

    Args:
        key: a typed key, example k then uses `fold_in(key, k)`; or (num_samples,) typed keys, one
            an example. An example does not depend on the others in its batch.
        schedule: the noise schedule.
        weights: the modality weights.
        model: the model as plain functions.
        shape: (num_samples, *latent).
        given: {name: x (num_samples, …)}, the known modalities; left out, all are generated.
        stepper: how to go from state to state, or a name of `SAMPLERS`; left out, `Ancestral()`.
        times: the visited t's, strictly decreasing; left out, T, T − 1, …, 1.
        decorators: guidance and thresholding, the first innermost.
        estimate: of an unknown encoding: "mean" under its head, "draw" from it, or "moments", the
            mean with its variance added to the noise of a stochastic step of order 1.
        unknown: "estimated" lets the states carry the current estimates of unknown modalities,
            refined from t to t; "absent" leaves those out, so that their heads cannot read their
            own guess back. "auto" is "estimated" while the primary is generated; with a known
            primary, where an early wrong guess would confirm itself, it is "absent" for the
            modalities that the model was trained without at times.
        read: "most_likely" values under the heads at the last t (or the pooled heads), or a
            "draw" from the heads at the last t.
        corrections: Langevin steps at each t after it is reached, z ← z + ½σ² s + σ ξ with the
            score s = −ε̂ / σ of the guided reading (Song & Ermon 2019); one call of the model each.

    Returns:
        {name: x} for every modality, the given ones as they came.

    Raises:
        ValueError: an unknown modality, stepper or option, weights of another schedule, a given
            array of another batch size, a bad grid, functions of the model that answer in other
            shapes, or nothing left to generate.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> from mmdiffusion_jax import process, sampling
        >>> pixels = process.ModalityFunctions(
        ...     encode=lambda x: x,
        ...     log_prob=lambda mean, x: mean[:, 0],
        ...     most_likely=lambda mean: mean,
        ... )
        >>> model = process.ModelFunctions(
        ...     denoise=lambda z_t, t: process.Prediction(jnp.full_like(z_t, 0.5), {}),
        ...     modalities={"pixels": pixels}, primary="pixels", target="z_0",
        ... )
        >>> schedule = process.cosine_schedule(100)
        >>> weights = process.modality_weights(schedule, {})
        >>> made = sampling.sample(
        ...     jax.random.key(0), schedule, weights, model, (1, 2),
        ...     stepper=sampling.DPMSolverPP(), times=sampling.uniform_grid(schedule, 10),
        ... )
        >>> made["pixels"].tolist()
        [[0.5, 0.5]]
    """
    options = Options(stepper, times, decorators, estimate, unknown, read, corrections)
    return _generate(key, schedule, weights, model, shape, given, options)[0]


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Trajectory:
    """States on the way from noise to data, n of them, evenly spread over the visited t's.

    Attributes:
        times: (n,), from noise to data.
        states: z_t, (n, batch, *latent).
        clean: ẑ_0 as read from each, guidance and thresholds included, (n, batch, *latent).
        values: {name: (n, batch, …)}, what would be returned if sampling ended there: the clean
            estimate in data units.
    """

    times: jax.Array
    states: jax.Array
    clean: jax.Array
    values: dict[str, jax.Array]


def sample_trajectory(
    key: jax.Array,
    schedule: Schedule,
    weights: ModalityWeights,
    model: ModelFunctions,
    shape: tuple[int, ...],
    given: Mapping[str, jax.Array] | None = None,
    num_states: int = 10,
    **options: Any,
) -> tuple[dict[str, jax.Array], Trajectory]:
    """`sample`, and some of the states that it went through.

    Only these states are held in memory, num_states times as much as the samples need: ask for the
    few samples that are to be looked at. Each costs one more call of the model.

    Args:
        key: as in `sample`.
        schedule: the noise schedule.
        weights: the modality weights.
        model: the model as plain functions.
        shape: (num_samples, *latent).
        given: {name: x (num_samples, …)}, the known modalities, without the primary.
        num_states: how many states are returned, at most as many as are visited; the first and the
            last are among them where there are two or more, else the last.
        **options: the others of `sample`, by name.

    Returns:
        What `sample` returns, and the trajectory; its last values are those.

    Raises:
        ValueError: as `sample`; the primary given, for then no state is denoised; an unknown
            option; a number of states out of range.

    Example:
        >>> from mmdiffusion_jax import process
        >>> pixels = process.ModalityFunctions(
        ...     encode=lambda x: x, log_prob=lambda m, x: m[:, 0], most_likely=lambda m: m
        ... )
        >>> model = process.ModelFunctions(
        ...     lambda z_t, t: process.Prediction(jnp.full_like(z_t, 0.5), {}),
        ...     {"pixels": pixels}, "pixels", target="z_0",
        ... )
        >>> schedule = process.cosine_schedule(100)
        >>> weights = process.modality_weights(schedule, {})
        >>> values, way = sample_trajectory(
        ...     jax.random.key(0), schedule, weights, model, (1, 2), num_states=3, stepper="ddim"
        ... )
        >>> way.times.tolist(), way.states.shape, way.values["pixels"][-1].tolist()
        ([100, 50, 1], (3, 1, 2), [[0.5, 0.5]])
    """
    expect_whole("num_states", num_states, 1)
    fields = [field.name for field in dataclasses.fields(Options)]
    for name in options:
        expect_name("options", name, fields)
    request = Options(**options)
    return _generate(key, schedule, weights, model, shape, given, request, num_states)


def _generate(
    key: jax.Array,
    schedule: Schedule,
    weights: ModalityWeights,
    model: ModelFunctions,
    shape: tuple[int, ...],
    given: Mapping[str, jax.Array] | None,
    options: Options,
    num_states: int | None = None,
) -> tuple[dict[str, jax.Array], Any]:
    """Values of all modalities, and the trajectory where states are asked for."""
    check_weights(schedule, weights)
    check_model(weights, model)
    shape = as_shape(shape)
    given = check_given(model, shape, given)
    times, stepper = options.times, as_stepper(options.stepper)
    route = plan(
        schedule, weights, uniform_grid(schedule, schedule.num_steps) if times is None else times
    )
    places = _spread(len(route.times), num_states)
    keys = sample_keys(key, shape[0])
    dtype = jnp.zeros(()).dtype
    known = {
        name: ask_modality(model, name, "encode", x, shape=shape, dtype=dtype)
        for name, x in given.items()
    }
    question = Question(schedule, weights, model, given, known)
    hidden = [name for name in model.secondaries if name not in given]
    left_out = _left_out(model, hidden, options.unknown, model.primary in given)
    carried = {name: jnp.full(shape[:1], float(name not in left_out)) for name in model.secondaries}
    draw_keys = fold(keys, DRAW) if options.estimate == "draw" else None
    read_keys = fold(keys, READ) if options.read == "draw" else None
    if model.primary in given:
        if places is not None:
            raise ValueError(
                errors.message(
                    "given",
                    f"the primary {model.primary!r}",
                    "other modalities alone where a trajectory is asked for",
                    "leave it out, or use sample: no state is denoised where it is known",
                )
            )
        heads = _read_known(question, route, keys, draw_keys, carried)
        values = {name: _value(model, name, heads[name], read_keys) for name in hidden}
        return {**given, **values}, None

    denoiser = own_belief(question, draw_keys)
    for decorate in options.decorators:
        denoiser = decorate(denoiser, question)
        expect_callable("decorators", denoiser, "when asked to decorate a denoiser")
    denoiser = with_known(denoiser, question, moments=options.estimate == "moments")

    def read(t: jax.Array, z_t: jax.Array) -> tuple[jax.Array, dict[str, jax.Array]]:
        """ẑ_0 and the values of what is not given, if sampling ends at this state."""
        reading = denoiser(jnp.full(shape[:1], t, jnp.int32), z_t, carried)
        z_0, encodings = reading.clean
        values = {
            name: _value(model, name, _alone(head_of(reading.prediction, name)), read_keys)
            for name in hidden
        }
        head = function_of(model, model.primary, "reconstruct")(
            model.primary_encoding(z_0, encodings), reading.prediction.heads.get(model.primary)
        )
        values[model.primary] = _value(model, model.primary, _alone(head), read_keys)
        return z_0, values

    start = normal(fold(keys, START), shape)
    way = walk(
        denoiser, stepper, route, model, start, keys, carried, options.corrections, kept=places
    )
    if places is None:
        return {**given, **read(jnp.asarray(route.times[-1]), way)[1]}, None
    visited = jnp.asarray(route.times[places])
    clean, values = jax.lax.map(lambda pair: read(*pair), (visited, way))
    last = {name: x[-1] for name, x in values.items()}
    return {**given, **last}, Trajectory(visited, way, clean, values)


def _spread(num_places: int, num_states: int | None) -> np.ndarray | None:
    """The places of the states that are kept, evenly spread, the last one always among them."""
    if num_states is None:
        return None
    expect_whole("num_states", num_states, 1, num_places)
    ends = np.linspace(num_places - 1, 0, num_states) if num_states > 1 else [num_places - 1]
    return np.round(ends).astype(np.int32)[::-1]


def _read_known(
    question: Question,
    route: Plan,
    keys: jax.Array,
    draw_keys: jax.Array | None,
    carried: Mapping[str, jax.Array],
) -> dict[str, Any]:
    """The heads of all visited t, leading axis t, when the primary is known."""
    model, known = question.model, question.known
    like = known[model.primary]
    nothing = {name: jnp.zeros_like(like) for name in model.secondaries}

    def refine(estimates: dict[str, jax.Array], t: jax.Array) -> tuple[Any, Any]:
        times = jnp.full(like.shape[:1], t, jnp.int32)
        drift = {name: known.get(name, estimates[name]) for name in model.secondaries}
        z_0 = model.clean_state({**drift, model.primary: known[model.primary]})
        state = marginal(question.schedule, question.weights, times, z_0, drift)
        fresh = normal(fold(fold(keys, NOISE), t), like.shape, like.dtype)
        z_t = state.mean + jnp.sqrt(state.variance) * fresh
        prediction = model.ask(z_t, times, carried)
        at_t = None if draw_keys is None else fold(draw_keys, t)
        refined = gate(estimate_encodings(model, prediction, at_t), carried)
        return refined, {name: head_of(prediction, name) for name in model.secondaries}

    return jax.lax.scan(refine, nothing, jnp.asarray(route.times))[1]


def _value(model: ModelFunctions, name: str, heads: Any, keys: jax.Array | None) -> jax.Array:
    """One modality's value from its heads, leading axis t from noise to data."""
    last = jax.tree.map(lambda leaf: leaf[-1], heads)
    if keys is not None:
        # By name, so that the values of modalities are drawn independently.
        index = sorted(model.modalities).index(name)
        return draw(model, name, fold(keys, index), last)
    if model.modalities[name].pool is not None:
        pooled = function_of(model, name, "pool")(heads)
        shapes = [jax.tree.map(jnp.shape, parameters) for parameters in (pooled, last)]
        if shapes[0] != shapes[1]:
            raise ValueError(
                errors.message(
                    f"modalities[{name!r}].pool",
                    f"parameters of shapes {shapes[0]}",
                    f"one set of them, of shapes {shapes[1]}",
                    "reduce the leading axis, and that alone",
                )
            )
        last = pooled
    sizes = sorted({jnp.shape(leaf)[0] for leaf in jax.tree.leaves(last) if jnp.ndim(leaf)})
    return ask_modality(model, name, "most_likely", last, shape=(*sizes[:1], ...))


def _alone(head: Any) -> Any:
    return jax.tree.map(lambda leaf: jnp.asarray(leaf)[None], head)


def _left_out(
    model: ModelFunctions, hidden: Sequence[str], unknown: str, primary_known: bool
) -> list[str]:
    """The unknown secondaries that the states do not carry."""
    if unknown == "auto":
        return [name for name in hidden if primary_known and model.may_leave_out(name)]
    return list(hidden) if unknown == "absent" else []
