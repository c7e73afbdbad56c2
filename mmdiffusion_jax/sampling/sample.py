"""Samples of any modalities given any others."""

from collections.abc import Mapping
from typing import Any

import jax
import numpy as np

from mmdiffusion_jax import errors
from mmdiffusion_jax.model import Diffusion
from mmdiffusion_jax.model.diffusion import expect_diffusion
from mmdiffusion_jax.process.checks import expect, expect_name, expect_names, expect_whole
from mmdiffusion_jax.sampling.fixed import Fixed, Noised
from mmdiffusion_jax.sampling.grids import uniform_grid
from mmdiffusion_jax.sampling.loop import sample_keys
from mmdiffusion_jax.sampling.method import Method, as_shape, check_given
from mmdiffusion_jax.sampling.order import stages_of
from mmdiffusion_jax.sampling.plan import plan
from mmdiffusion_jax.sampling.stage import Run, Trajectory

Parts = Mapping[str, Mapping[str, Any]]
"""{argument of `sample`: {name: what is given of a diffused modality}}."""


def sample(
    key: jax.Array,
    diffusion: Diffusion,
    shape: tuple[int, ...],
    given: Mapping[str, jax.Array] | None = None,
    method: Method | None = None,
    fixed: Mapping[str, Fixed] | None = None,
    begin: Mapping[str, Noised] | None = None,
) -> dict[str, jax.Array]:
    """Generates what is not given, stage after stage of `Method.order`, each known to the next.

    A network that shows what is known (`ModelFunctions.shows`) learns E[ε | z_t, x_known] and the
    heads p(x_i | z_t, x_known) themselves, so that nothing is corrected. A stage without the
    primary diffuses another modality, if the model has learned that, and is else one call of the
    heads. A given modality that the network does not see drives the
    process, and its head corrects ẑ_0 by Bayes' rule unless `decorators` says otherwise.

    At each visited t, ẑ_0 is solved for with the model's estimates Ê_i of all encodings; then the
    given encodings E_i(x_i) replace theirs, and the stepper moves the shifted state
    y_t = z_t − Σ_i w̄_t^(i) E_i. States are of JAX's default float type, whatever the network
    computes in. Where a primary is given that the network does not see, z_t is drawn anew from the
    marginal of its z_0 at every visited t, the heads at all these t are pooled,
    Σ_t log p(x_i | z_t) / n, as in L2 of the bound, and steppers and decorators are not used.

    Warns where states begin in pure noise that the process has not at that t: where the weights of
    a modality that is generated together with the primary leave more than 1 nat of it in the state
    at which `Method.times` begin (below T, and twice what the rule "bump" leaves at σ = 80), and
    where they begin at a signal-to-noise ratio that is above 0.01, far below T.

    Args:
        key: a typed key, example k then uses `fold_in(key, k)`; or (num_samples,) typed keys, one
            an example. An example does not depend on the others in its batch.
        diffusion: the process and the model.
        shape: (num_samples, *latent).
        given: {name: x (num_samples, …)}; left out, all modalities are generated.
        method: how to sample; left out, all steps of ancestral sampling.
        fixed: {name: a part that every sample keeps} of what is diffused: inpainting.
        begin: {name: given values, noised} of what is diffused, from which its states start in the
            place of noise: image to image (Meng et al. 2022, "SDEdit"). Where z_0 has shares of
            several modalities, the others of them have to be given, or absent from the states.

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
    parts = {"fixed": {} if fixed is None else fixed, "begin": {} if begin is None else begin}
    return _generate(key, diffusion, shape, given, method, parts)[0]


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
        >>> import jax.numpy as jnp
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
    parts: Parts = {"fixed": {}, "begin": {}}
    return _generate(key, diffusion, shape, given, method, parts, num_states)


def _generate(
    key: jax.Array,
    diffusion: Diffusion,
    shape: tuple[int, ...],
    given: Mapping[str, jax.Array] | None,
    method: Method | None,
    parts: Parts,
    num_states: int | None = None,
) -> tuple[dict[str, jax.Array], Any]:
    """All values, and the trajectory of the primary where `num_states` is set."""
    process, model = expect_diffusion(diffusion).process, diffusion.model
    method = expect("method", Method() if method is None else method, Method)
    for name in method.shown_levels:
        expect_name("shown_levels", name, model.shows, none="the network is shown nothing")
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
    run, path = Run(diffusion, shape, sample_keys(key, shape[0]), method, grid), None
    for argument, of_names in parts.items():
        expect_names(argument, of_names, "a part of what is diffused")
    diffused = set()
    stages = stages_of(model, values, method.order)
    if places is not None and model.primary not in set().union(*stages):
        raise errors.invalid(
            "order",
            list(method.order or ()),
            f"an order with the primary {model.primary!r} for a trajectory",
            "name it, or use sample: only its states are kept",
        )
    for stage in stages:
        part = run.of(stage, values)
        if part is None:
            drawn = run.answer(stage, values)
        else:
            name = part.diffusion.model.primary
            diffused.add(name)
            kept = places if name == model.primary else None
            given_of = {argument: of_names.get(name) for argument, of_names in parts.items()}
            drawn, states = part.diffuse(stage, values, places=kept, **given_of)
            path = path if states is None else states
        values = {**values, **drawn}
    for argument, of_names in parts.items():
        for name in of_names:
            expect_name(argument, name, diffused, "it is not diffused", none="nothing is diffused")
    return values, path


def _spread(num_places: int, num_states: int | None) -> np.ndarray | None:
    """The places of the states that are kept, evenly spread, the last one always among them."""
    if num_states is None:
        return None
    expect_whole("num_states", num_states, 1, num_places)
    ends = np.linspace(num_places - 1, 0, num_states) if num_states > 1 else [num_places - 1]
    return np.round(ends).astype(np.int32)[::-1]
