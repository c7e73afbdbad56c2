"""Training losses: "simple", a weighted regression with the heads' likelihoods, and "bound"."""

import dataclasses
import functools
import logging
import math
from collections.abc import Mapping

import jax
import jax.numpy as jnp

from mmdiffusion_jax import errors
from mmdiffusion_jax.means import Scalar
from mmdiffusion_jax.model import (
    Batch,
    Diffusion,
    Modal,
    ModelFunctions,
    Presence,
    encode,
    observe,
    parse_tasks,
    training_roles,
)
from mmdiffusion_jax.model.batches import column
from mmdiffusion_jax.model.believing import check_beliefs, with_beliefs
from mmdiffusion_jax.model.diffusion import expect_diffusion
from mmdiffusion_jax.model.showing import shown_at_random
from mmdiffusion_jax.model.tasks import Task
from mmdiffusion_jax.objective.bound import bound_estimate, draw_t_and_noise
from mmdiffusion_jax.objective.loss_terms import LossTerm, LossTerms
from mmdiffusion_jax.objective.terms import posterior_term, reconstruction_term, recovery_terms
from mmdiffusion_jax.objective.weightings import (
    Weighting,
    min_snr_weighting,
    no_weighting,
    p2_weighting,
    sigmoid_weighting,
    v_weighting,
)
from mmdiffusion_jax.process import (
    TIMESTEP_DRAWS,
    Pivot,
    Schedule,
    from_pivot,
    logit_normal_timesteps,
    noise_error_factor,
)
from mmdiffusion_jax.process.checks import (
    as_array,
    as_key,
    checked_result,
    described,
    expect,
    expect_callable,
    expect_name,
    expect_names,
    expect_number,
)


@dataclasses.dataclass(frozen=True)
class LossOptions:
    """The options of `simple_loss`.

    Attributes:
        modality_scales: {name: λ_i}; a name left out has λ = 1, the primary 0.
        weighting: signal-to-noise ratio (batch,) → weight (batch,).
        dropout: {name: probability} of dropping a modality from the state, or a known one from
            what the network sees.
        tasks: {"asked, … | known, …": rate}, see `model.parse_tasks`; left out, all modalities are
            asked for together. The model shows (`ModelFunctions.shows`) what they know. Without
            them no example knows anything, and `believed`, `shown_noise` and `pure_noise` go with
            them alone.
        believed: the names of what the network is shown as the model itself draws it from what an
            example has, where the example lacks it and its task knows it: p(image | label) then
            learns from images without labels too. The model has to show all that the task names
            besides, as the draw is made from that. It costs a call without gradient.
        shown_noise: {name: share} of the examples that know a modality in which the network is
            shown it at a noise level drawn from all; left out, it is shown without noise.
        timesteps: how t is drawn: "uniform", "antithetic" or "stratified".
        logit_normal: (mean, standard deviation) of log(σ_t / sqrt(ᾱ_t)) by which t is drawn
            instead, see `process.logit_normal_timesteps`; left out, by `timesteps`.
        pure_noise: the share of examples, among those that know something, for which t = T instead:
            there the model learns E[z_0 | what is known], which it can then say in one call.
        self_conditioning: the share of calls in which the network sees its own first estimates,
            where the model is self-conditioned; such a call costs a forward pass more.
        variance_scale: weight of L1 in nats per dimension with its mean's gradient stopped, for a
            model of learned variance (Nichol & Dhariwal 2021, section 3.1); otherwise unused.

    Raises:
        ValueError: an unknown draw, a weighting that is no function or was not called, such as
            `v_weighting` in place of `v_weighting()`, a scale that is no number, a share outside
            [0, 1], anything but a dictionary of names, or `logit_normal` that is no mean and
            standard deviation.

    Example:
        >>> from mmdiffusion_jax import objective
        >>> options = LossOptions(weighting=objective.v_weighting(), dropout={"label": 0.1})
        >>> options.timesteps
        'uniform'
        >>> LossOptions(pure_noise=2)
        Traceback (most recent call last):
        ValueError: `pure_noise`: got 2, expected a share in [0, 1]; ...
    """

    modality_scales: Mapping[str, float] = dataclasses.field(default_factory=dict)
    weighting: Weighting = no_weighting
    dropout: Mapping[str, float] = dataclasses.field(default_factory=dict)
    timesteps: str = "uniform"
    variance_scale: float = 0.001
    tasks: Mapping[str, float] | None = None
    shown_noise: Mapping[str, float] = dataclasses.field(default_factory=dict)
    believed: tuple[str, ...] = ()
    pure_noise: float = 0.0
    self_conditioning: float = 0.5
    logit_normal: tuple[float, float] | None = None

    def __post_init__(self) -> None:
        _check_weighting(self.weighting)
        for name, holds in (("modality_scales", "λ"), ("dropout", "probability")):
            expect_names(name, getattr(self, name), holds)
        expect_names("shown_noise", self.shown_noise, "share of the examples that know it")
        if self.tasks is not None:
            expect_names("tasks", self.tasks, "rate")
        if self.logit_normal is not None:
            _check_logit_normal(self.logit_normal)
        expect_name("timesteps", self.timesteps, TIMESTEP_DRAWS)
        expect_number("variance_scale", self.variance_scale)
        share = "a share in [0, 1]"
        for name in ("pure_noise", "self_conditioning"):
            expect_number(name, getattr(self, name), share, lambda x: 0 <= x <= 1)


