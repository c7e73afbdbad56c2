"""The settings of a config that separate diffusions make no use of."""

from collections.abc import Iterator, Mapping
from typing import Any

from ml_collections import ConfigDict

_ACCEPTED: Mapping[str, tuple[Any, ...]] = {
    "diffused": ((),),
    "self_conditioned": ((),),
    "primary_as_state": (False,),
    "augmentation.rate": (0.0,),
    "process.variance": ("posterior",),
    "process.shares": ({},),
    "loss.kind": ("simple",),
    "loss.dropout": ({},),
    "loss.tasks": ({},),
    "loss.shown_noise": ({},),
    "loss.believed": ((),),
    "loss.timesteps": ("uniform",),
    "loss.logit_normal": ((),),
    "loss.pure_noise": (0.0,),
    "sampling.guidance": ({},),
    "sampling.decoder_guidance": ({},),
    "sampling.autoguidance": (1.0,),
    "sampling.threshold": ("static", "auto", "none"),
    "sampling.estimate": ("mean",),
    "sampling.unknown": ("auto",),
    "sampling.order": ((),),
    "sampling.shown_levels": ({},),
    "sampling.read": ("most_likely",),
    "sampling.read_noise": (0.0,),
    "sampling.corrections": (0,),
}
"""{path in a config: the values that it may have}, first the one that takes the place of others.

It is the default, but "static" in the place of a dynamic threshold.
"""


def unused_by_separate(values: Mapping[str, Any] | ConfigDict) -> dict[str, tuple[Any, ...]]:
    """{path: the values that it may have} of what a config sets, and separate diffusions ignore.

    Their loss draws a uniform time for each modality, drops nothing and shows nothing; their
    samples come from one pass over all states, with the primary's estimate clipped or left. Rates
    of 0 in sections of the loss are as good as none.

    Args:
        values: of a config, nested; what it leaves out has its default.

    Example:
        >>> unused_by_separate({"loss": {"dropout": {"label": 0.1}, "kind": "simple"}})
        {'loss.dropout': ({},)}
    """
    return {path: accepted for path, accepted, *_ in _differing(values)}


def leave_unused_out(values: dict[str, Any] | ConfigDict) -> list[str]:
    """Gives what separate diffusions ignore the value that stands for none; returns the paths.

    Args:
        values: of a config, nested; changed in place.

    Example:
        >>> values = {"loss": {"dropout": {"label": 0.1}, "kind": "bound"}}
        >>> leave_unused_out(values), values
        (['loss.kind', 'loss.dropout'], {'loss': {'dropout': {}, 'kind': 'simple'}})
    """
    paths = []
    for path, (first, *_), section, key in list(_differing(values)):
        section[key] = dict(first) if isinstance(first, dict) else first
        paths.append(path)
    return paths


def _differing(
    values: Mapping[str, Any] | ConfigDict,
) -> Iterator[tuple[str, tuple[Any, ...], Any, str]]:
    """(path, the values it may have, its section, its key) of each value that is another."""
    for path, accepted in _ACCEPTED.items():
        *outer, key = path.split(".")
        section: Any = values
        for name in outer:
            section = section.get(name, {})
        if key in section and _plain(path, section[key]) not in accepted:
            yield path, accepted, section, key


def _plain(path: str, value: Any) -> Any:
    """The value as it is compared: files have lists in place of tuples."""
    if isinstance(value, Mapping | ConfigDict):
        return {n: x for n, x in value.items() if x or not path.startswith("loss.")}
    return tuple(value) if isinstance(value, list) else value
