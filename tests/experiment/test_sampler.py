"""Batches: an example is its own, whatever is drawn beside it."""

import contextlib
import dataclasses
import logging
import warnings

import jax
import numpy as np
import pytest

from configs import smoke
from mmdiffusion_jax import experiment, process, sampling
from mmdiffusion_jax.experiment import SamplingOptions


@pytest.fixture(scope="module")
def small():

    config = smoke.get_config()
    config.process.num_steps = 8
    config.backbone.width, config.backbone.depth = 16, 1
    config.loss.dropout = {"label": 0.1}
    built = experiment.build(config)
    params = jax.jit(built.init)(jax.random.key(0))
    # What is shown begins with weights of zero, as if it were not there.
    noise = np.random.default_rng(0).normal
    return built, jax.tree.map(lambda leaf: leaf + 0.05 * noise(size=leaf.shape), params)


@pytest.fixture(scope="module")
def draw(small):
    """Draws with a generator of these options, compiled once for all tests."""
    generators = {}

    def draw(count=6, given=None, first=0, **options):
        built, params = small
        key = repr(sorted(options.items()))
        if key not in generators:
            generators[key] = built.generator(SamplingOptions(**options))
        return generators[key](jax.random.key(3), params, count, given, first)

    return draw


def close(ours, theirs):
    """Equal but for the round-off of matrix products of another size."""
    np.testing.assert_allclose(ours["image"].astype(int), theirs["image"].astype(int), atol=1)
    np.testing.assert_array_equal(ours["label"], theirs["label"])


@pytest.mark.parametrize("options", [{}, {"sampler": "dpm_solver_pp", "num_steps": 5}])
def test_an_example_does_not_depend_on_its_batch(draw, options):
    whole = draw(**options)
    close(draw(batch_size=4, **options), whole)
    late = draw(2, first=3, batch_size=4, **options)
    close(late, {name: x[3:5] for name, x in whole.items()})
    assert len(np.unique(whole["image"], axis=0)) == 6


def test_given_values_go_with_their_examples(draw):
    labels = np.array([3, 1, 4, 1, 5, 9], np.int32)
    whole = draw(6, {"label": labels})
    np.testing.assert_array_equal(whole["label"], labels)
    late = draw(2, {"label": labels[2:4]}, first=2, batch_size=4)
    close(late, {name: x[2:4] for name, x in whole.items()})


def test_examples_beyond_32_bits_are_new_ones(draw):
    """Number 2³² + k has another key than number k, and a batch may lie across 2³²."""
    first = draw(2, batch_size=4)["image"]
    late = draw(4, first=2**32 - 2, batch_size=4)["image"]
    assert len(np.unique(np.concatenate([first, late]), axis=0)) == 6
    close(
        draw(2, first=2**32, batch_size=4),
        {name: x[2:] for name, x in draw(4, first=2**32 - 2, batch_size=4).items()},
    )


def test_a_value_repeated_by_broadcasting_is_checked_once(small):
    built, _ = small
    for value, words in ((10, "got label 10, expected labels in 0"), (3, None)):
        given = {"label": np.broadcast_to(np.int32(value), (10**11,))}
        with contextlib.ExitStack() as stack:
            if words:
                stack.enter_context(pytest.raises(ValueError, match=words))
            built.generate.check(10**11, given)


def test_every_given_value_of_a_long_file_is_checked(small):
    built, _ = small
    labels = np.zeros(250_000, np.int32)
    labels[-1] = 10
    with pytest.raises(ValueError, match="got label 10"):
        built.generate.check(len(labels), {"label": labels})


def test_guidance_without_effect_is_none_bit_for_bit(draw):
    given = {"label": np.array([3, 1, 4, 1, 5, 9], np.int32)}
    plain = draw(given=given)["image"]
    for nothing in (
        {"guidance": {"label": 1.0}, "guidance_rescale": 0.7, "guidance_interval": (0.1, 2.0)},
        {"decoder_guidance": {"label": 0.0}},
    ):
        np.testing.assert_array_equal(draw(given=given, **nothing)["image"], plain)
    guided = draw(given=given, guidance={"label": 3.0})
    assert (guided["image"] != plain).any()


def test_heads_guide_where_their_modality_is_given(draw):
    options = {"decoder_guidance": {"label": 1.0}}
    np.testing.assert_array_equal(draw(2, **options)["image"], draw(2)["image"])
    given = {"label": np.array([3, 1], np.int32)}
    guided = draw(2, given, **options)["image"]
    assert (guided != draw(2, given)["image"]).any()
    limited = draw(2, given, guidance_limit=1e-6, **options)["image"]
    assert (limited != guided).any()


