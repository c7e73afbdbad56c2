"""Any modality from any other, against the exact conditionals of a world of three modalities."""

import dataclasses
import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mmdiffusion_jax import process, sampling
from mmdiffusion_jax.model import Diffusion, all_carried
from mmdiffusion_jax.process import Process
from tests.linear_world import LinearWorld
from tests.mixture_world import MixtureWorld

COUNT = 3000
WORLD = LinearWorld(2, 200, log_snr=(9.0, -9.0))
NAMES = ("p", *WORLD.names)
GIVEN = [names for size in range(3) for names in itertools.combinations(NAMES, size)]
VALUES = np.random.default_rng(3).multivariate_normal(WORLD.mean, WORLD.covariance)


def columns(names):
    return [2 * NAMES.index(name) + axis for name in names for axis in (0, 1)]


@pytest.mark.parametrize("names", GIVEN, ids="+".join)
def test_every_conditional_is_the_exact_one(names):
    """p(all others | these); Langevin corrections where two of them are dependent given z_t."""
    secondaries = [name for name in names if name != "p"]
    given = {
        name: jnp.broadcast_to(jnp.asarray(np.float32(VALUES[columns([name])])), (COUNT, 2))
        for name in names
    }
    samples = jax.jit(
        lambda key: sampling.sample(
            key, WORLD.diffusion(), (COUNT, 2), given,
            sampling.Method(
                decorators=[sampling.decoder_guidance(dict.fromkeys(secondaries, 1.0))],
                unknown="absent", read="draw", corrections=4 if len(secondaries) > 1 else 0,
            ),
        )
    )(jax.random.key(0))  # fmt: skip
    for name in names:
        np.testing.assert_array_equal(samples[name], given[name])
    rest = [name for name in NAMES if name not in names]
    a, b, covariance = columns(rest), columns(names), WORLD.covariance
    gain = np.linalg.solve(covariance[np.ix_(b, b)], covariance[np.ix_(b, a)]).T
    mean = WORLD.mean[a] + gain @ (VALUES[b] - WORLD.mean[b])
    exact = covariance[np.ix_(a, a)] - gain @ covariance[np.ix_(b, a)]
    drawn, sd = np.concatenate([samples[name] for name in rest], axis=1), np.sqrt(np.diag(exact))
    # Five standard errors of COUNT samples, and as much as a half more for the steps in t.
    np.testing.assert_allclose((drawn.mean(0) - mean) / sd, 0, atol=7.5 / COUNT**0.5)
    off = (np.cov(drawn.T) - exact) / np.outer(sd, sd)
    np.testing.assert_allclose(off, 0, atol=7.5 * (2 / COUNT) ** 0.5)


def test_given_values_replace_estimates_after_the_plain_denoiser():
    """The trap: a given encoding in place of the model's estimate must not leak into ẑ_0."""
    world = MixtureWorld(60, weight=2.0)
    # Without roles the model takes every state to carry the label.
    model = dataclasses.replace(
        world.model(),
        denoise=lambda z_t, t: world.model().denoise(z_t, t, all_carried(["label"], len(t))),
        sees_roles=False,
    )
    count = 2000
    labels = jnp.arange(count) % 3
    samples = jax.jit(
        lambda key: sampling.sample(key, world.diffusion(model), (count, 2), {"label": labels})
    )(jax.random.key(0))
    np.testing.assert_array_equal(samples["label"], labels)
    right = world.posterior(np.asarray(samples["x"]))[np.arange(count), labels]
    drawn = world.draw(count)
    exact = world.posterior(np.asarray(drawn["x"]))[np.arange(count), drawn["label"]]
    # The same certainty about the label as of true pairs, where chance would be 1 in 3.
    assert exact.mean() > 0.8
    assert abs(right.mean() - exact.mean()) < 0.05


def test_labels_are_read_from_a_known_primary():
    """Pooled over all t the heads are surer than Bayes' rule, but the most likely label is its."""
    world = MixtureWorld(60)
    x = world.draw(500)["x"]
    exact = world.posterior(np.asarray(x))
    for unknown in ("auto", "absent"):
        samples = sampling.sample(
            jax.random.key(0), world.diffusion(), x.shape, {"x": x},
            method=sampling.Method(unknown=unknown),
        )  # fmt: skip
        np.testing.assert_array_equal(samples["x"], x)
        sure = exact.max(1) > 0.9
        assert (samples["label"] == exact.argmax(1))[sure].all()


@pytest.mark.parametrize(
    ("unknown", "droppable", "given", "carried"),
    [
        ("auto", None, ("p",), ()),
        ("auto", ("x1",), ("p",), ("x0",)),
        ("auto", (), ("p",), ("x0", "x1")),
        ("auto", None, ("p", "x0"), ("x0",)),
        ("auto", None, (), ("x0", "x1")),
        ("auto", None, ("x0",), ("x0", "x1")),
        ("absent", (), ("p",), ()),
        ("absent", None, ("x1",), ("x1",)),
        ("estimated", None, ("p",), ("x0", "x1")),
    ],
)
def test_what_the_states_carry_of_unknown_modalities(unknown, droppable, given, carried):
    world = LinearWorld(2, 5)
    inner, seen = world.model(), {}

    def denoise(z_t, t, roles):
        seen.update({name: roles.carried(name) for name in world.names})
        return inner.denoise(z_t, t, roles)

    model = dataclasses.replace(inner, denoise=denoise, droppable=droppable)
    with jax.disable_jit():
        sampling.sample(
            jax.random.key(0), world.diffusion(model), (2, 2),
            {name: jnp.ones((2, 2)) for name in given}, method=sampling.Method(unknown=unknown),
        )  # fmt: skip
    assert sorted(name for name, mask in seen.items() if mask.all()) == sorted(carried)
    assert all(mask.all() or not mask.any() for mask in seen.values())


