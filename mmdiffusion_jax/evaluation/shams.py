"""A test of the judges: do they tell real images from such as nobody would take for real?"""

import dataclasses
import functools
from collections.abc import Callable, Iterator, Mapping

import numpy as np

from mmdiffusion_jax.evaluation.figure import Figure, figures_of, values_of
from mmdiffusion_jax.evaluation.joint import judge_figures
from mmdiffusion_jax.evaluation.real import RealData

LEAST_ACCURACY = 0.8
"""A judge of labels that is right less often on real test examples says little about samples."""

_WORDS = {
    "blurred": "blurred images",
    "noisy": "noisy images",
    "shuffled": "images with their pixels in random order",
    "means": "means of two images",
    "one_class": "images of one class",
}
_FIGURES = ("frechet_ratio", "precision", "recall")
_NOISE = 25.0  # of 255
_MOST = 1000
_SEED = 0

Sham = Callable[[np.random.Generator, np.ndarray], np.ndarray]


def _blurred(rng: np.random.Generator, images: np.ndarray) -> np.ndarray:
    from scipy import ndimage

    width = max(1.0, min(images.shape[1:3]) / 32)
    return ndimage.gaussian_filter(images, (0, width, width, 0))


def _noisy(rng: np.random.Generator, images: np.ndarray) -> np.ndarray:
    return images + _NOISE * rng.normal(size=images.shape)


def _shuffled(rng: np.random.Generator, images: np.ndarray) -> np.ndarray:
    pixels = images.reshape(len(images), -1, images.shape[-1])
    order = rng.random(pixels.shape[:2]).argsort(axis=1)
    return np.take_along_axis(pixels, order[..., None], axis=1).reshape(images.shape)


def _means(rng: np.random.Generator, images: np.ndarray) -> np.ndarray:
    return (images + np.roll(images, 1, axis=0)) / 2


SHAMS: Mapping[str, Sham] = {
    "blurred": _blurred,
    "noisy": _noisy,
    "shuffled": _shuffled,
    "means": _means,
}
"""What is made of real images: a Gaussian blur of 1/32 of the side and one pixel at least, noise of
a tenth of the range, pixels in random order, and the mean of two images."""


def sham_figures(real: RealData) -> Iterator[Figure]:
    """Fréchet ratio, precision and recall of shams, and of the real images that they are made of.

    As many training images as there are test images, at most 1,000, are judged as samples are: as
    they are (`real`), as each of `SHAMS`, and at most as many images of one class (`one_class`).
    The ratio is the Fréchet distance over that of as many of `real`.

    Yields:
        `sham/<name>/frechet_ratio`, `…/precision` and `…/recall`.
    """
    rng = np.random.default_rng(_SEED)
    (train,) = real.train_of(real.primary)
    count = min(len(train), len(real.test_of(real.primary)[0]), _MOST)
    if not count:
        return
    images = rng.permutation(train)[:count]
    shams = {"real": images}
    # Images without an axis of channels have one.
    floats = images.reshape(*images.shape[:3], -1).astype(np.float64)
    for name, sham in SHAMS.items():
        changed = sham(rng, floats).round().clip(0, 255).astype(np.uint8)
        shams[name] = changed.reshape(images.shape)
    for label in real.labels[:1]:
        labelled, labels = real.train_of(real.primary, label)
        if labels.ndim == 1 and len(labels):
            shams["one_class"] = labelled[labels == np.argmax(np.bincount(labels))][:count]
    of_real = functools.cache(lambda: real.features(images))
    floor = functools.cache(lambda num_images: real.frechet(of_real()[:num_images]))

    def values(name: str) -> tuple[float, float, float]:
        features = of_real() if name == "real" else real.features(shams[name])
        if not floor(count):
            raise ValueError("there are no real images, or none but those of the test split")
        return (real.frechet(features) / floor(len(features)), *real.precision_recall(features))

    for name, x in shams.items():
        names = [f"sham/{name}/{figure}" for figure in _FIGURES]
        yield from figures_of(names, len(x), functools.partial(values, name))


@dataclasses.dataclass(frozen=True)
class ShamTest:
    """What the judges of an evaluation make of real images and of shams.

    Attributes:
        features: the name of the features.
        figures: {name: value} of `sham_figures` and of `judge_figures`.

    Example:
        >>> print(ShamTest("pixels", {"judge/image_label/accuracy": 0.55}).report())
        Warning: the judge image_label is right in 0.55 of real test examples: agreements by it ...
    """

    features: str
    figures: Mapping[str, float]

    @property
    def warnings(self) -> list[str]:
        """What is wrong with the judges, a sentence each; with nothing, they can be relied on.

        Shams must be farther from the test images than real ones, those of `SHAMS` must have a
        lower precision and images of one class a lower recall, and judges of labels must be right
        in `LEAST_ACCURACY` of real test examples.
        """
        return [*self._of_features(), *self._of_labels()]

    def _of_features(self) -> Iterator[str]:
        figures = self.figures
        for name, images in _WORDS.items():
            if f"sham/{name}/frechet_ratio" not in figures:
                continue
            subject = f"by the features {self.features}, {images}"
            if (ratio := figures[f"sham/{name}/frechet_ratio"]) <= 1:
                yield (
                    f"{subject} are {ratio:.2f} times as far from test images as real ones: the"
                    " Fréchet distance says little here"
                )
            figure = "recall" if name == "one_class" else "precision"
            value, real = (figures[f"sham/{each}/{figure}"] for each in (name, "real"))
            if value >= real:
                yield (
                    f"{subject} have a {figure} of {value:.2f}, real ones {real:.2f}: {figure} says"
                    " little here"
                )

    def _of_labels(self) -> Iterator[str]:
        for name, value in self.figures.items():
            if name.startswith("judge/") and value < LEAST_ACCURACY:
                yield (
                    f"the judge {name.split('/')[1]} is right in {value:.2f} of real test examples:"
                    " agreements by it say little"
                )

    def table(self) -> str:
        """A table of the shams in Markdown, or nothing where there are none."""
        names = [name for name in ("real", *_WORDS) if f"sham/{name}/recall" in self.figures]
        if not names:
            return ""
        lines = [f"| features: {self.features} | {' | '.join(_FIGURES)} |"]
        lines += ["|---|" + "---:|" * len(_FIGURES)]
        for name in names:
            values = (f"{self.figures[f'sham/{name}/{figure}']:.3f}" for figure in _FIGURES)
            lines.append(f"| {_WORDS.get(name, 'real images')} | {' | '.join(values)} |")
        return "\n".join(lines)

    def report(self) -> str:
        """The warnings, and the table of the shams where there are any, in Markdown."""
        warnings = "\n".join(f"Warning: {warning}." for warning in self.warnings)
        return f"{warnings}\n\n{self.table()}".strip()


def sham_test(real: RealData) -> ShamTest:
    """Tries the features and the judges of an evaluation; `ShamTest.warnings` says what fails.

    Where the features are those of a classifier and the data have no classes for it, their name is
    "none".

    Raises:
        ValueError: features or weights from files that do not take the images.
    """
    figures = values_of([*judge_figures(real), *sham_figures(real)])
    return ShamTest(real.features_if_any, figures)
