"""Secondaries that are diffused where the primary is not asked for: exact laws and bounds."""

import dataclasses
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from mmdiffusion_jax import model, objective, sampling
from tests.shown_world import DIMS, ShownWorld, p_values

NUM = 2000
WORLD = ShownWorld(2, 128, log_snr=(12.0, -8.0))
DIFFUSABLE = WORLD.model(diffusable=("x0", "x1"))
# The values that are read are means, so that a head's answer has not the spread of a draw.
MEANS = {"read": "most_likely", "stepper": sampling.DPMSolverPP()}
ORDERS = [
    (known, order)
    for size in range(3)
    for known in itertools.combinations(WORLD.everyone, size)
    for order in itertools.permutations(sorted(set(WORLD.everyone) - set(known)))
]


def drawn(known, order, functions=DIFFUSABLE, **options):
    batch, _ = WORLD.draw(NUM, seed=5)
    given = {name: batch[name] for name in known}
    diffusion = WORLD.diffusion(functions)
    method = sampling.Method(**{**MEANS, **options}, order=order)
    call = jax.jit(lambda key: sampling.sample(key, diffusion, (NUM, DIMS), given, method))
    return batch, call(jax.random.key(0))


@pytest.mark.parametrize(
    ("known", "order"),
    [pytest.param(*case, marks=[pytest.mark.long] * (k % 3 > 0)) for k, case in enumerate(ORDERS)],
    ids=str,
)
def test_every_conditional_has_its_exact_law_in_every_order(known, order):
    """Each stage diffuses what it asks for, though only means are read off the last state."""
    batch, samples = drawn(known, order)
    values = p_values(WORLD, batch, samples, known)
    assert min(values) > 0.001 / len(values) / len(ORDERS), values


def test_the_answer_of_a_head_has_not_that_law():
    batch, samples = drawn(("p",), ("x0", "x1"), WORLD.model())
    assert min(p_values(WORLD, batch, samples, ("p",))) < 1e-6


def test_a_secondary_alone_has_its_marginal_law():
    _, samples = drawn((), ("x0",))
    assert set(samples) == {"x0"}
    law = stats.norm(WORLD.mean[2], WORLD.covariance[2, 2] ** 0.5)
    assert stats.kstest(np.asarray(samples["x0"])[:, 0], law.cdf).pvalue > 0.001


def test_two_together_are_diffused_and_driven():
    """x1 drives the states of x0, as secondaries drive the primary's."""
    batch, samples = drawn(("p",), ("x0, x1",), read="draw")
    assert min(p_values(WORLD, batch, samples, ("p",))) > 0.001 / 7


def test_a_part_of_a_diffused_secondary_stays():
    values = jnp.full((NUM, DIMS), 1.7)
    given = {"p": WORLD.draw(NUM)[0]["p"]}
    # E is linear and mixes the entries, so all of them are kept, or none.
    fixed = {"x0": sampling.Fixed(values, jnp.ones((1, 1), bool))}
    samples = sampling.sample(
        jax.random.key(0), WORLD.diffusion(DIFFUSABLE), (NUM, DIMS), given,
        sampling.Method("ddim", times=[128, 32, 1]), fixed,
    )  # fmt: skip
    np.testing.assert_allclose(samples["x0"], values, rtol=1e-6)


def test_guidance_by_a_known_primary():
    """Of scale 1 it is none, bit for bit; of scale 0, x0 is drawn as if nothing were known."""
    _, plain = drawn(("p",), ("x0",))
    _, guided = drawn(("p",), ("x0",), decorators=[sampling.classifier_free_guidance("p", 1.0)])
    np.testing.assert_array_equal(plain["x0"], guided["x0"])
    free = [sampling.classifier_free_guidance("p", 0.0)]
    batch, samples = drawn(("p",), ("x0",), decorators=free)
    law = stats.norm(WORLD.mean[2], WORLD.covariance[2, 2] ** 0.5)
    assert stats.kstest(np.asarray(samples["x0"])[:, 0], law.cdf).pvalue > 0.001
    correlation = np.corrcoef(np.asarray(samples["x0"]).T, np.asarray(batch["p"]).T)[:2, 2:]
    assert np.abs(correlation).max() < 4 / NUM**0.5


