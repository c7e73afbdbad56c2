"""How good values of one modality are that were generated from another."""

import functools
from collections.abc import Callable, Iterator, Mapping

import jax
import jax.numpy as jnp
import numpy as np

from mmdiffusion_jax import data, metrics
from mmdiffusion_jax.evaluation.figure import Figure, figures_of, left_out
from mmdiffusion_jax.evaluation.real import RealData
from mmdiffusion_jax.modalities import Embedding, Label, MaskedImage, Segmentation

Values = Mapping[str, np.ndarray]

HIGHER_IS_BETTER: Mapping[str, bool | None] = {
    "accuracy": True,
    "agreement": True,
    "cosine": True,
    "cosine_of_strangers": None,
    "distance": False,
    "frechet": False,
    "frechet_ratio": False,
    "iou": True,
    "lpips": False,
    "pixel_accuracy": True,
    "precision": True,
    "psnr": True,
    "recall": True,
    "ssim": True,
}
"""Which way the figures of samples go, by the last part of their names; None is neither way."""


def judge_figures(real: RealData) -> Iterator[Figure]:
    """How often each judge is right on the test examples that have what it reads and what is true.

    Args:
        real: real data, their features and judges.

    Yields:
        `judge/<name>_<label>/accuracy`.
    """
    for label in real.labels:
        for name in filter(real.has_judge, real.modalities):
            values, labels = real.test_of(name, label)
            accuracy = functools.partial(real.agreement, label, name, values, labels)
            yield from figures_of([f"judge/{name}_{label}/accuracy"], len(labels), accuracy)


def joint_figures(real: RealData, samples: Values) -> Iterator[Figure]:
    """Figures of samples whose modalities were all generated together.

    Args:
        real: real data, their features and judges.
        samples: {name: (n, …)}.

    Yields:
        `frechet` and `frechet_ratio` (over that of training images), `precision` and `recall` of
        the images, for each generated label the agreement of the judges of the other modalities
        with it, and for each embedding its cosine with the image's own. All are named `joint/…`.
    """
    images = samples[real.primary]
    count = len(images)
    try:
        features = real.features(images)
    except ValueError as error:
        names = ("frechet", "frechet_ratio", "precision", "recall")
        yield from left_out((f"joint/{name}" for name in names), str(error))
    else:
        (frechet,) = figures_of(["joint/frechet"], count, lambda: real.frechet(features))
        yield frechet
        if frechet.value is None:
            yield from left_out(["joint/frechet_ratio"], frechet.reason)
        else:
            ratio = functools.partial(real.frechet_ratio, frechet.value)
            yield from figures_of(["joint/frechet_ratio"], count, ratio)
        pair = ("joint/precision", "joint/recall")
        yield from figures_of(pair, count, lambda: real.precision_recall(features))
    for label in filter(samples.__contains__, real.labels):
        for name, x in samples.items():
            if real.has_judge(name):
                agreement = functools.partial(real.agreement, label, name, x, samples[label])
                yield from figures_of([f"joint/{name}_{label}/agreement"], count, agreement)
    for name, x in samples.items():
        if isinstance(real.modalities.get(name), Embedding):
            yield from _cosines(
                f"joint/{real.primary}_{name}", functools.partial(real.embed, images), x
            )


def conditional_figures(
    real: RealData, source: str, samples: Values, truth: Values
) -> Iterator[Figure]:
    """Figures of everything that was generated from one given modality.

    Args:
        real: real data, their features and judges.
        source: the given modality.
        samples: {name: (n, …)}, the generated modalities.
        truth: {column: (n, …)}, what the examples really are, as far as it is known, with the masks
            `<name>_present`: where the truth is absent nothing counts.

    Yields:
        Labels: `accuracy`. Masks: `iou` (the mean over classes) and `pixel_accuracy`, void left
        out. Embeddings: `cosine` with the truth. Images, audio: `agreement` of their judges with
        the labels; images restored from masked ones: `psnr`, `ssim`, by the maps of a small
        classifier the perceptual `distance`, and `lpips` where its weights are given; images of an
        embedding: `cosine`. All named `<name>_given_<source>/…`; of several labels
        `<name>_given_<source>/<label>/agreement`.
    """
    for name, x in samples.items():
        kind, prefix = real.modalities[name], f"{name}_given_{source}"
        if name in truth:
            rows = data.present(truth, [name])
            pair = x[rows], truth[name][rows]
        if isinstance(kind, Label) and name in truth:
            right = functools.partial(metrics.agreement, *pair)
            yield from figures_of([f"{prefix}/accuracy"], len(pair[0]), right)
        elif isinstance(kind, Segmentation) and name in truth:
            overlap = functools.partial(_overlap, kind, *pair)
            names = (f"{prefix}/iou", f"{prefix}/pixel_accuracy")
            yield from figures_of(names, len(pair[0]), overlap)
        elif isinstance(kind, Embedding) and name in truth:
            yield from _cosines(prefix, functools.partial(np.asarray, pair[0]), pair[1])
        elif real.has_judge(name):
            labels = [label for label in real.labels if label in truth]
            for label in labels:
                rows = data.present(truth, [label])
                agreement = functools.partial(
                    real.agreement, label, name, x[rows], truth[label][rows]
                )
                place = f"{prefix}/{label}" if len(labels) > 1 else prefix
                yield from figures_of([f"{place}/agreement"], int(rows.sum()), agreement)
            given = real.modalities.get(source)
            if name == real.primary and isinstance(given, MaskedImage) and name in truth:
                yield from _restoration(prefix, real, *pair)
            if name == real.primary and isinstance(given, Embedding):
                yield from _cosines(prefix, functools.partial(real.embed, x), truth[source])


def _overlap(kind: Segmentation, x: np.ndarray, truth: np.ndarray) -> tuple[float, float]:
    counted = metrics.ConfusionStatistics.empty(kind.num_classes)
    counted = counted.update(truth, x, void=kind.void)
    return counted.compute(), counted.pixel_accuracy()


def _restoration(
    prefix: str, real: RealData, images: np.ndarray, truth: np.ndarray
) -> Iterator[Figure]:
    pair, count = (jnp.asarray(images), jnp.asarray(truth)), len(images)
    distances: dict[str, Callable[[], jax.Array | np.ndarray]] = {
        "psnr": lambda: metrics.psnr(*pair, data_range=255.0),
        "ssim": lambda: metrics.ssim(*pair, data_range=255.0),
    }
    network, lpips = real.network, real.lpips
    if isinstance(network, metrics.SmallClassifier):
        distances["distance"] = lambda: metrics.perceptual_distance(network, images, truth)
    if lpips is not None:
        distances["lpips"] = lambda: lpips.distance(images / 127.5 - 1, truth / 127.5 - 1)
    for name, distance in distances.items():
        mean = lambda distance=distance: float(np.mean(distance()))  # noqa: E731
        yield from figures_of([f"{prefix}/{name}"], count, mean)


def _cosines(prefix: str, x: Callable[[], np.ndarray], y: np.ndarray) -> Iterator[Figure]:
    """The mean cosine of pairs of rows, and of all rows that are no pair."""

    def cosines() -> tuple[float, float]:
        return metrics.CosineStatistics.empty(y.shape[1]).update(x(), y).compute()

    names = (f"{prefix}/cosine", f"{prefix}/cosine_of_strangers")
    yield from figures_of(names, len(y), cosines)
