"""Writes a trained model as one file: --workdir=W --out=model.safetensors [--checkpoint=best]."""

from absl import app, flags

from mmdiffusion_jax import apps

_WORKDIR = flags.DEFINE_string("workdir", None, "Where the run is kept.", required=True)
_OUT = flags.DEFINE_string("out", None, "The file, *.safetensors.", required=True)
_CHECKPOINT = apps.define_checkpoint_flag()


def main(argv: list[str]) -> None:
    """Parses the flags and exports."""
    if len(argv) > 1:
        raise app.UsageError(f"unknown arguments: {' '.join(argv[1:])}")
    apps.export(_WORKDIR.value, _OUT.value, _CHECKPOINT.value)


if __name__ == "__main__":
    apps.start(main)
