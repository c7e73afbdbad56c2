"""Any modality from any other, and the one loop that every stepper runs in."""

import functools
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from mmdiffusion_jax import errors
from mmdiffusion_jax.process import (
    Modal,
    ModalityWeights,
    ModelFunctions,
    Schedule,
    check_model,
    draw,
    estimate_encodings,
    function_of,
    gate,
    head_of,
    marginal,
)
from mmdiffusion_jax.sampling.ancestral import Ancestral
from mmdiffusion_jax.sampling.denoiser import (
    ESTIMATES,
    Decorator,
    Denoiser,
    Question,
    Reading,
    own_belief,
    total,
    with_known,
)
from mmdiffusion_jax.sampling.grids import uniform_grid
from mmdiffusion_jax.sampling.plan import Clean, Plan, plan
from mmdiffusion_jax.sampling.steppers import Stepper

UNKNOWNS = ("auto", "absent", "estimated")
"""What the states carry of a secondary modality that is generated."""

READS = ("most_likely", "draw")
"""How values are read from the heads in the end."""

_START, _DRAW, _NOISE, _CORRECT, _READ = range(5)


def sample(
    key: jax.Array,
    schedule: Schedule,
    weights: ModalityWeights,
    model: ModelFunctions,
    shape: tuple[int, ...],
    given: Mapping[str, jax.Array] | None = None,
    *,
    stepper: Stepper | None = None,
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
    state y_t = z_t − Σ_i w̄_t^(i) E_i. Where the primary modality is given, z_t is drawn anew from
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
        stepper: how to go from state to state; left out, `Ancestral()`.
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
        ValueError: an unknown modality or option, a given array of another batch size, a bad grid,
            or nothing left to generate.

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
    given = dict(given or {})
    stepper = Ancestral() if stepper is None else stepper
    _check(weights, model, shape, given, stepper, estimate, unknown, read, corrections)
    times = uniform_grid(schedule, schedule.num_steps) if times is None else times
    route = plan(schedule, weights, times)
    keys = sample_keys(key, shape[0])
    known = {name: model.modalities[name].encode(x) for name, x in given.items()}
    question = Question(schedule, weights, model, given, known)
    hidden = [name for name in model.secondaries if name not in given]
    left_out = _left_out(model, hidden, unknown, model.primary in given)
    carried = {name: jnp.full(shape[:1], float(name not in left_out)) for name in model.secondaries}
    draw_keys = _fold(keys, _DRAW) if estimate == "draw" else None
    read_keys = _fold(keys, _READ) if read == "draw" else None
    if model.primary in given:
        heads = _read_known(question, route, keys, draw_keys, carried)
        return {**given, **{name: _value(model, name, heads[name], read_keys) for name in hidden}}

    denoiser = own_belief(question, draw_keys)
    for decorate in decorators:
        denoiser = decorate(denoiser, question)
    denoiser = with_known(denoiser, question, moments=estimate == "moments")
    start = normal(_fold(keys, _START), shape)
    last = walk(denoiser, stepper, route, model, start, keys, carried, corrections)
    reading = denoiser(jnp.full(shape[:1], route.times[-1], jnp.int32), last, carried)
    z_0, encodings = reading.clean
    made = {}
    for name in hidden:
        made[name] = _value(model, name, _alone(head_of(reading.prediction, name)), read_keys)
    head = model.modalities[model.primary].reconstruct(
        model.primary_encoding(z_0, encodings), reading.prediction.heads.get(model.primary)
    )
    made[model.primary] = _value(model, model.primary, _alone(head), read_keys)
    return {**given, **made}


def walk(
    denoiser: Denoiser,
    stepper: Stepper,
    route: Plan,
    model: ModelFunctions,
    start: jax.Array,
    keys: jax.Array,
    carried: Mapping[str, jax.Array],
    corrections: int = 0,
) -> jax.Array:
    """Takes a state from the first t of a grid to the last, in one scan.

    Args:
        denoiser: reads states.
        stepper: goes from t to t.
        route: the grid.
        model: the model, for its variance and the names of its modalities.
        start: (batch, *latent), the state at the first t.
        keys: (batch,) typed keys.
        carried: {secondary: (batch,)}, what the states carry.
        corrections: Langevin steps at each t that is reached.

    Returns:
        (batch, *latent), the state at the last t.
    """
    like = Clean(start, dict.fromkeys(model.secondaries, start))
    tables, state = stepper.init(route, model, like)
    noise = jnp.asarray(route.noise[1:], start.dtype)
    scale = jax.tree.map(lambda c: jnp.asarray(c[1:], start.dtype), route.scale)
    reached = jnp.asarray(route.times[1:])

    def ask(t: jax.Array, z: jax.Array) -> Reading:
        return denoiser(jnp.full(start.shape[:1], t, jnp.int32), z, carried)

    def correct(here: tuple[Any, ...], index: jax.Array, z: jax.Array) -> jax.Array:
        t, sigma, factors = here
        push = z - total(factors, ask(t, z).clean)
        step_keys = _fold(_fold(_fold(keys, _CORRECT), t), index)
        return z - 0.5 * push + sigma * normal(step_keys, z.shape, z.dtype)

    def step(carry: tuple[jax.Array, Any], entry: tuple[Any, Any]) -> tuple[Any, None]:
        z, state = carry
        own, here = entry
        fresh = jnp.zeros_like(z)
        if stepper.stochastic:
            fresh = normal(_fold(_fold(keys, _NOISE), here[0]), z.shape, z.dtype)
        z, state = stepper.step(own, z, ask, fresh, state)
        if corrections:
            z = jax.lax.fori_loop(0, corrections, functools.partial(correct, here), z)
        return (z, state), None

    (last, _), _ = jax.lax.scan(step, (start, state), (tables, (reached, noise, scale)))
    return last


def sample_keys(key: jax.Array, num_samples: int) -> jax.Array:
    """One key an example: `fold_in(key, k)` from one key, or the (num_samples,) given ones.

    Example:
        >>> sample_keys(jax.random.key(0), 3).shape
        (3,)
    """
    if key.ndim:
        return key
    return jax.vmap(functools.partial(jax.random.fold_in, key))(jnp.arange(num_samples))


def normal(keys: jax.Array, shape: tuple[int, ...], dtype: Any = None) -> jax.Array:
    """Standard normal draws, each example from its own key.

    Args:
        keys: (batch,) typed keys.
        shape: (batch, …).
        dtype: floating; left out, JAX's default.

    Example:
        >>> keys = jax.random.split(jax.random.key(0), 2)
        >>> bool((normal(keys, (2, 3))[1] == normal(keys[1:], (1, 3))[0]).all())
        True
    """
    dtype = jnp.zeros(()).dtype if dtype is None else dtype
    return jax.vmap(lambda key: jax.random.normal(key, shape[1:], dtype))(keys)


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
        fresh = normal(_fold(_fold(keys, _NOISE), t), like.shape, like.dtype)
        z_t = state.mean + jnp.sqrt(state.variance) * fresh
        prediction = model.ask(z_t, times, carried)
        at_t = None if draw_keys is None else _fold(draw_keys, t)
        refined = gate(estimate_encodings(model, prediction, at_t), carried)
        return refined, {name: head_of(prediction, name) for name in model.secondaries}

    return jax.lax.scan(refine, nothing, jnp.asarray(route.times))[1]


def _value(model: ModelFunctions, name: str, heads: Any, keys: jax.Array | None) -> jax.Array:
    """One modality's value from its heads, leading axis t from noise to data."""
    last = jax.tree.map(lambda leaf: leaf[-1], heads)
    if keys is not None:
        # By name, so that the values of modalities are drawn independently.
        index = sorted(model.modalities).index(name)
        return draw(model, name, _fold(keys, index), last)
    pool = model.modalities[name].pool
    return function_of(model, name, "most_likely")(last if pool is None else pool(heads))


def _alone(head: Any) -> Any:
    return jax.tree.map(lambda leaf: leaf[None], head)


def _fold(keys: jax.Array, number: ArrayLike) -> jax.Array:
    return jax.vmap(lambda key: jax.random.fold_in(key, number))(keys)


def _left_out(
    model: ModelFunctions, hidden: Sequence[str], unknown: str, primary_known: bool
) -> list[str]:
    """The unknown secondaries that the states do not carry."""
    if unknown == "auto":
        return [name for name in hidden if primary_known and model.may_leave_out(name)]
    return list(hidden) if unknown == "absent" else []


def _check(
    weights: ModalityWeights,
    model: ModelFunctions,
    shape: tuple[int, ...],
    given: Mapping[str, jax.Array],
    stepper: Stepper,
    estimate: str,
    unknown: str,
    read: str,
    corrections: int,
) -> None:
    check_model(weights, model)
    for argument, value, choices in (
        ("estimate", estimate, ESTIMATES),
        ("unknown", unknown, UNKNOWNS),
        ("read", read, READS),
    ):
        if value not in choices:
            raise ValueError(errors.unknown(argument, value, choices))
    if corrections < 0:
        raise ValueError(errors.message("corrections", corrections, "0 or more", "raise it"))
    if estimate == "moments" and not (stepper.stochastic and stepper.order == 1):
        raise ValueError(
            errors.message(
                "estimate",
                f"'moments' with {stepper}",
                "a stochastic stepper of order 1, whose noise lacks that variance",
                "use 'mean', or a stepper such as Ancestral()",
            )
        )
    check_given(model, shape, given)


def check_given(
    model: Modal,
    shape: tuple[int, ...],
    given: Mapping[str, jax.Array],
) -> None:
    """Checks the known values of a request.

    Args:
        model: names the modalities.
        shape: (num_samples, *latent).
        given: {name: x (num_samples, …)}.

    Raises:
        ValueError: an unknown modality, another batch size, or nothing left to generate.
    """
    for name, x in given.items():
        if name not in model.modalities:
            raise ValueError(errors.unknown("given", name, model.modalities))
        if x.shape[:1] != shape[:1]:
            raise ValueError(
                errors.message(
                    f"given[{name!r}]",
                    f"shape {x.shape}",
                    f"{shape[0]} examples, as many as are asked for",
                    "give one value for each sample",
                )
            )
    if set(given) == set(model.modalities):
        raise ValueError(
            errors.message(
                "given",
                f"all of {sorted(given)}",
                "at least one modality left to generate",
                "leave one out",
            )
        )
