"""How good values of one modality are that were generated from another."""

from collections.abc import Mapping

import jax.numpy as jnp
import numpy as np

from mmdiffusion_jax import metrics
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


def joint_figures(real: RealData, made: Values) -> dict[str, float]:
    """Figures of samples whose modalities were all generated together.

    Args:
        real: real data, their features and judges.
        made: {name: (n, …)}.

    Returns:
        `frechet` and `frechet_ratio` (over that of training images), `precision` and `recall` of
        the images, for each generated label the agreement of the judges of the other modalities
        with it, and for each embedding its cosine with the image's own.
    """
    images = made[real.primary]
    features = real.features(images)
    frechet = real.frechet(features)
    precision, recall = real.precision_recall(features)
    found = {
        "frechet": frechet,
        "frechet_ratio": frechet / real.floor,
        "precision": precision,
        "recall": recall,
    }
    for label in filter(made.__contains__, real.labels):
        found |= {
            f"{name}_{label}/agreement": real.agreement(label, name, x, made[label])
            for name, x in made.items()
            if real.has_judge(name)
        }
    for name in made:
        if isinstance(real.modalities.get(name), Embedding):
            cosines = _cosines(real.embedder.features(images), made[name])
            found |= {f"{real.primary}_{name}/{key}": value for key, value in cosines.items()}
    return {f"joint/{name}": value for name, value in found.items()}


def conditional_figures(
    real: RealData, source: str, made: Values, truth: Values
) -> dict[str, float]:
    """Figures of everything that was generated from one given modality.

    Args:
        real: real data, their features and judges.
        source: the given modality.
        made: {name: (n, …)}, the generated modalities.
        truth: {column: (n, …)}, what the examples really are, as far as it is known.

    Returns:
        Labels: `accuracy`. Masks: `iou` (the mean over classes) and `pixel_accuracy`, void left
        out. Embeddings: `cosine` with the truth. Images, audio: `agreement` of their judges with
        the labels; images restored from masked ones: `psnr`, `ssim`, by the maps of a small
        classifier the perceptual `distance`, and `lpips` where its weights are given; images of an
        embedding: `cosine`. All named `<name>_given_<source>/…`.
    """
    found: dict[str, float] = {}
    for name, x in made.items():
        kind = real.modalities[name]
        figures: dict[str, float] = {}
        if isinstance(kind, Label) and name in truth:
            figures["accuracy"] = metrics.agreement(x, truth[name])
        elif isinstance(kind, Segmentation) and name in truth:
            counted = metrics.ConfusionStatistics.empty(kind.num_classes)
            counted = counted.update(truth[name], x, void=kind.void)
            figures = {"iou": counted.compute(), "pixel_accuracy": counted.pixel_accuracy()}
        elif isinstance(kind, Embedding) and name in truth:
            figures = _cosines(x, truth[name])
        elif real.has_judge(name):
            for label in real.labels:
                if label in truth:
                    figures["agreement"] = real.agreement(label, name, x, truth[label])
            given = real.modalities.get(source)
            if name == real.primary and isinstance(given, MaskedImage):
                figures |= _restoration(real, x, truth[name])
            if name == real.primary and isinstance(given, Embedding):
                figures |= _cosines(real.embedder.features(x), truth[source])
        found |= {f"{name}_given_{source}/{key}": value for key, value in figures.items()}
    return found


def _restoration(real: RealData, images: np.ndarray, truth: np.ndarray) -> dict[str, float]:
    pair = jnp.asarray(images), jnp.asarray(truth)
    figures = {"psnr": float(jnp.mean(metrics.psnr(*pair)))}
    if min(images.shape[1:3]) >= metrics.SSIM_WINDOW:
        figures["ssim"] = float(jnp.mean(metrics.ssim(*pair)))
    if isinstance(real.network, metrics.SmallClassifier):
        distances = metrics.perceptual_distance(real.network, images, truth)
        figures["distance"] = float(np.mean(distances))
    if real.lpips is not None:
        colour = [np.broadcast_to(x / 127.5 - 1, (*x.shape[:3], 3)) for x in (images, truth)]
        figures["lpips"] = float(np.mean(real.lpips.distance(*colour)))
    return figures


def _cosines(x: np.ndarray, y: np.ndarray) -> dict[str, float]:
    """The mean cosine of pairs of rows, and of all rows that are no pair."""
    pairs, strangers = metrics.CosineStatistics.empty(x.shape[1]).update(x, y).compute()
    return {"cosine": pairs, "cosine_of_strangers": strangers}
