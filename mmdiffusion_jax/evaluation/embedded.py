"""Figures of whether an embedding helps the images that are generated with it."""

import dataclasses
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import jax
import numpy as np

from mmdiffusion_jax import sampling
from mmdiffusion_jax.evaluation.figure import Figure, figures_of, left_out
from mmdiffusion_jax.evaluation.joint import image_figures
from mmdiffusion_jax.evaluation.real import RealData
from mmdiffusion_jax.experiment import Experiment

Values = Mapping[str, np.ndarray]


@dataclasses.dataclass(frozen=True)
class Drawn:
    """Samples of one query.

    Attributes:
        prefix: what comes before the names of their figures, such as "joint".
        key: the typed key that they were drawn with.
        samples: {name: (n, …)}, what was generated.
        given: {name: (n, …)}, from what.
    """

    prefix: str
    key: jax.Array
    samples: Values
    given: Values = dataclasses.field(default_factory=dict)


def embedding_figures(
    real: RealData, experiment: Experiment, params: Any, drawn: Drawn
) -> Iterator[Figure]:
    """Figures of images with an embedding of them, without it, and guided by it.

    For each modality that is an embedding the same query is asked again in two ways. `without_…`
    leaves the embedding out of it. `guided_by_…` gives it the embedding of the samples, which the
    model itself has drawn; guidance has the scale of `sampling.guidance`, and where there is none,
    the embedding is known and nothing more.

    Args:
        real: real data, their features and judges.
        experiment: the experiment.
        params: parameters, usually the moving average.
        drawn: samples with their embeddings.

    Yields:
        Where a modality is an embedding: `<prefix>/frechet_within_class` of the samples, where the
        data have labels (those of given labels, or by the judge of images), and the same and
        `image_figures` under `<prefix>/without_<name>` and `<prefix>/guided_by_<name>`.
    """
    modalities = experiment.model.modalities
    names = [name for name, modality in modalities.items() if modality.is_embedding]
    if not names:
        return
    yield from _within_class(real, drawn.prefix, drawn.samples[real.primary], drawn.given)
    ways: Mapping[str, Callable[..., np.ndarray]] = {"without": _without, "guided_by": _guided_by}
    for name in names:
        for way, draw in ways.items():
            prefix = f"{drawn.prefix}/{way}_{name}"
            try:
                images = draw(experiment, params, drawn, name)
            except ValueError as error:
                yield from left_out([prefix], str(error))
                continue
            yield from image_figures(real, prefix, images)
            yield from _within_class(real, prefix, images, drawn.given)


def _without(experiment: Experiment, params: Any, drawn: Drawn, name: str) -> np.ndarray:
    """Images of the same noise and the same query without a modality."""
    _check_drawn(drawn, name)
    if not experiment.formulation.has_bound:
        raise ValueError("this formulation generates all modalities together")
    model, options = experiment.model, experiment.sampling
    stages = sampling.stages_of(model, drawn.given, options.order or None)
    until = next(index for index, stage in enumerate(stages) if model.primary in stage)
    if not any(name in stage for stage in stages[: until + 1]):
        # It is drawn after the images, and has no part in them.
        return drawn.samples[model.primary]
    kept = [", ".join(other for other in stage if other != name) for stage in stages]
    guidance = {other: scale for other, scale in options.guidance.items() if other != name}
    options = dataclasses.replace(options, order=tuple(filter(None, kept)), guidance=guidance)
    generate = experiment.generator(options)
    count = len(drawn.samples[model.primary])
    return generate(drawn.key, params, count, drawn.given)[model.primary]


def _guided_by(experiment: Experiment, params: Any, drawn: Drawn, name: str) -> np.ndarray:
    """Images of other noise, which are given what the model has drawn of a modality."""
    _check_drawn(drawn, name)
    model = experiment.model
    # Of the same noise the embedding would be no draw of its own: it is that of its image.
    key = jax.random.fold_in(drawn.key, 1 + sorted(model.modalities).index(name))
    given = {**drawn.given, name: drawn.samples[name]}
    count = len(drawn.samples[name])
    return experiment.generate(key, params, count, given)[model.primary]


def _check_drawn(drawn: Drawn, name: str) -> None:
    if name not in drawn.samples:
        raise ValueError(f"the samples have no {name!r}")


def _within_class(
    real: RealData, prefix: str, images: np.ndarray, given: Values
) -> Iterator[Figure]:
    """The Fréchet distance within classes, of each label that the data have."""
    for label in real.labels:
        place = f"{prefix}/{label}" if len(real.labels) > 1 else prefix

        def distance(label: str = label) -> float:
            features = real.features(images)
            classes = given.get(label)
            if classes is None:
                classes = real.predict(label, real.primary, images)
            return real.frechet_within_class(label, features, classes)

        yield from figures_of([f"{place}/frechet_within_class"], len(images), distance)
