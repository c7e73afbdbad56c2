"""What the section about sampling refuses."""

import pytest

from mmdiffusion_jax import sampling
from mmdiffusion_jax.experiment import SamplingOptions


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
