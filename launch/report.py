"""Writes the page of a run or a comparison: --workdir=W [--out=report.html]."""

from absl import app, flags

from mmdiffusion_jax import apps

_WORKDIR = flags.DEFINE_string("workdir", None, "Of a run or a comparison.", required=True)
_OUT = flags.DEFINE_string("out", None, "The file, *.html, in place of report.html in the workdir.")


def main(argv: list[str]) -> None:
    """Parses the flags and writes."""
    if len(argv) > 1:
        raise app.UsageError(f"unknown arguments: {' '.join(argv[1:])}")
    apps.report(_WORKDIR.value, _OUT.value)


if __name__ == "__main__":
    apps.start(main)
