"""What a comparison is judged by: tried once, and kept beside it."""

import dataclasses
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

from mmdiffusion_jax import data, evaluation, experiment, files
from mmdiffusion_jax.evaluation import RealData, ShamTest, SvmAccuracy

_PLACES = ("path", "embedder", "folder")

RULES = 2
"""Counts the changes of what figures of a name are; figures of other rules are made anew."""


@dataclasses.dataclass(frozen=True)
class Judging:
    """What stands beside the figures of a comparison, the same for all of its arms.

    Attributes:
        shams: what its features and judges make of shams.
        floor: the Fréchet distance to test images of as many training images as samples are drawn,
            or as there are; None where there is none.
        outsiders: how a support vector machine reads the labels.
    """

    shams: ShamTest
    floor: float | None
    outsiders: tuple[SvmAccuracy, ...]


def judged_data(config: ConfigDict) -> dict[str, Any]:
    """{name: value} of what the judges of a comparison depend on: the data, wherever they lie.

    Files are named by digests of what is in them.
    """
    settings = experiment.read_settings(config)
    values = {"judge_steps": settings.evaluation.judge_steps, **dataclasses.asdict(settings.data)}
    for place in _PLACES:
        del values[place]
    digests = experiment.data_digests(config)
    return values | {key.removeprefix("data."): digest for key, digest in digests.items()}


def kept_judging(
    config: ConfigDict, splits: tuple[data.Source, data.Source], real: RealData, file: Path
) -> Judging:
    """The judging of a comparison, or that of an earlier call with the same data and judges.

    Args:
        config: of the multi-task model.
        splits: its whole data.
        real: made of them.
        file: JSON; read, or written.
    """
    values = config.to_dict()
    key = judged_data(config) | {
        "rules": RULES,
        "features": real.features_name,
        "evaluation": {**values["evaluation"], "features": real.features_name},
        **{name: values[name] for name in ("latent", "modalities", "primary", "seed")},
    }
    key = json.loads(json.dumps(key, default=str))
    if file.exists():
        kept = json.loads(file.read_text(encoding="utf-8"))
        if kept["key"] == key:
            return Judging(
                ShamTest(**kept["shams"]),
                kept["floor"],
                tuple(SvmAccuracy(**accuracy) for accuracy in kept["outsiders"]),
            )
    fitted = experiment.open_data(config)[0] if config.data.kept else splits[0]
    judging = Judging(
        evaluation.sham_test(real),
        _floor(real),
        tuple(evaluation.labels_by_svm(experiment.build(config), fitted, splits[1])),
    )
    record: Mapping[str, Any] = {"key": key, **dataclasses.asdict(judging)}
    files.write_text(file, json.dumps(record, indent=1))
    return judging


def _floor(real: RealData) -> float | None:
    try:
        return real.floor(min(real.num_samples, real.most_for_floor))
    except ValueError:
        return None