def gap_of(num_steps, **bound):
    """How far the bound of x0 (and x1) given p lies above the exact value, and its error."""
    world = ShownWorld(2, num_steps)
    batch, _ = world.draw(NUM)
    diffusion = world.diffusion(world.model(diffusable=("x0", "x1")))
    call = jax.jit(lambda key: objective.bound(key, diffusion, batch, given=("p",), **bound))
    terms = call(jax.random.key(0))
    difference = np.asarray(terms.total) - world.exact(batch, ("p",))
    return difference.mean(), difference.std() / NUM**0.5, np.asarray(terms.posterior).mean()


def test_the_bound_of_what_is_diffused_lies_above_and_closes():
    gaps = []
    for num_steps in (4, 16, 64):
        gap, error, posterior = gap_of(num_steps, order=["x0", "x1"])
        assert posterior > 0.01
        assert gap > -4 * error
        gaps.append(gap)
    assert gaps[0] > gaps[1] > gaps[2]
    assert gaps[2] < gaps[1] / 3
    # In one stage x1 is carried by the states of x0, and pays for its drift.
    gap, error, _ = gap_of(64)
    assert gap > -4 * error


@pytest.mark.long
def test_the_flow_takes_what_is_diffused():
    batch, exact = WORLD.draw(500)
    flow = jax.jit(
        lambda key: objective.flow_bound(
            key, WORLD.diffusion(DIFFUSABLE), batch, None, None, ["p", "x1", "x0"]
        )
    )
    difference = np.asarray(flow(jax.random.key(0))) - exact
    assert abs(difference.mean()) < 0.3


def test_training_draws_what_is_diffused_and_its_loss_is_the_optimum_at_the_optimum():
    """The loss of the network that answers exactly is below that of any other, here scaled."""
    batch, _ = WORLD.draw(4000)
    options = objective.LossOptions(tasks={"x0 | p": 1.0, "p | x0": 1.0, "x1 | p, x0": 1.0})

    def loss_with(factor):
        def denoise(z_t, t, roles):
            prediction = DIFFUSABLE.denoise(z_t, t, roles)
            return dataclasses.replace(prediction, value=factor * prediction.value)

        functions = dataclasses.replace(DIFFUSABLE, denoise=denoise)
        diffusion = WORLD.diffusion(functions)
        _, scalars = objective.simple_loss(jax.random.key(0), diffusion, batch, options=options)
        return scalars

    losses = {factor: loss_with(factor) for factor in (0.9, 1.0, 1.1)}
    for name in WORLD.everyone:
        key = f"{name}/squared_error"
        at = {factor: float(scalars[key].value) for factor, scalars in losses.items()}
        assert at[1.0] < min(at[0.9], at[1.1])
        assert 1000 < float(losses[1.0][key].count) < 1700


def test_roles_of_a_task_without_the_primary():
    batch, _ = WORLD.draw(6)
    roles = model.training_roles(
        DIFFUSABLE, batch, key=jax.random.key(0), tasks={"x0, x1 | p": 1.0}
    )
    assert roles.diffused("x0").all()
    assert not roles.carried("x0").any()
    assert roles.carried("x1").all()
    assert not roles.carried("p").any()
    assert roles.asked("x0").all()
    assert roles.carries_any().all()
    clean, _ = model.encode(DIFFUSABLE, batch, roles)
    np.testing.assert_allclose(clean.z_0, batch["x0"] @ WORLD.codes["x0"].T)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"diffusable": ("p",)}, "`diffusable`: got 'p'"),
        ({"diffusable": ("x0",), "shares": {"p": 1.0, "x1": 1.0}}, "as z_0 is shared by"),
    ],
)
def test_what_cannot_be_diffused(options, words):
    with pytest.raises(ValueError, match=words):
        WORLD.model(**options)


def test_a_diffusion_of_what_was_not_learned():
    with pytest.raises(ValueError, match="`diffused`: got 'x1'"):
        WORLD.diffusion(WORLD.model(diffusable=("x0",))).of("x1")
