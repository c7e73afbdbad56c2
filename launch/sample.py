"""Generates samples: --workdir=W [--given=label=3 | image@FILE.npz] [--sampler=NAME …]."""

from absl import app, flags

from mmdiffusion_jax import run

_WORKDIR = flags.DEFINE_string("workdir", None, "Where the run is kept.", required=True)
_OUT = flags.DEFINE_string("out", None, "The folder for the results; one in the workdir.")
_NUM_SAMPLES = flags.DEFINE_integer("num_samples", None, "How many; as the given file, or 100.")
_GIVEN = flags.DEFINE_multi_string("given", [], "A known modality: name=value or name@FILE.")
_SEED = flags.DEFINE_integer("seed", 0, "Of the samples.")
_SHARD_SIZE = flags.DEFINE_integer("shard_size", None, "Samples a file; ten batches.")

# Each takes the place of the same key in the run's config.sampling.
_OPTIONS = (
    flags.DEFINE_string("sampler", None, "ancestral, ddim, dpm_solver_pp, heun, …"),
    flags.DEFINE_integer("num_steps", None, "How many states are visited."),
    flags.DEFINE_string("grid", None, "Which: uniform, quadratic, log_snr or karras."),
    flags.DEFINE_float("eta", None, "Of ddim: 0 adds no noise, 1 is ancestral."),
    flags.DEFINE_float("guidance_rescale", None, "Back to the unguided spread, 0 to 1."),
    flags.DEFINE_string("threshold", None, "Of the clean state: none, static or dynamic."),
    flags.DEFINE_string("estimate", None, "Of unknown encodings: mean, draw or moments."),
    flags.DEFINE_string("unknown", None, "Unknown modalities: auto, absent or estimated."),
    flags.DEFINE_string("read", None, "Values in the end: most_likely or draw."),
    flags.DEFINE_integer("corrections", None, "Langevin steps at each state."),
    flags.DEFINE_integer("batch_size", None, "Samples at once."),
)
_GUIDANCE = flags.DEFINE_multi_string("guidance", None, "Classifier-free: name:scale.")
_DECODER = flags.DEFINE_multi_string("decoder_guidance", None, "By a head: name:scale.")
_INTERVAL = flags.DEFINE_list("guidance_interval", None, "Where to guide: low,high in sigma.")


def main(argv: list[str]) -> None:
    """Parses the flags and samples."""
    if len(argv) > 1:
        raise app.UsageError(f"unknown arguments: {' '.join(argv[1:])}")
    options: dict[str, object] = {flag.name: flag.value for flag in _OPTIONS}
    for flag in (_GUIDANCE, _DECODER):
        options[flag.name] = flag.value and run.parse_scales(flag.name, flag.value)
    options[_INTERVAL.name] = _INTERVAL.value and run.parse_interval(_INTERVAL.value)
    run.sample(
        _WORKDIR.value,
        _OUT.value,
        _NUM_SAMPLES.value,
        _GIVEN.value,
        _SEED.value,
        _SHARD_SIZE.value,
        **{name: value for name, value in options.items() if value is not None},
    )


if __name__ == "__main__":
    run.start(main)
