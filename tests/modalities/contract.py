"""What every modality has to keep, as checks of one `Case`: a tiny instance and its truths."""

import dataclasses
import functools
import json
import types
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mmdiffusion_jax.modalities import Features, Modality
from mmdiffusion_jax.model import ModalityFunctions, ModelFunctions, draw

LATENT = (2, 2, 3)
NUM_DRAWS = 8192

# Other values of the fields that no encoder reads.
DECODER_FIELDS = {
    "class_names": tuple("abcde"),
    "is_primary": True,
    "num_levels": 17,
    "num_squares": 2,
    "palette": "camvid",
    "source": "photograph",
    "square_size": 2,
}


@dataclasses.dataclass(frozen=True, eq=False)
class Case:
    """A tiny modality and what is known about it.

    Attributes:
        modality: on `LATENT`.
        x: (3, …), valid examples in data units.
        bad: (values, words of the error) of what `validate` refuses.
        space: (points (n, …), weight of each): Σ weight · p(point) is the integral of p.
        enumerated: the modality whose p is summed over `space`; left out, `modality`.
        temper: makes the head of random features one that real data would have.
        unit_rms: whether E(x) has unit RMS.
        tolerance: of the mean and the variance of the encoding beside the Monte Carlo error.
        bounds_draws: whether draws lie within the bounds of the data.
    """

    modality: Modality
    x: np.ndarray
    bad: tuple[tuple[Any, str], ...]
    space: tuple[np.ndarray, Any]
    enumerated: Modality | None = None
    temper: Callable[[Any], Any] = lambda head: head
    unit_rms: bool = True
    tolerance: float = 1e-5
    bounds_draws: bool = True


def repeated(head, count):
    """The first example's parameters, `count` times."""
    return jax.tree.map(lambda leaf: jnp.repeat(leaf[:1], count, axis=0), head)


def features(rows, columns):
    keys = jax.random.split(jax.random.key(0))
    return Features(
        jax.random.normal(keys[0], (3, rows, columns, 8)), jax.random.normal(keys[1], (3, 8))
    )


@functools.cache
def evaluate(case):
    """Everything the checks look at, compiled once a case."""
    modality = case.modality

    @jax.jit
    def run(x, points):
        both = features(1, 2)
        variables = modality.init(
            jax.random.key(1), x, both, method=lambda m, x, f: (m.encode(x), m.head(f))
        )

        def call(method):
            return functools.partial(modality.apply, variables, method=method)

        head = case.temper(call("head")(both))
        functions = ModalityFunctions(
            encode=call("encode"), log_prob=modality.log_prob, draw=modality.draw
        )
        model = ModelFunctions(lambda z, t: None, {"x": functions}, primary="x")
        many = repeated(head, NUM_DRAWS)
        draws = draw(model, "x", jax.random.split(jax.random.key(2), NUM_DRAWS), many)
        most_likely = modality.most_likely(head)
        several = jax.tree.map(lambda leaf: jnp.stack([leaf, leaf[::-1]]), head)
        judged = {
            "x": (head, x),
            "draws": (many, draws),
            "most_likely": (head, most_likely),
            "reconstructed": (modality.reconstruct(call("encode")(x), head), x),
            "points": (repeated(head, len(points)), points),
            "pooled": (repeated(modality.pool(several), 64), draws[:64]),
            "first": (repeated(head, 64), draws[:64]),
            "last": (repeated(jax.tree.map(lambda leaf: leaf[::-1], head), 64), draws[:64]),
        }
        heads = jax.tree.map(
            lambda *leaves: jnp.concatenate(leaves), *(h for h, _ in judged.values())
        )
        values = jnp.concatenate([x.astype(draws.dtype) for _, x in judged.values()])
        log_probs, backward = jax.vjp(lambda heads: modality.log_prob(heads, values), heads)
        (scores,) = backward(jnp.ones_like(log_probs))
        ends = np.cumsum([len(x) for _, x in judged.values()])[:-1]
        of_draws = slice(ends[0], ends[1])
        return {
            "encoding": call("encode")(x),
            "head": head,
            "expected": call("expected_encoding")(head),
            "variance": call("encoding_variance")(head),
            "draws": draws,
            "codes": call("encode")(draws),
            "most_likely": most_likely,
            "log_prob": dict(zip(judged, jnp.split(log_probs, ends))),
            "scores": jax.tree.map(lambda leaf: leaf[of_draws], scores),
        }

    points = case.x if case.enumerated else case.space[0]
    return types.SimpleNamespace(**run(case.x, points))


def check_shapes_and_kinds(case):
    got, (shape, kind) = evaluate(case), case.modality.columns
    assert case.x.shape == (3, *shape)
    for array in (got.encoding, got.expected, got.variance):
        assert array.shape == (3, *LATENT)
        assert array.dtype == jnp.float32
    for leaf in jax.tree.leaves(got.head):
        assert leaf.shape[0] == 3
    for array in (got.draws[:3], got.most_likely):
        assert array.shape == (3, *shape)
        assert np.issubdtype(array.dtype, getattr(np, kind))
    for name in ("x", "reconstructed", "most_likely"):
        array = got.log_prob[name]
        assert array.shape == (3,)
        assert np.isfinite(array).all()
    assert case.modality.num_dims >= 1


def check_pictures_or_captions(case):
    shown = case.modality.show(case.x)
    assert len(shown) == 3
    if isinstance(shown[0], str):
        assert all(isinstance(caption, str) and caption for caption in shown)
        return
    for picture in shown:
        assert picture.dtype == np.uint8
        assert picture.ndim == 3
        assert picture.shape[2] == 3


