"""Prints what a run would cost: --config=F --devices=8 [--peak=989e12 --bandwidth=450e9]."""

from absl import app, flags
from ml_collections import config_flags

from mmdiffusion_jax import apps

_CONFIG = config_flags.DEFINE_config_file("config", None, "The experiment.", lock_config=True)
flags.mark_flag_as_required("config")
_DEVICES = flags.DEFINE_integer("devices", 1, "Of all processes; they need not be there.")
_PEAK = flags.DEFINE_float("peak", None, "FLOP/s of a device, in the precision that is used.")
_SHARE = flags.DEFINE_float("utilisation", 0.4, "The share of the peak that is reached.")
_BANDWIDTH = flags.DEFINE_float("bandwidth", None, "Bytes a second that a device sends.")


def main(argv: list[str]) -> None:
    """Parses the flags and prints the plan."""
    if len(argv) > 1:
        raise app.UsageError(f"unknown arguments: {' '.join(argv[1:])}")
    found = apps.plan(_CONFIG.value, _DEVICES.value)
    print(found.table())
    if _PEAK.value and _BANDWIDTH.value:
        steps = _CONFIG.value.training.num_steps
        print(found.time_table(_PEAK.value, _SHARE.value, _BANDWIDTH.value, steps))


if __name__ == "__main__":
    apps.start(main)
