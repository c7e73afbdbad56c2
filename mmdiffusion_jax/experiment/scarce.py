"""What training data mostly lack is drawn last, so that it does not spoil what they have."""

import numpy as np
from absl import logging
from ml_collections import ConfigDict

from mmdiffusion_jax import data, sampling
from mmdiffusion_jax.experiment.build import Experiment

# A modality that a smaller share of the examples has is scarce.
_LEAST = 0.5
# Examples that are looked at, evenly spread.
_SAMPLE = 10_000


def draw_scarce_last(config: ConfigDict, built: Experiment, source: data.Source) -> ConfigDict:
    """The config with an order of sampling that fits the data, and a warning where that changes it.

    A modality that fewer than half of the examples have is drawn after all others: as the first of
    a chain it would lead every sample to the few examples that have it. Where the network is shown
    nothing, so that nothing is drawn in a chain, the states of joint samples leave out what is
    unknown (`sampling.unknown`). An order that the config names stays, and so does any other
    `sampling.unknown` than "auto"; what is believed in training is not missing there.

    Args:
        config: an experiment's.
        built: what it describes.
        source: its training split.
    """
    model, options = built.model, built.sampling
    if built.settings.formulation != "shared" or options.order:
        return config
    believed = {model.primary, *built.settings.loss.believed}
    scarce = _scarce(source, set(model.modalities) - believed)
    stages = sampling.stages_of(model, (), None)
    kept = [tuple(name for name in stage if name not in scarce) for stage in stages]
    before = [name for stage in kept for name in stage]
    early = any(name in scarce for stage in stages[:-1] for name in stage)
    can_wait = early and set(before) <= set(model.shows)
    together = len(stages) == 1 and scarce and options.unknown == "auto"
    if not can_wait and not together:
        return config
    config = config.copy_and_resolve_references()
    if together:
        config.sampling.unknown, change = "absent", "sampling.unknown = 'absent'"
    else:
        last = sorted({name for stage in stages for name in stage} - set(before))
        config.sampling.order = (*(", ".join(stage) for stage in kept if stage), *last)
        change = f"sampling.order = {config.sampling.order}"
    shares = ", ".join(f"{share:.1%} have {name!r}" for name, share in sorted(scarce.items()))
    logging.warning(
        "Of the training examples %s, so joint samples do not depend on it: %s. Set either to "
        "have them otherwise.",
        shares,
        change,
    )
    return config


def _scarce(source: data.Source, names: set[str]) -> dict[str, float]:
    """{name: the share of the examples that have it} of those that fewer than half have."""
    size = min(_SAMPLE, len(source))
    rows = np.linspace(0, len(source) - 1, size).astype(np.int64)
    counts = data.count_present(data.Subset(source, rows), sorted(names))
    return {name: count / size for name, count in counts.items() if count < _LEAST * size}