def check_encodings_have_unit_rms(case):
    square = (evaluate(case).encoding ** 2).mean((1, 2, 3))
    if case.unit_rms:
        np.testing.assert_allclose(square, 1, rtol=1e-4)
    else:
        assert 0 < square.min() <= square.max() < 3


def check_only_bounded_encodings_lie_within_one(case):
    """Of the examples and of draws, which are thousands."""
    got = evaluate(case)
    codes = [got.encoding, got.codes] if case.bounds_draws else [got.encoding]
    largest = max(np.abs(each).max() for each in codes)
    assert case.modality.is_bounded == (largest <= 1 + 1e-6)


def check_moments_of_the_encoding(case):
    """The stated mean and variance are those of the encodings of draws."""
    got = evaluate(case)
    codes = np.asarray(got.codes, np.float64)
    expected, variance = np.asarray(got.expected[0]), np.asarray(got.variance[0])
    error = 5 * codes.std(0) / np.sqrt(NUM_DRAWS) + case.tolerance
    assert (np.abs(codes.mean(0) - expected) <= error).all()
    squares = (codes - codes.mean(0)) ** 2
    error = 5 * squares.std(0) / np.sqrt(NUM_DRAWS) + case.tolerance
    assert (np.abs(squares.mean(0) - variance) <= error).all()
    assert variance.max() > 0.001, "a test without spread would see nothing"


def check_log_prob_is_normalised(case):
    points, weight = case.space
    if case.enumerated is None:
        log_probs = evaluate(case).log_prob["points"]
    else:
        tiny = case.enumerated

        @jax.jit
        def run(points):
            head, _ = tiny.init_with_output(jax.random.key(1), features(1, 1), method="head")
            return tiny.log_prob(repeated(case.temper(head), len(points)), points)

        log_probs = run(points)
    mass = np.exp(np.asarray(log_probs, np.float64))
    np.testing.assert_allclose(np.sum(weight * mass), 1, rtol=1e-4)


def check_pool_is_the_geometric_mean(case):
    """Up to its normaliser, the same for every x."""
    log_prob = evaluate(case).log_prob
    log_normaliser = np.asarray(log_prob["pooled"] - (log_prob["first"] + log_prob["last"]) / 2)
    assert np.ptp(log_normaliser) < 0.02
    # The mean's own mass is below one: the two it pools differ.
    assert log_normaliser.min() > 0.02


def check_draws_follow_log_prob(case):
    """No draw is likelier than the most likely x, and the mean score of draws is zero.

    E[ d/dθ log p(x) ] = 0 under p, in every parameter of the head.
    """
    got = evaluate(case)
    assert got.log_prob["most_likely"][0] >= got.log_prob["draws"].max() - 1e-4
    for score in jax.tree.leaves(got.scores):
        score = np.asarray(score, np.float64)
        assert np.isfinite(score).all()
        assert score.std() > 1e-3, "a parameter that log p does not feel"
        error = 5 * score.std(0) / np.sqrt(NUM_DRAWS)
        assert (np.abs(score.mean(0)) <= error + 1e-4).all()


def check_values_are_judged(case):
    got = evaluate(case)
    for x in (case.x, got.draws, got.most_likely):
        case.modality.validate("train data, x", np.asarray(x))
    assert case.bad
    for values, words in case.bad:
        with pytest.raises(ValueError, match="`train data, x`: got .*" + words):
            case.modality.validate("train data, x", np.asarray(values))


def check_what_fingerprints_leave_out_changes_no_encoding(case):
    modality = case.modality
    variables = modality.init(jax.random.key(1), case.x, method="encode")
    changed = {name: DECODER_FIELDS[name] for name in modality.decoder_fields}
    other = modality.clone(**changed)
    assert all(getattr(modality, name) != value for name, value in changed.items())
    np.testing.assert_array_equal(
        modality.apply(variables, case.x, method="encode"),
        other.apply(variables, case.x, method="encode"),
    )
    assert modality.encoder_fields == other.encoder_fields
    assert json.loads(json.dumps(modality.encoder_fields)).keys() == modality.encoder_fields.keys()


def check_right_values_have_the_best_figures(case):
    """Every figure that is declared is measured, and values in another order fare worse."""
    secondary = case.modality
    primary = secondary.clone(is_primary=True)
    given = types.SimpleNamespace(is_partial_view=True)
    measures = [*primary.measures(given), *secondary.measures(given)]
    joint = secondary.measures_of_primary
    assert {name for each in (*measures, *joint) for name in each.names} == set(secondary.figures)
    networks = types.SimpleNamespace(network=None, lpips=None)
    for measure in measures:
        try:
            right, wrong = (
                np.atleast_1d(measure.compute(x, case.x, networks))
                for x in (case.x, np.roll(case.x, 1, axis=0))
            )
        except ValueError:  # such small values, or no network
            continue
        for name, best, worse in zip(measure.names, right, wrong, strict=True):
            higher_is_better = secondary.figures[name]
            assert higher_is_better is None or (best > worse) == higher_is_better


CHECKS = (
    check_shapes_and_kinds,
    check_pictures_or_captions,
    check_encodings_have_unit_rms,
    check_only_bounded_encodings_lie_within_one,
    check_moments_of_the_encoding,
    check_log_prob_is_normalised,
    check_pool_is_the_geometric_mean,
    check_draws_follow_log_prob,
    check_values_are_judged,
    check_what_fingerprints_leave_out_changes_no_encoding,
    check_right_values_have_the_best_figures,
)