@pytest.mark.parametrize(
    "options", [{"estimate": "draw", "corrections": 1}, {"given": "x"}], ids=str
)
def test_an_example_does_not_depend_on_the_others(options):
    """Nor on whether its key is given, or folded from the one of the batch."""
    world, options = MixtureWorld(4), dict(options)
    given = {"x": world.draw(7)["x"]} if options.pop("given", None) else {}

    @functools.partial(jax.jit, static_argnums=1)
    def draw(key, count):
        return sampling.sample(
            key, world.diffusion(), (count, 2),
            {name: x[:count] for name, x in given.items()}, sampling.Method(read="draw", **options),
        )  # fmt: skip

    key = jax.random.key(3)
    few = draw(jax.vmap(lambda k: jax.random.fold_in(key, k))(jnp.arange(3)), 3)
    for name, whole in draw(key, 7).items():
        # Sums over a few products may be taken in another order for another batch size.
        np.testing.assert_allclose(few[name], whole[:3], rtol=1e-5, atol=1e-6)


def test_weights_of_zero_are_no_modality_at_all():
    world = LinearWorld(1, 20)
    model = world.model()
    zeros = process.modality_weights(world.schedule, {"x0": np.zeros(21)})
    absent = all_carried(["p", "x0"], 5).without("x0")
    alone = dataclasses.replace(
        model,
        modalities={"p": model.modalities["p"]},
        denoise=lambda z_t, t, _: model.denoise(z_t, t, absent),
    )
    samples = [
        sampling.sample(
            jax.random.key(0),
            Diffusion(forward, each),
            (5, 2),
            method=sampling.Method(unknown="absent"),
        )
        for forward, each in (
            (Process(world.schedule, zeros), model),
            (Process(world.schedule), alone),
        )
    ]
    np.testing.assert_allclose(samples[0]["p"], samples[1]["p"], rtol=1e-5, atol=1e-6)


def test_moments_bring_few_ancestral_steps_nearer_the_truth():
    """Where encodings are not Gaussian: the step's spread has to be that of the clusters."""
    world = MixtureWorld(200, probabilities=(0.5, 0.3, 0.2))
    times = sampling.log_snr_grid(world.schedule, 8)
    errors = []
    for estimate in ("moments", "mean"):
        samples = jax.jit(
            lambda key, estimate=estimate: sampling.sample(
                key, world.diffusion(), (COUNT, 2),
                method=sampling.Method(times=times, estimate=estimate),
            )
        )(jax.random.key(0))  # fmt: skip
        errors.append(np.abs(np.cov(samples["x"].T) - world.covariance).max())
    # Two standard errors of a variance over COUNT samples is what chance could do.
    assert errors[1] - errors[0] > 2 * (2 / COUNT) ** 0.5 * world.covariance.max()


def test_shares_of_several_encodings_in_the_clean_state():
    """z_0 as a weighted mean: the primary is read back by solving it for its encoding."""
    world = LinearWorld(1, 50)
    model = dataclasses.replace(world.model(), shares={"p": 3.0, "x0": 1.0})
    encodings = {"p": jnp.ones((2, 2)), "x0": jnp.full((2, 2), 5.0)}
    z_0 = model.clean_state(encodings)
    np.testing.assert_allclose(z_0, 2.0)
    np.testing.assert_allclose(model.primary_encoding(z_0, encodings), 1.0)
    samples = sampling.sample(jax.random.key(0), world.diffusion(model), (3, 2))
    assert np.isfinite(np.asarray(samples["p"])).all()


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"given": {"y": jnp.ones((3, 2))}}, "`given`: got 'y'"),
        ({"given": {"x0": jnp.ones((2, 2))}}, r"given\['x0'\]`: got shape \(2, 2\)"),
        ({"given": {"x0": jnp.ones((3, 2)), "p": jnp.ones((3, 2))}}, "at least one modality left"),
        ({"estimate": "men"}, "did you mean 'mean'"),
        ({"unknown": "abset"}, "did you mean 'absent'"),
        ({"read": "drawn"}, "did you mean 'draw'"),
        ({"corrections": -1}, "`corrections`: got -1"),
        ({"estimate": "moments", "stepper": sampling.DDIM()}, "'moments' with DDIM"),
        ({"estimate": "moments", "stepper": sampling.Heun()}, "a stochastic stepper of order 1"),
        ({"estimate": "moments", "stepper": sampling.DPMSolverPP(sde=True)}, "of order 1"),
        ({"times": [5, 5, 1]}, "`times`: got 5 and then 5"),
    ],
)
def test_bad_input(options, words):
    options = dict(options)
    given, diffusion = options.pop("given", None), LinearWorld(1, 5).diffusion()

    def call():
        sampling.sample(jax.random.key(0), diffusion, (3, 2), given, sampling.Method(**options))

    with pytest.raises(ValueError, match=words):
        call()


@pytest.mark.parametrize("wanted", ["expected_encoding", "most_likely", "draw"])
def test_a_function_that_a_modality_lacks(wanted):
    world = LinearWorld(1, 5)
    model = world.model()
    lacking = dataclasses.replace(model.modalities["x0"], **{wanted: None})
    model = dataclasses.replace(model, modalities={**model.modalities, "x0": lacking})
    with pytest.raises(ValueError, match=rf"modalities\['x0'\]\.{wanted}"):
        sampling.sample(
            jax.random.key(0), world.diffusion(model), (3, 2),
            method=sampling.Method(read="draw" if wanted == "draw" else "most_likely"),
        )  # fmt: skip