def test_states_of_a_known_image_are_read_at_low_noise_alone(small, monkeypatch):
    """Of a network that is not shown the image; where it is, there are no such states."""
    built, params = small
    blind = dataclasses.replace(built, model=built.model.clone(shows=()))
    visited = []

    def record(*, method, **others):
        visited.append(np.asarray(method.times).tolist())
        return {"image": np.zeros((2, 8, 8, 1)), "label": np.zeros(2)}

    monkeypatch.setattr(sampling, "sample", record)
    # A cosine schedule has σ = tan(angle), angles even in t: of eight steps about 0.2 a step.
    generate = blind.generator(SamplingOptions(read_noise=0.5))
    generate(jax.random.key(0), params, 2, {"image": np.zeros((2, 8, 8, 1), np.uint8)})
    generate(jax.random.key(0), params, 2, {"label": np.zeros(2, np.int32)})
    generate = built.generator(SamplingOptions(read_noise=0.5))
    generate(jax.random.key(0), params, 2, {"image": np.zeros((2, 8, 8, 1), np.uint8)})
    assert visited == [[2, 1], [8, 7, 6, 5, 4, 3, 2, 1], [8, 7, 6, 5, 4, 3, 2, 1]]
    with pytest.raises(ValueError, match=r"`sampling.read_noise`: got 0.01, expected 0.2\d*, the"):
        built.generator(SamplingOptions(read_noise=0.01))


def test_weights_that_do_not_end_are_warned_of_once(small, caplog):
    """By the sampling floor alone, however many batches there are: ½ w̄² dims, of 64 dims."""
    built, params = small
    weights = process.modality_weights(built.process.schedule, {"label": "constant"})
    forward = process.Process(built.process.schedule, weights)
    options = SamplingOptions(batch_size=2, num_steps=2, order=("image, label",))
    generate = dataclasses.replace(built, process=forward).generator(options)
    with warnings.catch_warnings(record=True) as caught, caplog.at_level(logging.WARNING):
        warnings.simplefilter("always")
        generate(jax.random.key(0), params, 4)
        generate(jax.random.key(1), params, 2)
    assert [str(x.message)[:57] for x in caught] == [
        "The weights of 'label' leave about 32.0 nats in the last "
    ]
    assert "nats" not in caplog.text


def test_guidance_with_a_given_image_is_said_to_have_no_effect(draw, caplog):
    given = {"image": np.zeros((2, 8, 8, 1), np.uint8)}
    with caplog.at_level(logging.WARNING):
        guided = draw(2, given, guidance={"label": 2.0})
    assert "Guidance has no effect: 'image' is given" in caplog.text
    np.testing.assert_array_equal(guided["label"], draw(2, given)["label"])


def test_guidance_of_a_modality_that_was_never_left_out(small):
    built, params = small
    options = SamplingOptions(guidance={"label": 2.0})
    never = dataclasses.replace(built, model=built.model.clone(droppable=()))
    generate = never.generator(options)
    with pytest.raises(ValueError, match="'label', which training never dropped"):
        generate(jax.random.key(0), params, 2)


@pytest.mark.parametrize(
    ("count", "given", "options", "words"),
    [
        (0, {}, {}, "`num_samples`: got 0"),
        (2, {"labl": np.zeros(2, np.int32)}, {}, "`given`: got 'labl'.*did you mean 'label'"),
        (2, {"label": np.zeros(3, np.int32)}, {}, r"`given label`: got shape \(3,\)"),
        (2, {"label": np.zeros(2)}, {}, "`given label`: got .*float64"),
        (2, {"label": np.array([1, 10])}, {}, "got label 10, expected labels in 0 … 9"),
        (2, {"image": np.zeros((2, 8, 8), np.uint8)}, {}, r"`given image`: got shape \(2, 8, 8\)"),
        (
            2,
            {"image": np.zeros((2, 8, 8, 1), np.uint8), "label": np.zeros(2, np.int32)},
            {},
            "at least one modality left to generate",
        ),
        (2, {}, {"num_steps": 9}, "`num_steps`: got 9, expected a whole number in 1 … 8"),
        (2, {}, {"guidance": {"image": 2.0}}, "`guidance`: got 'image', expected one of 'label'"),
        (2, {}, {"estimate": "moments", "sampler": "ddim"}, "`estimate`: got 'moments' with DDIM"),
    ],
)
def test_bad_requests(draw, count, given, options, words):
    with pytest.raises(ValueError, match=words):
        draw(count, given, **options)
