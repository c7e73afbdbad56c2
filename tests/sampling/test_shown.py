"""Conditionals of a model that sees what is known: exact laws, orders, and guidance."""

import dataclasses
import itertools

import jax
import numpy as np
import pytest
from scipy import stats

from mmdiffusion_jax import sampling
from tests.linear_world import LinearWorld
from tests.shown_world import DIMS, ShownWorld, p_values

NUM = 2000
WORLD = ShownWorld(2, 64, log_snr=(7.0, -8.0))
CONDITIONS = [
    subset for size in range(3) for subset in itertools.combinations(WORLD.everyone, size)
]
READ_AS_DRAWS = {"read": "draw", "stepper": sampling.DPMSolverPP()}


def drawn(known, **method):
    batch, _ = WORLD.draw(NUM, seed=5)
    given = {name: batch[name] for name in known}
    samples = jax.jit(
        lambda key: sampling.sample(
            key, WORLD.diffusion(), (NUM, DIMS), given,
            sampling.Method(**{**READ_AS_DRAWS, **method}),
        )
    )(jax.random.key(0))  # fmt: skip
    return batch, samples


@pytest.mark.parametrize("known", CONDITIONS, ids="-".join)
def test_every_conditional_has_its_exact_law(known):
    """Without guidance or corrections, the primary first and then the others, one by one."""
    batch, samples = drawn(known)
    assert set(samples) == set(WORLD.everyone)
    values = p_values(WORLD, batch, samples, known)
    assert min(values) > 0.001 / len(values), values


def test_a_drift_alone_has_not():
    """The same test fails for the network that is not shown the x_0 that drives its states."""
    batch, _ = WORLD.draw(NUM, seed=5)
    blind = dataclasses.replace(WORLD.model(), shows=())
    samples = sampling.sample(
        jax.random.key(0), WORLD.diffusion(blind), (NUM, DIMS), {"x0": batch["x0"]},
        sampling.Method(**READ_AS_DRAWS, decorators=()),
    )  # fmt: skip
    assert min(p_values(WORLD, batch, samples, ("x0",))) < 1e-6


@pytest.mark.parametrize("order", [("x0", "p", "x1"), ("x1", "x0", "p"), ("p", "x1", "x0")])
def test_any_order_draws_the_joint_law(order):
    """p(X) = Π p(x_j | those before), whichever come first."""
    batch, samples = drawn((), order=order)
    assert min(p_values(WORLD, batch, samples, ())) > 0.001 / 7


def test_an_order_generates_what_it_names():
    _, samples = drawn((), order=("x0", "p"))
    assert set(samples) == {"x0", "p"}
    _, samples = drawn(("p",), order=("x1",))
    assert set(samples) == {"p", "x1"}


def test_heads_alone_do_not_answer_for_what_they_are_not_shown():
    """A stage without what is diffused is read from what is shown; x1 would not enter it."""
    model = WORLD.model()
    batch, _ = WORLD.draw(3)
    for shows in ((), ("p", "x0")):
        half = WORLD.diffusion(dataclasses.replace(model, shows=shows))
        with pytest.raises(ValueError, match=r"`order`: got x0 by itself, while \['x1'\] is given"):
            sampling.sample(
                jax.random.key(0), half, (3, DIMS), {"x1": batch["x1"]},
                sampling.Method(order=["x0"]),
            )  # fmt: skip


@pytest.mark.parametrize("shows", [("x0",), ()])
def test_states_of_a_given_primary_carry_neither_what_is_shown_nor_what_is_left_out(shows):
    """x0 is given, x1 is asked for: the states have what the roles of the network say."""
    world, called = ShownWorld(2, 8), []
    inner = world.model()

    def denoise(z_t, t, roles):
        called.append((int(t[0]), np.asarray(z_t), roles))
        return inner.denoise(z_t, t, roles)

    model = dataclasses.replace(inner, denoise=denoise, shows=shows)
    batch, _ = world.draw(3)
    states = {}
    for value in (0.0, 100.0):
        given = {"p": batch["p"], "x0": np.full((3, DIMS), value)}
        with jax.disable_jit():
            sampling.sample(
                jax.random.key(0), world.diffusion(model), (3, DIMS), given,
                sampling.Method(order=["x1"], decorators=()),
            )  # fmt: skip
        states[value] = called[0][1]
        roles = called[0][2]
        assert bool(roles.carried("x0").all()) == ("x0" not in shows)
        called.clear()
    same = np.allclose(states[0.0], states[100.0])
    assert same == ("x0" in shows)


