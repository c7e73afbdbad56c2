"""Evaluates trained models: --workdir=W; more than one gives their mean and spread."""

from absl import app, flags

from mmdiffusion_jax import apps

_WORKDIR = flags.DEFINE_multi_string(
    "workdir", None, "Where a run is kept; may be repeated.", required=True
)
_CHECKPOINT = apps.define_checkpoint_flag()
_PLACES = apps.define_data_flags()
_OPTIONS = apps.define_sampling_flags()


def main(argv: list[str]) -> None:
    """Parses the flags and evaluates."""
    if len(argv) > 1:
        raise app.UsageError(f"unknown arguments: {' '.join(argv[1:])}")
    apps.evaluate(_WORKDIR.value, _CHECKPOINT.value, _PLACES(), **_OPTIONS())


if __name__ == "__main__":
    apps.start(main)
