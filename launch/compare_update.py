"""Says what an update would do to those who use what is deployed: --workdir=W [--from=D].

Prints a table, writes report.json (with the examples that break) and report.png into W, or into
--out, and ends with status 1 where the update is beyond its limits.
"""

from absl import app, flags

from mmdiffusion_jax import apps, graceful

_WORKDIR = flags.DEFINE_string("workdir", None, "Of the successor.", required=True)
_FROM = flags.DEFINE_string("from", None, "Workdir of what is in use; else as it was trained.")
_OUT = flags.DEFINE_string("out", None, "Folder of the report.")
_EXAMPLES = flags.DEFINE_integer("num_examples", 1000, "Of the test split.")
_PLACES = apps.define_data_flags()
_PLAIN = graceful.Limits()
_LIMITS = [
    flags.DEFINE_float("negative_flips", _PLAIN.negative_flips, "Right before, wrong now."),
    flags.DEFINE_float("error_increase", _PLAIN.error_increase, "Of wrong decisions."),
    flags.DEFINE_float("denoiser_ratio", _PLAIN.denoiser_ratio, "On new over stored latents."),
    flags.DEFINE_float("retrieval_loss", _PLAIN.retrieval_loss, "mAP of new queries."),
]


def main(argv: list[str]) -> None:
    """Parses the flags and compares."""
    if len(argv) > 1:
        raise app.UsageError(f"unknown arguments: {' '.join(argv[1:])}")
    limits = graceful.Limits(**{flag.name: flag.value for flag in _LIMITS})
    apps.compare_update(_WORKDIR.value, _FROM.value, _OUT.value, limits, _EXAMPLES.value, _PLACES())


if __name__ == "__main__":
    apps.start(main)