def test_an_order_leaves_out_of_the_states_what_it_does_not_name():
    world, called = LinearWorld(2, 8), []
    inner = world.model()

    def denoise(z_t, t, roles):
        called.append(roles)
        return inner.denoise(z_t, t, roles)

    batch, _ = world.draw(3)
    diffusion = world.diffusion(dataclasses.replace(inner, denoise=denoise))
    with jax.disable_jit():
        sampling.sample(
            jax.random.key(0), diffusion, (3, DIMS), {"p": batch["p"]},
            sampling.Method(order=["x1"], unknown="estimated"),
        )  # fmt: skip
    assert not any(roles.carried("x0").any() for roles in called)
    assert all(roles.carried("x1").all() for roles in called)


def test_levels_of_an_unknown_modality():
    with pytest.raises(ValueError, match="`shown_levels`: got 'x9'"):
        drawn(("p",), shown_levels={"x9": (0.5,)})


def test_guidance_of_scale_one_is_none():
    _, plain = drawn(("x0",))
    _, guided = drawn(("x0",), decorators=[sampling.classifier_free_guidance("x0", 1.0)])
    for name in plain:
        np.testing.assert_array_equal(plain[name], guided[name])


def test_guidance_of_scale_zero_draws_as_if_nothing_were_known():
    guide = sampling.classifier_free_guidance("x0", 0.0)
    batch, samples = drawn(("x0",), order=("p",), decorators=[guide])
    marginal = stats.norm(WORLD.mean[0], WORLD.covariance[0, 0] ** 0.5)
    assert stats.kstest(np.asarray(samples["p"])[:, 0], marginal.cdf).pvalue > 0.001
    correlation = np.corrcoef(np.asarray(samples["p"]).T, np.asarray(batch["x0"]).T)[:2, 2:]
    assert np.abs(correlation).max() < 4 / NUM**0.5


def test_autoguidance_of_scale_one_is_none_and_of_scale_zero_the_weaker_model():
    """Here a weaker model that answers as if the network were not shown what is known."""
    model = WORLD.model()

    def blind(z_t, t, roles):
        return model.denoise(z_t, t, roles.without("x0"))

    weaker = WORLD.diffusion(dataclasses.replace(model, denoise=blind))
    _, plain = drawn(("x0",))
    _, guided = drawn(("x0",), decorators=[sampling.autoguidance(weaker, 1.0)])
    for name in plain:
        np.testing.assert_array_equal(plain[name], guided[name])
    guide = sampling.autoguidance(weaker, 0.0)
    batch, samples = drawn(("x0",), order=("p",), decorators=[guide])
    marginal = stats.norm(WORLD.mean[0], WORLD.covariance[0, 0] ** 0.5)
    assert stats.kstest(np.asarray(samples["p"])[:, 0], marginal.cdf).pvalue > 0.001
    correlation = np.corrcoef(np.asarray(samples["p"]).T, np.asarray(batch["x0"]).T)[:2, 2:]
    assert np.abs(correlation).max() < 4 / NUM**0.5
    # Above one it goes on in the same direction as guidance by leaving out what is known.
    free = [sampling.classifier_free_guidance("x0", 2.0)]
    _, amplified = drawn(("x0",), order=("p",), decorators=[sampling.autoguidance(weaker, 2.0)])
    _, without = drawn(("x0",), order=("p",), decorators=free)
    np.testing.assert_allclose(amplified["p"], without["p"], atol=1e-9)
