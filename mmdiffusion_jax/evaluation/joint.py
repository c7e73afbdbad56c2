"""Figures of samples whose modalities were all generated together, and of the judges."""

import functools
from collections.abc import Iterator, Mapping

import numpy as np

from mmdiffusion_jax.evaluation.figure import Figure, figures_of, left_out, measured
from mmdiffusion_jax.evaluation.real import RealData


def judge_figures(real: RealData) -> Iterator[Figure]:
    """The accuracy of each judge on the test examples that have its modality and its label.

    Yields:
        `judge/<name>_<label>/accuracy`.
    """
    for label in real.labels:
        for name, modality in real.modalities.items():
            if modality.shows_labels:
                _, labels = real.judged(label, name)
                accuracy = functools.partial(real.judge_accuracy, label, name)
                yield from figures_of([f"judge/{name}_{label}/accuracy"], len(labels), accuracy)


def joint_figures(real: RealData, samples: Mapping[str, np.ndarray]) -> Iterator[Figure]:
    """Figures of samples {name: (n, …)} whose modalities were all generated together.

    Yields:
        `frechet` and `frechet_ratio` (over that of as many training images), `precision` and
        `recall` of the images, for each generated label the agreement of the judges of the other
        modalities with it, and `Modality.measures_of_primary` of each modality, such as an
        embedding's cosine with the image's own. All are named `joint/…`.
    """
    images = samples[real.primary]
    count = len(images)
    yield from image_figures(real, "joint", images)
    for label in filter(samples.__contains__, real.labels):
        for name, x in samples.items():
            if real.modalities[name].shows_labels:
                agreement = functools.partial(real.agreement, label, name, x, samples[label])
                yield from figures_of([f"joint/{name}_{label}/agreement"], count, agreement)
    for name, x in samples.items():
        measures = real.modalities[name].measures_of_primary
        yield from measured(f"joint/{real.primary}_{name}", measures, images, x, real)


def image_figures(real: RealData, prefix: str, images: np.ndarray) -> Iterator[Figure]:
    """Figures of generated images (n, …) beside the real ones.

    Yields:
        `<prefix>/frechet` and `…/frechet_ratio` (over that of as many training images),
        `…/precision` and `…/recall`.
    """
    frechet_name, ratio_name, *pair = (
        f"{prefix}/{name}" for name in ("frechet", "frechet_ratio", "precision", "recall")
    )
    count = len(images)
    try:
        features = real.features(images)
    except ValueError as error:
        yield from left_out((frechet_name, ratio_name, *pair), str(error))
        return
    (frechet,) = figures_of([frechet_name], count, lambda: real.frechet(features))
    yield frechet
    if frechet.value is None:
        yield from left_out([ratio_name], frechet.reason)
    else:
        ratio = functools.partial(real.frechet_ratio, features)
        yield from figures_of([ratio_name], min(count, real.most_for_floor), ratio)
    compared = len(real.comparable(features))
    yield from figures_of(pair, compared, lambda: real.precision_recall(features))
