"""Our joint model against others: --config=configs/digits.py --workdir=W [--seeds=0,1,2].

[--budget=steps|time] [--contenders=hackable-diffusion,diffusers] [--python=PATH] [--more=4]
docs/benchmarks.md says what is compared, and how to make the interpreter that --python names.
"""

from absl import app, flags
from ml_collections import config_flags

from benchmarks.rivals.conduct import CONTENDERS, Options, compare
from mmdiffusion_jax import apps, errors

_CONFIG = config_flags.DEFINE_config_file("config", None, "Our model.", lock_config=True)
flags.mark_flag_as_required("config")
_WORKDIR = flags.DEFINE_string(
    "workdir", None, "Where everything is kept; run again to go on.", required=True
)
_SEEDS = flags.DEFINE_list("seeds", "0,1,2", "One run of each contender for each.")
_BUDGET = flags.DEFINE_string("budget", "steps", "What all have the same of: steps or time.")
_CONTENDERS = flags.DEFINE_list("contenders", list(CONTENDERS), "Which; ours always runs.")
_PYTHON = flags.DEFINE_string("python", "", "The interpreter that has hackable-diffusion.")
_MORE = flags.DEFINE_integer("more", 4, "Samples are also drawn with so many times the calls.")


def main(argv: list[str]) -> None:
    """Parses the flags and compares."""
    if len(argv) > 1:
        raise app.UsageError(f"unknown arguments: {' '.join(argv[1:])}")
    if not all(seed.isdecimal() for seed in _SEEDS.value):
        expected = "whole numbers with commas between them"
        raise errors.invalid("seeds", ",".join(_SEEDS.value), expected, "correct them")
    options = Options(
        seeds=tuple(map(int, _SEEDS.value)),
        budget=_BUDGET.value,
        contenders=tuple(_CONTENDERS.value),
        python=_PYTHON.value,
        more=_MORE.value,
    )
    compare(_CONFIG.value, _WORKDIR.value, options)


if __name__ == "__main__":
    apps.start(main)
