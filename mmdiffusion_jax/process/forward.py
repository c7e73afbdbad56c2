"""The multi-modal forward process: transition, marginal and posterior in closed form.

The transition adds noise and a weighted sum of the modalities' encodings:

    q(z_t | z_{t−1}, X) = N( sqrt(r_t) (z_{t−1} + Σ_i w_t^(i) E_i(x_i)), (1 − r_t) I )

Everything else follows from it. All functions take any latent shape, any number of modalities from
none, and run under `jit`, `vmap` and `grad`; the result has the dtype of the state.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from mmdiffusion_jax import errors
from mmdiffusion_jax.process.checks import (
    as_array,
    check_same_shape,
    expect,
    expect_name,
    expect_names,
    widest,
)
from mmdiffusion_jax.process.gaussian import Gaussian
from mmdiffusion_jax.process.schedules import Schedule
from mmdiffusion_jax.process.weights import ModalityWeights, check_weights

_PROCESS = "make one by process.Process(schedule, weights)"

VARIANCES = ("posterior", "upper", "learned")
"""The choices of the variance of the reverse process; see `reverse_variance`."""


@jax.tree_util.register_pytree_with_keys_class
@dataclasses.dataclass(frozen=True, eq=False)
class Process:
    """The forward process: a noise schedule, and how strongly each modality drives it.

    A pytree, so it may be an argument of compiled functions.

    Attributes:
        schedule: the noise schedule, T steps.
        weights: the weights of every secondary modality; left out, nothing drives the process.

    Raises:
        ValueError: anything but a schedule and weights; weights of another number of steps or,
            outside jit, weights that do not follow from the retentions of the schedule.

    Example:
        >>> from mmdiffusion_jax import process
        >>> schedule = process.cosine_schedule(50)
        >>> forward = Process(schedule, process.modality_weights(schedule, {"label": "bump"}))
        >>> forward.num_steps, forward.names
        (50, ('label',))
    """

    schedule: Schedule
    weights: ModalityWeights = dataclasses.field(default_factory=lambda: ModalityWeights({}, {}))

    def __post_init__(self) -> None:
        expect("schedule", self.schedule, Schedule)
        check_weights(self.schedule, self.weights)

    @property
    def num_steps(self) -> int:
        """T, the number of steps."""
        return self.schedule.num_steps

    @property
    def names(self) -> tuple[str, ...]:
        """The modalities that drive the process, sorted."""
        return tuple(sorted(self.weights.transition))

    def without(self, name: str) -> "Process":
        """The same process, not driven by one of the modalities.

        Raises:
            ValueError: an unknown modality.
        """
        expect_name("name", name, self.names, none="nothing drives the process")
        tables = (self.weights.transition, self.weights.marginal)
        left = ({other: w for other, w in table.items() if other != name} for table in tables)
        return Process(self.schedule, ModalityWeights(*left))

    def tree_flatten_with_keys(self) -> tuple[tuple[Any, ...], None]:
        """The parts with their names, for JAX."""
        key = jax.tree_util.GetAttrKey
        return ((key("schedule"), self.schedule), (key("weights"), self.weights)), None

    @classmethod
    def tree_unflatten(cls, _: None, parts: tuple[Any, ...]) -> "Process":
        """The process of parts that were checked before they were traced, for JAX."""
        process = object.__new__(cls)
        for name, part in zip(("schedule", "weights"), parts, strict=True):
            object.__setattr__(process, name, part)
        return process


def transition(
    process: Process, t: ArrayLike, z_prev: ArrayLike, encodings: Mapping[str, ArrayLike]
) -> Gaussian:
    """One forward step, q(z_t | z_{t−1}, X).

    mean = sqrt(r_t) (z_{t−1} + Σ_i w_t^(i) E_i),   variance = 1 − r_t

    Args:
        process: the forward process; its names are those of `encodings`.
        t: (batch,) integers in 1 … T, the step that is being taken.
        z_prev: (batch, *latent), the state z_{t−1}.
        encodings: {name: (batch, *latent)}, E_i(x_i); zeros where a modality is absent.

    Returns:
        A Gaussian with `.mean` (batch, *latent) and `.variance` (batch, 1, …).

    Raises:
        ValueError: shapes or names that do not agree; `t` out of range (outside jit).

    Example:
        >>> import jax.numpy as jnp
        >>> from mmdiffusion_jax import process
        >>> schedule = process.schedule_from_betas([0.75])
        >>> weights = process.modality_weights(schedule, {"label": [0.0, 2.0]}, given="transition")
        >>> forward = process.Process(schedule, weights)
        >>> t, ones = jnp.array([1]), jnp.ones((1, 2))
        >>> step = process.transition(forward, t, ones, {"label": ones})
        >>> step.mean.tolist(), step.variance.tolist()
        ([[1.5, 1.5]], [[0.75]])
    """
    schedule = expect("process", process, Process, _PROCESS).schedule
    t, z_prev = check_state(schedule, t, z_prev, "z_prev")
    drift = weighted_sum(process.weights.transition, t, z_prev, encodings)
    return Gaussian(
        mean=root_at(schedule.retention, t, z_prev) * (z_prev + drift),
        variance=at(schedule.beta, t, z_prev),
    )


def marginal(
    process: Process, t: ArrayLike, z_0: ArrayLike, encodings: Mapping[str, ArrayLike]
) -> Gaussian:
    """The state after t steps, q(z_t | z_0, X).

    mean = sqrt(ᾱ_t) z_0 + Σ_i w̄_t^(i) E_i,   variance = 1 − ᾱ_t

    Arguments, result and errors are those of `transition`, with the clean state z_0, (batch,
    *latent), in place of `z_prev`.

    Example:
        >>> import jax.numpy as jnp
        >>> from mmdiffusion_jax import process
        >>> schedule = process.schedule_from_betas([0.75, 0.75])
        >>> forward = process.Process(schedule)
        >>> state = process.marginal(forward, jnp.array([2]), jnp.ones((1, 2)), {})
        >>> state.mean.tolist(), state.variance.tolist()
        ([[0.25, 0.25]], [[0.9375]])
    """
    schedule = expect("process", process, Process, _PROCESS).schedule
    t, z_0 = check_state(schedule, t, z_0, "z_0")
    drift = weighted_sum(process.weights.marginal, t, z_0, encodings)
    return Gaussian(
        mean=root_at(schedule.alpha_bar, t, z_0) * z_0 + drift,
        variance=at(schedule.noise_variance, t, z_0),
    )


def posterior(
    process: Process,
    t: ArrayLike,
    z_t: ArrayLike,
    z_0: ArrayLike,
    encodings: Mapping[str, ArrayLike],
) -> Gaussian:
    """One step back given the clean state, q(z_{t−1} | z_t, z_0, X).

    mean = sqrt(r_t) (1 − ᾱ_{t−1}) / (1 − ᾱ_t) · (z_t − sqrt(r_t) Σ_i w_t^(i) E_i)
           + (1 − r_t) / (1 − ᾱ_t) · (sqrt(ᾱ_{t−1}) z_0 + Σ_i w̄_{t−1}^(i) E_i)
    variance = β̃_t = (1 − r_t) (1 − ᾱ_{t−1}) / (1 − ᾱ_t)

    The product of the transition and the marginal at t − 1, by Bayes' rule. At t = 1 it is the
    clean state itself, with variance 0.

    Arguments, result and errors are those of `transition`, with z_t and the clean state z_0, both
    (batch, *latent), in place of `z_prev`; t is the time of z_t.

    Example:
        >>> import jax.numpy as jnp
        >>> from mmdiffusion_jax import process
        >>> schedule = process.cosine_schedule(10)
        >>> forward = process.Process(schedule)
        >>> z_t, z_0 = jnp.zeros((1, 2)), jnp.ones((1, 2))
        >>> back = process.posterior(forward, jnp.array([1]), z_t, z_0, {})
        >>> back.mean.tolist(), back.variance.tolist()
        ([[1.0, 1.0]], [[0.0]])
    """
    schedule = expect("process", process, Process, _PROCESS).schedule
    t, z_t = check_state(schedule, t, z_t, "z_t")
    _, z_0 = check_state(schedule, t, z_0, "z_0")
    check_same_shape("z_0", z_0, "z_t", z_t)
    z_0 = z_0.astype(z_t.dtype)
    # A step contracts by less than half precision resolves.
    dtype = z_t.dtype
    z_t, z_0 = (z.astype(widest(schedule.beta, z)) for z in (z_t, z_0))
    root, beta = root_at(schedule.retention, t, z_t), at(schedule.beta, t, z_t)
    noise, noise_before = (at(schedule.noise_variance, s, z_t) for s in (t, t - 1))
    weights = process.weights
    unshifted = z_t - root * weighted_sum(weights.transition, t, z_t, encodings)
    before = root_at(schedule.alpha_bar, t - 1, z_t) * z_0
    before = before + weighted_sum(weights.marginal, t - 1, z_t, encodings)
    return Gaussian(
        mean=(root * (noise_before / noise) * unshifted + (beta / noise) * before).astype(dtype),
        variance=(beta * (noise_before / noise)).astype(dtype),
    )


def reverse_variance(
    schedule: Schedule,
    t: ArrayLike,
    like: jax.Array,
    kind: str = "posterior",
    mix: jax.Array | None = None,
) -> jax.Array:
    """The variance of the model's step back, p_θ(z_{t−1} | z_t).

    "posterior": β̃_t, as `posterior` has it. "upper": 1 − r_t, as `transition` has it.
    "learned": exp(m log(1 − r_t) + (1 − m) log β̃_t) with m from the model (Nichol & Dhariwal
    2021, eq. 15); β̃_1 = 0 is replaced there by β̃_2, or by 1 − r_1 where T = 1.

    Args:
        schedule: the noise schedule.
        t: (batch,) integers in 1 … T.
        like: an array (batch, *latent) that gives rank and dtype.
        kind: "posterior", "upper" or "learned".
        mix: m, (batch, *latent), for "learned" only.

    Returns:
        Variances, broadcastable to `like`.

    Raises:
        ValueError: an unknown `kind`, "learned" without `mix`, shapes that do not agree, or `t` out
            of range (outside jit).

    Example:
        >>> import jax.numpy as jnp
        >>> from mmdiffusion_jax import process
        >>> schedule = process.schedule_from_betas([0.5, 0.5])
        >>> t, like = jnp.array([2]), jnp.zeros((1, 3))
        >>> round(float(reverse_variance(schedule, t, like)[0, 0]), 4)
        0.3333
        >>> float(reverse_variance(schedule, t, like, "upper")[0, 0])
        0.5
    """
    expect_name("variance", kind, VARIANCES)
    t, like = check_state(schedule, t, like, "like")
    upper = at(schedule.beta, t, like)
    if kind == "upper":
        return upper
    wide = _wide(schedule.beta, like)
    noise, noise_before = (at(schedule.noise_variance, s, wide) for s in (t, t - 1))
    lower = (at(schedule.beta, t, wide) * (noise_before / noise)).astype(like.dtype)
    if kind == "posterior":
        return lower
    if mix is None:
        raise errors.invalid(
            "mix",
            None,
            "(batch, *latent) from the model",
            "give the model a variance head, or choose the variance 'posterior' or 'upper'",
        )
    mix = as_array("mix", mix).astype(like.dtype)
    check_same_shape("mix", mix, "`like`", like)
    second = min(2, schedule.num_steps)
    floor = reverse_variance(
        schedule, jnp.full_like(t, second), like, "posterior" if second == 2 else "upper"
    )
    lower = jnp.where(t.reshape(upper.shape) == 1, floor, lower)
    return jnp.exp(mix * jnp.log(upper) + (1 - mix) * jnp.log(lower))


def shift(
    process: Process, t: ArrayLike, z_t: ArrayLike, encodings: Mapping[str, ArrayLike]
) -> jax.Array:
    """The shifted state y_t = z_t − Σ_i w̄_t^(i) E_i, a plain variance-preserving diffusion.

    Arguments and errors are those of `transition`, with z_t in place of `z_prev`; the encodings may
    be estimates. The result is (batch, *latent).

    Example:
        >>> import jax.numpy as jnp
        >>> from mmdiffusion_jax import process
        >>> schedule = process.schedule_from_betas([0.5])
        >>> weights = process.modality_weights(schedule, {"a": [0.0, 2.0]}, given="marginal")
        >>> forward = process.Process(schedule, weights)
        >>> ones = jnp.ones((1, 2))
        >>> process.shift(forward, jnp.array([1]), 5 * ones, {"a": ones}).tolist()
        [[3.0, 3.0]]
    """
    schedule = expect("process", process, Process, _PROCESS).schedule
    t, z_t = check_state(schedule, t, z_t, "z_t")
    return z_t - weighted_sum(process.weights.marginal, t, z_t, encodings)


def at(table: jax.Array, t: jax.Array, like: jax.Array) -> jax.Array:
    """`table[t]` of (T + 1,) values in the dtype of `like`, with as many axes: (batch, 1, …).

    The axes of t are the leading axes of `like`, usually (batch,).

    Example:
        >>> import jax.numpy as jnp
        >>> at(jnp.array([0.0, 5.0]), jnp.array([1]), jnp.zeros((1, 2, 2))).shape
        (1, 1, 1)
    """
    values = jnp.asarray(table)[t].astype(like.dtype)
    return values.reshape(values.shape + (1,) * (like.ndim - values.ndim))


def root_at(table: jax.Array, t: jax.Array, like: jax.Array) -> jax.Array:
    """sqrt(table[t]), in the dtype and with the axes of `at`.

    The root is taken before the cast: float16 ends near 6e-8, and ᾱ_T of long schedules is below
    that, though its root is not.

    Example:
        >>> import jax.numpy as jnp
        >>> root_at(jnp.array([1e-8]), jnp.array([0]), jnp.zeros((1, 2), jnp.float16)).tolist()
        [[0.00010001659393310547]]
    """
    return jnp.sqrt(at(table, t, _wide(table, like))).astype(like.dtype)


def _wide(table: jax.Array, like: jax.Array) -> jax.Array:
    """An empty array with the axes of `like`, in which a table keeps its digits."""
    return jnp.zeros((0,) * like.ndim, widest(jnp.asarray(table), like))


def weighted_sum(
    tables: Mapping[str, jax.Array],
    t: jax.Array,
    like: jax.Array,
    encodings: Mapping[str, ArrayLike],
) -> jax.Array:
    """Σ_i w_t^(i) E_i, the drift; a scalar zero when there are no modalities.

    `tables` are {name: (T + 1,) weights}, `encodings` are {name: array like `like`} of these names.

    Raises:
        ValueError: a name that is on one side only, or an encoding of another shape than `like`.
    """
    for name in expect_names("encodings", encodings, "(batch, *latent)"):
        expect_name(
            "encodings",
            name,
            tables,
            "each modality needs its weights",
            none="the weights have no modality",
        )
    total = jnp.zeros((), like.dtype)
    for name, table in tables.items():
        if name not in encodings:
            raise errors.invalid(
                "encodings",
                f"nothing for {name!r}",
                f"an encoding for each of {sorted(tables)}",
                "pass zeros where a modality is absent",
            )
        encoding = as_array(f"encodings[{name!r}]", encodings[name])
        check_same_shape(f"encodings[{name!r}]", encoding, "the state", like)
        total = total + at(table, t, like) * encoding.astype(like.dtype)
    return total


def check_state(
    schedule: Schedule, t: ArrayLike, state: ArrayLike, name: str, first: int = 1
) -> tuple[jax.Array, jax.Array]:
    """`t` and a state as arrays, once they are checked.

    Args:
        schedule: the noise schedule, T steps.
        t: integers in `first` … T; the range is checked outside jit only.
        state: (batch, *latent) of a floating dtype.
        name: by which the caller knows the state.
        first: 0 where the clean state is meant too.

    Raises:
        ValueError: `t` not integer, out of range or of other leading axes than the state; a
            state that is not floating.
    """
    expect("schedule", schedule, Schedule)
    t, state = as_array("t", t, "integers"), as_array(name, state)
    if not jnp.issubdtype(t.dtype, jnp.integer):
        raise errors.invalid("t", f"dtype {t.dtype}", "integers", "cast it to int32")
    if not jnp.issubdtype(state.dtype, jnp.floating):
        raise errors.invalid(name, f"dtype {state.dtype}", "a floating dtype", "cast it to float32")
    if state.shape[: t.ndim] != t.shape:
        raise errors.invalid(
            "t",
            f"shape {t.shape}",
            f"the leading axes of {name}, whose shape is {state.shape}",
            "give one t an example",
        )
    if not isinstance(t, jax.core.Tracer) and t.size:
        low, high = int(np.asarray(t).min()), int(np.asarray(t).max())
        if low < first or high > schedule.num_steps:
            raise errors.invalid(
                "t",
                f"{low if low < first else high}",
                f"values in {first} … {schedule.num_steps}",
                "t = 0 is the clean state and has no step",
            )
    return t, state
