"""Images with an embedding, without it and guided by it, beside the same queries by hand."""

import dataclasses
import itertools
import types

import jax
import numpy as np
import pytest

from mmdiffusion_jax import data, experiment
from mmdiffusion_jax.evaluation import Drawn, embedding_figures, evaluate, image_figures, values_of
from tests.apps.small import smoke_config
from tests.evaluation.conftest import real_data
from tests.evaluation.test_left_out import reasons_of

NAMES = ("image", "label", "embedding")
COUNT = 40


@pytest.fixture(scope="module")
def built():
    """An experiment on all three with parameters that are drawn at random."""
    config = smoke_config()
    config.modalities.embedding = {"kind": "embedding", "dims": 5, "head_kind": "cosine"}
    config.process.weights.embedding = {"rule": "bump", "scale": 1.0}
    config.sampling.num_steps = 3
    config.evaluation.num_samples, config.evaluation.num_scored = COUNT, 0
    instance = experiment.build(config)
    params = jax.jit(instance.init)(jax.random.key(0))
    # Layers that begin with zeros would have everything ignored.
    leaves, tree = jax.tree.flatten(params)
    keys = jax.random.split(jax.random.key(1), len(leaves))
    drawn = [x + 0.3 * jax.random.normal(key, x.shape) for key, x in zip(keys, leaves, strict=True)]
    return instance, jax.tree.unflatten(tree, drawn)


@pytest.fixture(scope="module")
def real(digits):
    columns, modalities = digits
    return real_data(columns, {name: modalities[name] for name in NAMES})


def with_sampling(instance, **options):
    settings = dataclasses.replace(
        instance.settings, sampling=dataclasses.replace(instance.sampling, **options)
    )
    return dataclasses.replace(instance, settings=settings)


def figures_of(real, instance, params, samples, given=None, key=0):
    drawn = Drawn("joint", jax.random.key(key), samples, given or {})
    return list(embedding_figures(real, instance, params, drawn))


def names_of(prefix):
    images = ("frechet", "frechet_ratio", "precision", "recall", "frechet_within_class")
    return {f"{prefix}/frechet_within_class"} | {
        f"{prefix}/{way}_embedding/{name}" for way in ("without", "guided_by") for name in images
    }


def test_classes_that_are_moved_are_as_far_as_they_are_moved(real):
    """Each class by a vector of its own: the mean of their squared lengths."""
    images, labels = real.test_of("image", "label")
    features = real.features(images)
    shifts = np.random.default_rng(0).normal(size=(10, features.shape[1]))
    moved = features + shifts[labels]
    want = np.mean(np.sum(shifts**2, axis=1))
    assert real.frechet_within_class("label", moved, labels) == pytest.approx(want, rel=1e-6)
    assert real.frechet_within_class("label", features, labels) == pytest.approx(0, abs=1e-6)
    others = real.frechet_within_class("label", features, np.roll(labels, 7))
    assert others > 1


@pytest.mark.parametrize(
    ("order", "left"),
    [
        ((), ("label", "image")),
        (("embedding, image", "label"), ("image", "label")),
        pytest.param(("embedding", "image"), ("image",), marks=pytest.mark.long),
        pytest.param(("label", "embedding", "image"), ("label", "image"), marks=pytest.mark.long),
    ],
)
def test_without_is_a_query_that_does_not_ask_for_it(real, built, order, left):
    """Where the embedding is drawn after the image, the images are those of the samples."""
    instance, params = with_sampling(built[0], order=order), built[1]
    key = jax.random.key(3)
    samples = instance.generate(key, params, COUNT)
    figures = values_of(figures_of(real, instance, params, samples, key=3))
    images = with_sampling(instance, order=left).generate(key, params, COUNT)["image"]
    for figure in image_figures(real, "joint/without_embedding", images):
        assert figures[figure.name] == figure.value
    is_same = np.array_equal(images, samples["image"])
    assert is_same == (not order)


def test_guided_by_gives_the_embedding_that_was_drawn(real, built):
    """Every scale has its images; those without guidance are of the plain query."""
    instance, params = built
    samples = instance.generate(jax.random.key(0), params, COUNT)
    values = {}
    for scale in (1.0, 3.0):
        guided = with_sampling(instance, guidance={"embedding": scale})
        values[scale] = values_of(figures_of(real, guided, params, samples))
        key = jax.random.fold_in(jax.random.key(0), 1 + sorted(NAMES).index("embedding"))
        given = {"embedding": samples["embedding"]}
        images = guided.generate(key, params, COUNT, given)["image"]
        for figure in image_figures(real, "joint/guided_by_embedding", images):
            assert values[scale][figure.name] == figure.value
    name = "joint/guided_by_embedding/frechet"
    assert values[1.0][name] != values[3.0][name]
    # What is left out of the query cannot guide.
    name = "joint/without_embedding/frechet"
    assert values[1.0][name] == values[3.0][name]


def test_an_evaluation_has_them_jointly_and_of_labels(real, built, digits):
    instance, params = built
    columns = {name: digits[0][name] for name in NAMES}
    splits = [
        data.ArraySource({name: x[rows] for name, x in columns.items()})
        for rows in (slice(400), slice(400, None))
    ]
    figures = list(evaluate(instance, params, *splits, real))
    names = {figure.name for figure in figures}
    assert names_of("joint") | names_of("image_given_label") <= names
    assert "image_given_embedding/frechet_within_class" not in names
    # The classes are given there, whatever a judge would say of the images.
    assert "image_given_label/frechet_within_class" in values_of(figures)


def test_no_embedding_no_figures(real, built):
    instance, params = built
    modalities = {name: instance.model.modalities[name] for name in ("image", "label")}
    instance = dataclasses.replace(instance, model=instance.model.clone(modalities=modalities))
    assert figures_of(real, instance, params, {"image": real.test["image"]}) == []


def test_reasons(real, built):
    instance, params = built
    images = {"image": real.test["image"][:COUNT]}
    reasons = reasons_of(figures_of(real, instance, params, images))
    assert reasons["joint/without_embedding"] == "the samples have no 'embedding'"
    assert reasons["joint/guided_by_embedding"] == "the samples have no 'embedding'"
    few = {"image": real.test["image"][:3]}
    reasons = reasons_of(figures_of(real, instance, params, few, {"label": np.array([0, 0, 1])}))
    assert "got 1 images of the class 1 beside" in reasons["joint/frechet_within_class"]
    separate = types.SimpleNamespace(
        model=instance.model, formulation=types.SimpleNamespace(has_bound=False)
    )
    drawn = Drawn("joint", jax.random.key(0), {**images, "embedding": np.ones((COUNT, 5))})
    _, figure, *_ = itertools.islice(embedding_figures(real, separate, params, drawn), 2)
    assert figure.reason == "this formulation generates all modalities together"
