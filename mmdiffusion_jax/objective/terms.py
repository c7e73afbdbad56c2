"""The four terms of the bound, one function each; per example, in nats.

−log p(X) ≤ L0 + L1 + L2 + L3, for a process that ends in noise (L0), whose steps back the model
imitates (L1), from whose states every other modality is recovered (L2), and whose first state
reconstructs the primary modality (L3).
"""

import jax
import jax.numpy as jnp

from mmdiffusion_jax.model import (
    Batch,
    CleanState,
    Diffusion,
    ModelFunctions,
    NoisyState,
    Roles,
    function_of,
    head_of,
)
from mmdiffusion_jax.model.absence import choose_rows
from mmdiffusion_jax.model.batches import column
from mmdiffusion_jax.model.calls import nll_present
from mmdiffusion_jax.model.diffusion import expect_diffusion
from mmdiffusion_jax.model.roles import expect_roles
from mmdiffusion_jax.process import (
    Gaussian,
    Process,
    gaussian_kl,
    marginal,
    posterior,
    reverse_variance,
)
from mmdiffusion_jax.process.checks import expect


def prior_term(process: Process, clean: CleanState) -> jax.Array:
    """L0 = KL( q(z_T | X) ‖ N(0, I) ), (batch,) nats: the information that z_T has about the data.

    Raises:
        ValueError: no process, or no clean state.

    Example:
        >>> import jax.numpy as jnp
        >>> from mmdiffusion_jax import process
        >>> forward = process.Process(process.schedule_from_betas([0.75]))
        >>> clean = CleanState(z_0=jnp.zeros((1, 1)), encodings={})
        >>> round(float(prior_term(forward, clean)[0]), 4)
        0.0188
    """
    expect("process", process, Process, "make it by process.Process(schedule, weights)")
    expect("clean", clean, CleanState, "encode the batch by model.encode")
    last = jnp.full((clean.z_0.shape[0],), process.num_steps, jnp.int32)
    end = marginal(process, last, clean.z_0, clean.encodings)
    standard = Gaussian(jnp.zeros_like(end.mean), jnp.ones_like(end.variance))
    return gaussian_kl(end, standard)


def posterior_term(
    diffusion: Diffusion, clean: CleanState, state: NoisyState, train_mean: bool = True
) -> jax.Array:
    """One summand of L1: KL( q(z_{t−1} | z_t, X) ‖ p_θ(z_{t−1} | z_t) ), and 0 at t = 1.

    p_θ has the posterior's form with the model's ẑ_0 and Ê_i in place of z_0 and E_i. With the
    posterior's variance this is ‖μ̃_t − μ_θ‖² / (2 β̃_t), which keeps the cross term between the
    error of the noise and the error of the encodings.

    Without `train_mean` the gradient of the mean is stopped, so that only the variance learns.
    The result is (batch,), nats.

    Raises:
        ValueError: no diffusion model, no clean state or no noisy one.

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
        >>> roles = model.all_carried(["x"], 3)
        >>> clean, roles = model.encode(functions, batch, roles)
        >>> state = model.observe(diffusion, clean, roles, jnp.full(3, 1), jnp.zeros((3, 2)))
        >>> posterior_term(diffusion, clean, state).tolist()  # there is no step at t = 1
        [0.0, 0.0, 0.0]
    """
    process, model = expect_diffusion(diffusion).process, diffusion.model
    expect("clean", clean, CleanState, "encode the batch by model.encode")
    expect("state", state, NoisyState, "make it by model.observe")
    # t = 1 has no summand: t = 2 is taken and masked, so that no variance is zero. A schedule of
    # one step has no summand at all.
    if process.num_steps == 1:
        return jnp.zeros(state.t.shape, state.z_t.dtype)
    t = jnp.maximum(state.t, 2)
    truth = posterior(process, t, state.z_t, clean.z_0, clean.encodings)
    mean = posterior(process, t, state.z_t, state.clean.z_0, state.clean.encodings).mean
    mean = mean if train_mean else jax.lax.stop_gradient(mean)
    variance = reverse_variance(
        process.schedule, t, state.z_t, model.variance, state.prediction.variance_mix
    )
    divergence = gaussian_kl(truth, Gaussian(mean, variance))
    return jnp.where(state.t > 1, divergence, jnp.zeros_like(divergence))


def recovery_terms(
    model: ModelFunctions, batch: Batch, roles: Roles, state: NoisyState
) -> dict[str, jax.Array]:
    """The summands of L2 at one t: −log p_θ(x_i | z_t) of every secondary modality.

    They are {secondary: (batch,)} in nats, zero where the modality is absent or known. Of one that
    is diffused it is the reconstruction, in which ẑ_0 has no gradient.

    Raises:
        ValueError: a modality missing from the batch, the roles or the heads, or likelihoods that
            are not one number an example.

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
        >>> roles = model.all_carried(["x"], 3)
        >>> clean, roles = model.encode(functions, batch, roles)
        >>> state = model.observe(diffusion, clean, roles, jnp.full(3, 1), jnp.zeros((3, 2)))
        >>> recovery_terms(functions, batch, roles, state)  # the model has no secondary
        {}
    """
    expect("model", model, ModelFunctions)
    expect("state", state, NoisyState, "make it by model.observe")
    terms = {}
    for name in model.secondaries:
        x, head = column(batch, name, model.modalities), head_of(state.prediction, name)
        mask = expect_roles(roles, [name], x.shape[0]).asked(name)
        if name in model.diffusable:
            z_0 = jax.lax.stop_gradient(state.clean.z_0)
            rebuilt = function_of(model, name, "reconstruct")(z_0, head)
            head = choose_rows(roles.diffused(name), rebuilt, head)
        terms[name] = nll_present(model, name, head, x, mask, state.z_t.dtype)
    return terms


def reconstruction_term(
    model: ModelFunctions, batch: Batch, roles: Roles, state: NoisyState, train_mean: bool = True
) -> jax.Array:
    """−log p_θ(x_primary | z_t); at t = 1 this is L3.

    The encoding of the primary is solved for from the model's ẑ_0, and its head turns it into a
    distribution; without `train_mean` the gradient through ẑ_0 is stopped. The result is (batch,),
    nats, zero where the primary is absent or known.

    Raises:
        ValueError: the primary missing from the batch or the roles, or likelihoods that are not one
            number an example.

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
        >>> roles = model.all_carried(["x"], 3)
        >>> clean, roles = model.encode(functions, batch, roles)
        >>> state = model.observe(diffusion, clean, roles, jnp.full(3, 1), jnp.zeros((3, 2)))
        >>> terms = reconstruction_term(functions, batch, roles, state)  # log 2π each
        >>> [round(term, 2) for term in terms.tolist()]
        [1.84, 1.84, 1.84]
    """
    expect("model", model, ModelFunctions)
    expect("state", state, NoisyState, "make it by model.observe")
    x = column(batch, model.primary, model.modalities)
    encoding = model.primary_encoding(state.clean.z_0, state.clean.encodings)
    if not train_mean:
        encoding = jax.lax.stop_gradient(encoding)
    reconstruct = function_of(model, model.primary, "reconstruct")
    parameters = reconstruct(encoding, state.prediction.heads.get(model.primary))
    mask = expect_roles(roles, [model.primary], x.shape[0]).asked(model.primary)
    return nll_present(model, model.primary, parameters, x, mask, encoding.dtype)
