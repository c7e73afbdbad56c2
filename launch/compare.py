"""Compares multi-task with single-task training: --config=configs/image_label.py --workdir=W.

[--arms=multi,single,single_augmented,separate] [--seeds=3] [--steps=N] [--budgets=steps,flops]
Arms that the config's `get_variants()` names are the model with other values, such as
{"deep": {"backbone.depth": 5}}.
"""

from absl import app, flags
from ml_collections import config_flags

from mmdiffusion_jax import apps, baselines, experiment

_CONFIG = config_flags.DEFINE_config_file("config", None, "The multi-task model.", lock_config=True)
flags.mark_flag_as_required("config")
_WORKDIR = flags.DEFINE_string(
    "workdir", None, "Where everything is kept; run again to go on.", required=True
)
_ARMS = flags.DEFINE_list("arms", "multi,single,single_augmented,separate", "The first is ours.")
_SEEDS = flags.DEFINE_integer("seeds", 3, "Runs an arm.")
_STEPS = flags.DEFINE_integer("steps", None, "Of training, in place of the config's.")
_BUDGETS = flags.DEFINE_list(
    "budgets", "steps,flops", "What every arm has the same of: steps, flops, time."
)


def main(argv: list[str]) -> None:
    """Parses the flags and compares."""
    if len(argv) > 1:
        raise app.UsageError(f"unknown arguments: {' '.join(argv[1:])}")
    variants = {}
    if not set(_ARMS.value) <= {*baselines.ARMS}:
        place = config_flags.get_config_filename(flags.FLAGS["config"])
        mend = "return {arm: {path: value}}"
        variants = experiment.call_in_file(place, "get_variants", mend, True, otherwise={})
    apps.compare_arms(
        _CONFIG.value,
        _WORKDIR.value,
        _ARMS.value,
        _SEEDS.value,
        _STEPS.value,
        _BUDGETS.value,
        variants,
    )


if __name__ == "__main__":
    apps.start(main)
