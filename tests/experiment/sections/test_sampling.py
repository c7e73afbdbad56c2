"""What the section about sampling refuses."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mmdiffusion_jax import sampling
from mmdiffusion_jax.experiment import SamplingOptions
from tests.linear_world import LinearWorld


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"sampler": "dpm_solver"}, "`sampling.sampler`.*did you mean 'dpm_solver_pp'"),
        ({"grid": "karas"}, "`sampling.grid`.*did you mean 'karras'"),
        ({"threshold": "sttic"}, "`sampling.threshold`.*did you mean 'static'"),
        ({"num_steps": 0}, "`sampling.num_steps`: got 0, expected 1 or more"),
        ({"batch_size": 0}, "`sampling.batch_size`: got 0"),
        ({"corrections": -1}, "`sampling.corrections`: got -1"),
        (
            {"sampler": "ancestral(eta=0.5)"},
            "`sampling.sampler`: got 'eta', a field of 'ddim', .*choose 'ddim'",
        ),
        ({"sampler": {"kind": "ddim", "eta": 1.5}}, "`sampling.sampler.eta`: got 1.5"),
        ({"sampler": {"kind": "dim"}}, "`sampling.sampler.kind`.*did you mean 'ddim'"),
        ({"sampler": "ddim(etta=0)"}, "`sampling.sampler`: got 'etta'.*did you mean 'eta'"),
        ({"sampler": "ddim(0.5)"}, "`sampling.sampler`: got 'ddim"),
        ({"sampler": "ddim(eta=x)"}, "`sampling.sampler`: got 'ddim"),
        ({"read_noise": -0.1}, "`sampling.read_noise`: got -0.1, expected a number, 0 or more"),
        ({"guidance_interval": (1.0,)}, "`sampling.guidance_interval`: got "),
        (
            {"guidance_interval": (2.0, 1.0), "guidance": {"label": 2.0}},
            "`sampling.guidance_interval`: got ",
        ),
        (
            {"guidance_rescale": 2.0, "guidance": {"label": 2.0}},
            "`sampling.guidance_rescale`: got 2.0",
        ),
        ({"guidance": {"label": float("nan")}}, "`sampling.guidance.label`: got nan"),
    ],
)
def test_bad_options(options, words):
    with pytest.raises(ValueError, match=words):
        SamplingOptions(**options)


@pytest.mark.parametrize(
    ("sampler", "stepper"),
    [
        ("ddim", sampling.DDIM()),
        ("ddim(eta=0.5)", sampling.DDIM(eta=0.5)),
        ({"kind": "ddim", "eta": 0.5}, sampling.DDIM(eta=0.5)),
        ("dpm_solver_pp_3m", sampling.DPMSolverPP(order=3)),
        ("dpm_solver_pp(order=1)", sampling.DPMSolverPP(order=1)),
    ],
)
def test_a_sampler_is_named_with_its_fields(sampler, stepper):
    options = SamplingOptions(sampler=sampler)
    assert options.stepper() == stepper
    assert SamplingOptions(sampler=options.sampler) == options


def test_bayes_term_of_what_states_carry_is_not_cut_with_what_is_amplified():
    """What nobody asked to amplify has its exact conditional at every noise level."""
    world, count = LinearWorld(1, 20), 100
    options = {"guidance_interval": (0.3, 5.0), "guidance_rescale": 0.7}
    key, y = jax.random.key(0), jnp.tile(jnp.array([[1.0, -0.5]]), (count, 1))
    chosen = SamplingOptions(threshold="none", **options)

    def drawn(decorators):
        method = sampling.Method(decorators=decorators)
        diffusion = world.diffusion()
        return sampling.sample(key, diffusion, (count, 2), {"x0": y}, method)["p"]

    named = chosen.decorators({"x0"}, {"x0"}, [])
    np.testing.assert_array_equal(drawn(named), drawn(None))
    asked = dataclasses.replace(chosen, decoder_guidance={"x0": 1.0}).decorators({"x0"}, {"x0"}, [])
    assert np.abs(np.asarray(drawn(asked)) - np.asarray(drawn(None))).max() > 0.01
