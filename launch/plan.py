"""Prints what a run would cost, on devices that need not be there.

--config=F --devices=8 [--peak=989e12 --bandwidth=450e9] [--store_bandwidth=2e9 --hosts=4]
"""

from absl import app, flags
from ml_collections import config_flags

from mmdiffusion_jax import apps

_CONFIG = config_flags.DEFINE_config_file("config", None, "The experiment.", lock_config=True)
flags.mark_flag_as_required("config")
_DEVICES = flags.DEFINE_integer("devices", 1, "Of all processes; they need not be there.")
_PEAK = flags.DEFINE_float("peak", None, "FLOP/s of a device, in the precision that is used.")
_SHARE = flags.DEFINE_float("utilisation", 0.4, "The share of the peak that is reached.")
_BANDWIDTH = flags.DEFINE_float("bandwidth", None, "Bytes a second that a device sends.")
_STORE = flags.DEFINE_float(
    "store_bandwidth", None, "Bytes a second that a host writes to the workdir's disk or bucket."
)
_HOSTS = flags.DEFINE_integer("hosts", 1, "That write a checkpoint together.", lower_bound=1)


def main(argv: list[str]) -> None:
    """Parses the flags and prints the plan."""
    if len(argv) > 1:
        raise app.UsageError(f"unknown arguments: {' '.join(argv[1:])}")
    needs = (("utilisation", "peak"), ("peak", "bandwidth"), ("bandwidth", "peak"))
    for name, other in (*needs, ("hosts", "store_bandwidth")):
        if flags.FLAGS[name].present and flags.FLAGS[other].value is None:
            raise app.UsageError(f"--{name} without --{other} says nothing; give both")
    cost = apps.plan(_CONFIG.value, _DEVICES.value)
    print(cost.table())
    if _PEAK.value is not None and _BANDWIDTH.value is not None:
        steps = _CONFIG.value.training.num_steps
        print(cost.time_table(_PEAK.value, _SHARE.value, _BANDWIDTH.value, steps))
    if _STORE.value is not None:
        seconds = cost.checkpoint_seconds(_STORE.value, _HOSTS.value)
        print(f"{'a checkpoint is written in':<32}{seconds:.3g} s, while training goes on")


if __name__ == "__main__":
    apps.start(main)
