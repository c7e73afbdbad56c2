"""What the section about sampling refuses."""

import pytest

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
        ({"eta": 0.5}, "`sampling.eta`: got 0.5 with the sampler 'ancestral'"),
        ({"eta": 1.5, "sampler": "ddim"}, "`sampling.eta`: got 1.5"),
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
