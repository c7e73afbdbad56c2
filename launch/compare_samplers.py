"""Compares samplers: --workdir=W --out=DIR; more than one workdir gives means and spreads."""

from absl import app, flags

from mmdiffusion_jax import apps

_WORKDIR = flags.DEFINE_multi_string(
    "workdir", None, "Where a run is kept; may be repeated.", required=True
)
_OUT = flags.DEFINE_string(
    "out", None, "The folder that gets the table and its plot.", required=True
)
_SAMPLERS = flags.DEFINE_list(
    "samplers",
    "ancestral,ddim,dpm_solver_pp,dpm_solver_pp_3m,dpm_solver_pp_2m_sde,heun",
    "Which, by name.",
)
_STEPS = flags.DEFINE_list("steps", "5,10,15,20,50,100", "Numbers of visited states.")
_PLACES = apps.define_data_flags()
_OPTIONS = apps.define_sampling_flags(compared=True)


def main(argv: list[str]) -> None:
    """Parses the flags and compares."""
    if len(argv) > 1:
        raise app.UsageError(f"unknown arguments: {' '.join(argv[1:])}")
    if not all(number.isdecimal() for number in _STEPS.value):
        raise app.UsageError(f"--steps={','.join(_STEPS.value)}: whole numbers, as in 5,10,15")
    steps = [int(number) for number in _STEPS.value]
    apps.compare_samplers(
        _WORKDIR.value, _OUT.value, _SAMPLERS.value, steps, _PLACES(), **_OPTIONS()
    )


if __name__ == "__main__":
    apps.start(main)
