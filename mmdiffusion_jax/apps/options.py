"""The flags that launch scripts have in common."""

from collections.abc import Callable
from typing import Any

from absl import flags

from mmdiffusion_jax import errors
from mmdiffusion_jax.apps.requests import parse_interval, parse_scales

# The flags belong to the launch script that has them defined, whose --help shows them.
flags.disclaim_key_flags()

CHECKPOINTS = ("newest", "best")
"""The checkpoints of a run that can be read: its last, or the one with the best evaluation."""


def define_sampling_flags(
    weaker: bool = False, compared: bool = False
) -> Callable[[], dict[str, Any]]:
    """Defines a flag for each sampling option, which replaces the option of a run.

    Args:
        weaker: whether the command takes a weaker model, and so the scale of autoguidance.
        compared: whether the command compares samplers and numbers of states, which then no flag
            replaces.

    Returns:
        A function that gives, after parsing, {name: value} of the flags that were set.
    """
    plain: list[flags.FlagHolder[Any]] = [
        flags.DEFINE_string("grid", None, "Which: uniform, quadratic, log_snr or karras."),
        flags.DEFINE_float("guidance_rescale", None, "Back to the unguided spread, 0 to 1."),
        flags.DEFINE_float("guidance_limit", None, "Greatest RMS of guidance; 0 for none."),
        flags.DEFINE_string("threshold", None, "Of the clean state: auto, none, static, dynamic."),
        flags.DEFINE_string("estimate", None, "Of unknown encodings: mean, draw or moments."),
        flags.DEFINE_string("unknown", None, "Unknown modalities: auto, absent or estimated."),
        flags.DEFINE_string("read", None, "Values in the end: most_likely or draw."),
        flags.DEFINE_float(
            "read_noise", None, "Greatest sigma at which heads predict from a given primary."
        ),
        flags.DEFINE_integer("corrections", None, "Langevin steps at each state."),
        flags.DEFINE_integer("batch_size", None, "Samples at once."),
    ]
    if not compared:
        plain += (
            flags.DEFINE_string("sampler", None, "ancestral, ddim, 'ddim(eta=0.5)', heun, …"),
            flags.DEFINE_integer("num_steps", None, "How many states are visited."),
            flags.DEFINE_float("eta", None, "A field of ddim: 0 adds no noise, 1 is ancestral."),
        )
    if weaker:
        plain.append(flags.DEFINE_float("autoguidance", None, "Scale by which --weaker guides."))
    scales = (
        flags.DEFINE_multi_string("guidance", None, "Classifier-free: name:scale."),
        flags.DEFINE_multi_string("decoder_guidance", None, "By a head: name:scale."),
    )
    order = flags.DEFINE_multi_string("order", None, "What is generated, a flag for each stage.")
    interval = flags.DEFINE_list("guidance_interval", None, "Where to guide: low,high in sigma.")

    def read() -> dict[str, Any]:
        values: dict[str, Any] = {flag.name: flag.value for flag in plain}
        values |= {f.name: parse_scales(f.name, f.value) for f in scales if f.value is not None}
        if order.value is not None:
            values[order.name] = tuple(order.value)
        if interval.value is not None:
            values[interval.name] = parse_interval(interval.value)
        return {name: value for name, value in values.items() if value is not None}

    return read


def define_data_flags() -> Callable[[], dict[str, str]]:
    """Defines flags for where the data of a workdir lie now, if they have moved.

    Returns:
        A function that gives, after parsing, {key in `config.data`: place} of the flags that were
        set.
    """
    places = {
        key: flags.DEFINE_string(f"data_{key}", None, f"In place of config.data.{key}: {what}.")
        for key, what in (
            ("train", "an .npz file that has moved"),
            ("test", "an .npz file that has moved"),
            ("folder", "the folder of prepared data"),
            ("path", "the folder of the small sets"),
        )
    }
    return lambda: {key: flag.value for key, flag in places.items() if flag.value is not None}


def define_checkpoint_flag() -> flags.FlagHolder:
    """Defines the flag of the checkpoint that is read."""
    return flags.DEFINE_enum("checkpoint", "newest", CHECKPOINTS, "Which parameters.")


def parse_window(text: str | None) -> tuple[int, int] | None:
    """Steps to record, from "FIRST:LAST".

    Raises:
        ValueError: anything else.

    Example:
        >>> parse_window("100:110")
        (100, 110)
    """
    if text is None:
        return None
    first, _, last = text.partition(":")
    if not (first.isdecimal() and last.isdecimal() and 1 <= int(first) <= int(last)):
        raise errors.invalid("profile", repr(text), "FIRST:LAST, two steps from 1 on", "as 100:110")
    return int(first), int(last)