def _check_weighting(weighting: Weighting) -> None:
    does = "of the signal-to-noise ratio, such as p2_weighting()"
    expect_callable("weighting", weighting, does)
    for factory in (min_snr_weighting, p2_weighting, sigmoid_weighting, v_weighting):
        if weighting is factory:
            name = factory.__name__
            raise errors.invalid(
                "weighting", f"{name} itself", "the weighting that it returns", f"write {name}()"
            )


def _check_logit_normal(pair: tuple[float, float]) -> None:
    try:
        mean, std = pair
    except (TypeError, ValueError) as error:
        raise errors.invalid(
            "logit_normal", described(pair), "(mean, standard deviation)", "give these two numbers"
        ) from error
    expect_number("logit_normal[0]", mean)
    expect_number(
        "logit_normal[1]", std, "a number above 0", lambda x: 0 < x < math.inf, "raise it"
    )


def simple_loss(
    key: jax.Array,
    diffusion: Diffusion,
    batch: Batch,
    presence: Presence | None = None,
    options: LossOptions | None = None,
    *,
    axis_name: str | None = None,
) -> tuple[jax.Array, dict[str, Scalar]]:
    """E_t [ weight(SNR_t) · ‖ε − ε_θ‖² / dims + Σ_i λ_i · ℓ_i(x_i, D_i(z_t, t)) / dims_i ].

    The squared error is a mean over the latent's dimensions, measured in the noise whatever the
    network predicts, and each ℓ_i = −log p(x_i | z_t) a mean over the dimensions of x_i, in nats.
    For the primary modality ℓ trains only the head: the gradient stops at ẑ_0. Means over the batch
    count only the examples where the modality is present; placeholders of the others, be they not a
    number, enter neither the loss nor its gradient.

    Without tasks nothing is known and nothing is shown: a model that `shows` learns no conditional,
    of which the log warns once. `simple_loss_terms`, which evaluations take, does not warn.

    Args:
        key: a typed key; splits into t, noise and dropout.
        diffusion: the process and the model.
        batch: {name: x (batch, …)} for every modality.
        presence: {name: (batch,) of 0 or 1}; left out, all is present.
        options: scales, weighting, dropout and draws of t; left out, the defaults.
        axis_name: of `shard_map` or `pmap`, where each device calls this with a key and a part of
            the batch. The masks are then counted over all devices, so that the mean over the
            devices of loss, scalars and gradients is that of the whole batch.

    Returns:
        The loss, a scalar, and scalars by name: `loss`; a `Mean` of what counts for
        `<name>/squared_error` of what is diffused, `<name>/loss` of every modality, `tasks/<task>`
        of each task, and `variance/loss` where the variance is learned; and `worst_t`, the t of the
        example that is not finite or else has the largest loss. `float` makes a number of any of
        them; inside of jit a `Mean` has its `value`, and its `count` of examples.

    Raises:
        ValueError: bad masks, batches, scales or rates; a task that knows what the model does not
            show, as no network could learn its conditional; `believed` of what is drawn from a
            modality that the model does not show; `believed`, `shown_noise` or `pure_noise` without
            tasks.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> from mmdiffusion_jax import model, process
        >>> point = model.ModalityFunctions(
        ...     encode=lambda x: x,
        ...     log_prob=lambda mean, x: model.gaussian_log_prob(mean, jnp.zeros_like(mean), x),
        ... )
        >>> functions = model.ModelFunctions(  # it knows that all data are 1
        ...     lambda z_t, t: model.Prediction(jnp.ones_like(z_t), {}), {"x": point}, "x",
        ...     target="z_0",
        ... )
        >>> diffusion = model.Diffusion(process.Process(process.cosine_schedule(10)), functions)
        >>> loss, scalars = simple_loss(jax.random.key(0), diffusion, {"x": jnp.ones((3, 2))})
        >>> bool(loss < 1e-6), float(scalars["x/squared_error"]) < 1e-6
        (True, True)
        >>> float(scalars["x/squared_error"].count)
        3.0
    """
    terms = simple_loss_terms(key, diffusion, batch, presence, options)
    if diffusion.model.shows and (options is None or options.tasks is None):
        _warn_of_unread("simple_loss", tuple(diffusion.model.shows))
    return terms.reduce(axis_name)


def simple_loss_terms(
    key: jax.Array,
    diffusion: Diffusion,
    batch: Batch,
    presence: Presence | None = None,
    options: LossOptions | None = None,
) -> LossTerms:
    """The terms of `simple_loss`, example by example; arguments as there.

    Example:
        >>> from mmdiffusion_jax import model, process
        >>> point = model.ModalityFunctions(
        ...     encode=lambda x: x,
        ...     log_prob=lambda mean, x: model.gaussian_log_prob(mean, jnp.zeros_like(mean), x),
        ... )
        >>> functions = model.ModelFunctions(  # it knows that all data are 1
        ...     lambda z_t, t: model.Prediction(jnp.ones_like(z_t), {}), {"x": point}, "x",
        ...     target="z_0",
        ... )
        >>> diffusion = model.Diffusion(process.Process(process.cosine_schedule(10)), functions)
        >>> batch = {"x": jnp.ones((3, 2))}
        >>> terms = simple_loss_terms(jax.random.key(0), diffusion, batch).terms
        >>> sorted(terms), terms["x/squared_error"].values.shape
        (['x/loss', 'x/squared_error'], (3,))
    """
    key = as_key("key", key)
    process, model = expect_diffusion(diffusion).process, diffusion.model
    options = expect("options", LossOptions() if options is None else options, LossOptions)
    scales = modality_scales_of(model, options.modality_scales)
    parsed = _tasks_of(model, options)
    drop_key, draw_key = jax.random.split(key)
    tasks, believed = options.tasks, options.believed
    roles = training_roles(model, batch, presence, options.dropout, drop_key, tasks, believed)
    check_beliefs(believed, parsed, model.shows)
    clean, roles = encode(model, batch, roles)
    belief_key = jax.random.fold_in(drop_key, 2 + len(model.modalities))
    roles = with_beliefs(belief_key, diffusion, roles, believed)
    blur_key = jax.random.fold_in(drop_key, 1 + len(model.modalities))
    views = {name for task in parsed for name in task.viewed}
    roles = shown_at_random(blur_key, process.schedule, roles, options.shown_noise, views)
    t, noise = draw_t_and_noise(draw_key, process.schedule, clean, options.timesteps)
    if options.logit_normal is not None:
        level_key = jax.random.fold_in(draw_key, 4)
        t = logit_normal_timesteps(level_key, t.shape[0], process.schedule, *options.logit_normal)
    if options.pure_noise:
        last_key = jax.random.fold_in(draw_key, 2)
        last = jax.random.bernoulli(last_key, options.pure_noise, t.shape) & roles.knows_any()
        t = jnp.where(last, process.num_steps, t)
    twice_key = jax.random.fold_in(draw_key, 3)
    twice = jnp.full(t.shape, jax.random.bernoulli(twice_key, options.self_conditioning))
    state = observe(diffusion, clean, roles, t, noise, twice)
    t = state.t

    truth = from_pivot(process.schedule, t, Pivot(clean.z_0, noise), model.target)
    error = noise_error(
        process.schedule, t, truth - state.prediction.value, model.target, options.weighting
    )
    carried = roles.carried(model.primary)
    terms = {f"{model.primary}/squared_error": LossTerm(error, carried)}
    diffused = carried
    for name in model.diffusable:
        terms[f"{name}/squared_error"] = LossTerm(error, roles.diffused(name))
        diffused = diffused | roles.diffused(name)
    losses = recovery_terms(model, batch, roles, state)
    losses[model.primary] = reconstruction_term(model, batch, roles, state, train_mean=False)
    for name, nats in losses.items():
        per_dim = nats / model.modalities[name].dims_of(column(batch, name))
        terms[f"{name}/loss"] = LossTerm(per_dim, roles.asked(name), scales[name])
    if model.variance == "learned":
        divergence = process.num_steps * posterior_term(diffusion, clean, state, train_mean=False)
        per_dim = divergence / (noise.size // noise.shape[0])
        terms["variance/loss"] = LossTerm(per_dim, diffused, options.variance_scale)
    if roles.task is not None:
        each = jax.lax.stop_gradient(LossTerms(terms).per_example())
        for place, task in enumerate(parsed):
            terms[f"tasks/{task.name}"] = LossTerm(each, roles.task == place, scale=0.0)
    return LossTerms(terms, t)


def _tasks_of(model: ModelFunctions, options: LossOptions) -> dict[Task, float]:
    """{task: share} of the options, without tasks empty.

    Raises:
        ValueError: a task that knows what the model does not show; options that act on what is
            known, without tasks, as then nothing is.
    """
    if options.tasks is None:
        for argument in ("believed", "shown_noise", "pure_noise"):
            value = getattr(options, argument)
            if value:
                raise errors.invalid(
                    argument,
                    dict(value) if argument == "shown_noise" else value,
                    "nothing, as no example knows anything without `tasks`",
                    'set tasks, such as {"image | label": 1.0}, or leave it out',
                )
        return {}
    tasks = parse_tasks(options.tasks, model.modalities)
    for task in tasks:
        for name in task.known:
            if name not in model.shows:
                raise errors.invalid(
                    "tasks",
                    f"{str(task)!r}, which knows {name!r}",
                    f"known modalities among those that the model shows, {sorted(model.shows)}",
                    f"set sees_roles=True and shows={(*model.shows, name)} of ModelFunctions, and "
                    f"read roles.shown({name!r}, z_t) in `denoise`",
                )
    return tasks


@functools.cache
def _warn_of_unread(loss: str, shows: tuple[str, ...]) -> None:
    """Once, as a loss is called in every step, or traced several times."""
    # Python's own log, as the losses need JAX alone.
    logging.getLogger(__name__).warning(
        "%s trains without tasks a model that shows %s: it is never shown anything in training, "
        "and so cannot read what samples are given. Name tasks in LossOptions(tasks=…) of "
        "`simple_loss`, such as those of `default_tasks`, or leave `shows` out.",
        loss,
        ", ".join(map(repr, shows)),
    )


def bound_loss(
    key: jax.Array,
    diffusion: Diffusion,
    batch: Batch,
    presence: Presence | None = None,
    *,
    timesteps: str = "uniform",
) -> tuple[jax.Array, dict[str, Scalar]]:
    """The bound itself as a loss: the mean of the one-t estimate, in nats per dimension of X.

    All modalities are asked for together, nothing is known, and so the network is never shown
    anything, whatever the model `shows`. Samples and conditional bounds of such a model do show
    what is known, which it has not learned to read: train it by `simple_loss` with tasks, or leave
    `shows` out of a model that is trained by this loss alone. The log warns of it once.

    Arguments and errors are those of `bound_estimate`. Returns the loss, a scalar, and scalars by
    name: `loss` and, in nats per example, a `Mean` for `bound/prior`, `bound/posterior`,
    `bound/recovery` and `bound/reconstruction`.

    Example:
        >>> from mmdiffusion_jax import model, process
        >>> point = model.ModalityFunctions(
        ...     encode=lambda x: x,
        ...     log_prob=lambda mean, x: model.gaussian_log_prob(mean, jnp.zeros_like(mean), x),
        ... )
        >>> functions = model.ModelFunctions(  # it knows that all data are 1
        ...     lambda z_t, t: model.Prediction(jnp.ones_like(z_t), {}), {"x": point}, "x",
        ...     target="z_0",
        ... )
        >>> diffusion = model.Diffusion(process.Process(process.cosine_schedule(10)), functions)
        >>> batch = {"x": jnp.ones((3, 2))}
        >>> loss, scalars = bound_loss(jax.random.key(0), diffusion, batch)
        >>> loss.shape, "bound/posterior" in scalars
        ((), True)
    """
    terms = bound_loss_terms(key, diffusion, batch, presence, timesteps=timesteps)
    if diffusion.model.shows:
        _warn_of_unread("bound_loss", tuple(diffusion.model.shows))
    return terms.reduce()


def bound_loss_terms(
    key: jax.Array,
    diffusion: Diffusion,
    batch: Batch,
    presence: Presence | None = None,
    *,
    timesteps: str = "uniform",
) -> LossTerms:
    """The terms of `bound_loss`, example by example; arguments as there.

    Example:
        >>> from mmdiffusion_jax import model, process
        >>> point = model.ModalityFunctions(
        ...     encode=lambda x: x,
        ...     log_prob=lambda mean, x: model.gaussian_log_prob(mean, jnp.zeros_like(mean), x),
        ... )
        >>> functions = model.ModelFunctions(  # it knows that all data are 1
        ...     lambda z_t, t: model.Prediction(jnp.ones_like(z_t), {}), {"x": point}, "x",
        ...     target="z_0",
        ... )
        >>> diffusion = model.Diffusion(process.Process(process.cosine_schedule(10)), functions)
        >>> batch = {"x": jnp.ones((3, 2))}
        >>> sorted(bound_loss_terms(jax.random.key(0), diffusion, batch).terms)
        ['bound/posterior', 'bound/prior', 'bound/reconstruction', 'bound/recovery']
    """
    terms = bound_estimate(key, diffusion, batch, presence, timesteps=timesteps)
    modalities = diffusion.model.modalities
    num_dims = sum(each.dims_of(column(batch, name)) for name, each in modalities.items())
    everywhere = jnp.ones_like(terms.prior)
    return LossTerms(
        {
            f"bound/{field.name}": LossTerm(getattr(terms, field.name), everywhere, 1 / num_dims)
            for field in dataclasses.fields(terms)
        }
    )


def modality_scales_of(model: Modal, given: Mapping[str, float]) -> dict[str, float]:
    """λ of every modality: the given {name: λ_i}, else 1, and 0 for the primary.

    Raises:
        ValueError: an unknown name, a negative scale.
    """
    scales = {name: float(name != model.primary) for name in model.modalities}
    for name, scale in expect_names("modality_scales", given, "λ").items():
        expect_name("modality_scales", name, scales)
        argument = f"modality_scales[{name!r}]"
        expect_number(argument, scale, "0 or more", lambda x: 0 <= x < math.inf, "raise it")
        scales[name] = scale
    return scales


def noise_error(
    schedule: Schedule, t: jax.Array, difference: jax.Array, target: str, weighting: Weighting
) -> jax.Array:
    """weight(SNR_t) · ‖ε − ε_θ‖² / dims of each example, from the error of the target's values.

    The `difference` (batch, *latent) is between the target, "noise", "z_0" or "v", and its
    prediction; the weighting returns (batch,) weights of (batch,) signal-to-noise ratios, or one
    number.

    Raises:
        ValueError: a weighting that returns anything else.
    """
    error = mean_square(difference)
    weight = as_array("weighting", weighting(schedule.snr[t].astype(error.dtype)))
    shape = error.shape if weight.ndim else ()
    weight = checked_result("weighting", weight, shape, error.dtype, "one weight an example")
    return error * noise_error_factor(schedule, t, target).astype(error.dtype) * weight


def mean_square(difference: jax.Array) -> jax.Array:
    """The mean of the squares in each example: (batch, …) → (batch,)."""
    return jnp.mean(difference.reshape(difference.shape[0], -1) ** 2, axis=1)
