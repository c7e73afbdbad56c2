"""Guidance against formulas by hand, on worlds whose conditional means are known exactly."""

import dataclasses
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mmdiffusion_jax import sampling
from mmdiffusion_jax.model import query_roles
from mmdiffusion_jax.model.showing import shown_at
from mmdiffusion_jax.sampling.guidance.options import GuidanceOptions
from tests.linear_world import LinearWorld
from tests.mixture_world import CENTRES, SPREAD, TABLE, MixtureWorld

STEPS = 80
TIMES = jnp.asarray([2, 20, 30, 40, 60, 75])


@pytest.fixture(autouse=True)
def _float64():
    with jax.enable_x64(True):
        yield


def query_of(world, model=None, **given):
    """A query, and the denoiser that guidance decorates."""
    diffusion = world.diffusion(model)
    encodings = {name: diffusion.model.modalities[name].encode(x) for name, x in given.items()}
    query = sampling.Query(diffusion, given, encodings)
    return query, sampling.plain_denoiser(query)


def roles_of(query, **carried):
    names = query.diffusion.model.modalities
    carries = [name for name in names if carried.get(name, True)]
    return query_roles(names, len(TIMES), query.given, carries)


def states(seed=0):
    return jnp.asarray(np.random.default_rng(seed).normal(size=(len(TIMES), 2)))


def clean_of_clusters(world, z_t, carried):
    """E[z_0 | z_t] and p(k | z_t) by Bayes' rule over the clusters."""
    t, z_t = np.asarray(TIMES), np.asarray(z_t)[:, None]
    bar, noise = (
        np.asarray(table)[t][:, None] for table in (world.schedule.alpha_bar,
        world.schedule.noise_variance)
    )  # fmt: skip
    drift = carried * np.asarray(world.process.weights.marginal["label"])[t][:, None, None] * TABLE
    variance = bar * SPREAD**2 + noise
    residual = z_t - np.sqrt(bar)[:, :, None] * CENTRES - drift
    p = world.probabilities * np.exp(-0.5 * (residual**2).sum(-1) / variance)
    p /= p.sum(1, keepdims=True)
    gain = np.sqrt(bar) * SPREAD**2 / variance
    return np.einsum("bk,bkd->bd", p, CENTRES + gain[:, :, None] * residual), p


@pytest.mark.parametrize("known", [True, False])
@pytest.mark.parametrize("scale", [0.0, 2.5])
def test_classifier_free_by_hand(scale, known):
    world, z_t = MixtureWorld(STEPS, probabilities=(0.5, 0.3, 0.2)), states()
    labels = np.arange(len(TIMES)) % 3
    query, plain = query_of(world, **({"label": jnp.asarray(labels)} if known else {}))
    decorate = sampling.classifier_free_guidance("label", scale)
    got = decorate(plain, query)(TIMES, z_t, roles_of(query, label=1))
    present, p = clean_of_clusters(world, z_t, 1)
    encoding = TABLE[labels] if known else p @ TABLE
    drift = (
        np.asarray(world.process.weights.marginal["label"])[np.asarray(TIMES)][:, None] * encoding
    )
    absent, _ = clean_of_clusters(world, z_t - drift, 0)
    np.testing.assert_allclose(got.clean.z_0, absent + scale * (present - absent), rtol=1e-9)
    np.testing.assert_array_equal(
        got.clean.encodings["label"],
        plain(TIMES, z_t, roles_of(query, label=1)).clean.encodings["label"],
    )


@pytest.mark.parametrize("carried", [1, 0])
@pytest.mark.parametrize("count", [1, 2])
def test_decoder_at_scale_one_is_bayes_rule(count, carried):
    """E[x_p | z_t, x_0] of the joint Gaussian; of two, the unknown one is not carried."""
    world, z_t = LinearWorld(count, STEPS), states()
    value = jnp.asarray(np.random.default_rng(1).normal(size=(len(TIMES), 2)))
    query, plain = query_of(world, x0=value)
    denoiser = sampling.with_given(sampling.decoder_guidance({"x0": 1.0})(plain, query), query)
    got = denoiser(TIMES, z_t, roles_of(query, x0=carried, **({"x1": 0} if count == 2 else {})))
    for k, t in enumerate(np.asarray(TIMES)):
        rows = np.zeros((4, len(world.mean)))
        rows[:2] = world.by_carried[2**count + carried][0][t]
        rows[2:, 2:4] = np.eye(2)
        noise = np.diag([float(world.schedule.noise_variance[t])] * 2 + [0.0, 0.0])
        seen = np.concatenate([z_t[k], value[k]]) - rows @ world.mean
        inside = rows @ world.covariance @ rows.T + noise
        exact = world.mean + world.covariance @ rows.T @ np.linalg.solve(inside, seen)
        np.testing.assert_allclose(got.clean.z_0[k], exact[:2], rtol=1e-6, atol=1e-9)
    np.testing.assert_array_equal(got.clean.encodings["x0"], carried * query.encodings["x0"])


@pytest.mark.parametrize("scale", [0.0, 1.0, 2.5])
@pytest.mark.parametrize("weight", [0.7, 0.0])
def test_classifier_free_after_the_head_amplifies_bayes_rule(scale, weight):
    """Scale 0 is the estimate without the label, 1 Bayes' rule; also where the drift is nothing."""
    world, z_t = MixtureWorld(STEPS, weight=weight, probabilities=(0.5, 0.3, 0.2)), states()
    labels = np.arange(len(TIMES)) % 3
    query, denoiser = query_of(world, label=jnp.asarray(labels))
    for decorate in (
        sampling.decoder_guidance(),
        sampling.classifier_free_guidance("label", scale),
    ):
        denoiser = decorate(denoiser, query)
    got = denoiser(TIMES, z_t, roles_of(query, label=1))
    t = np.asarray(TIMES)
    bar, noise = (
        np.asarray(table)[t][:, None] for table in (world.schedule.alpha_bar,
        world.schedule.noise_variance)
    )  # fmt: skip
    drift = np.asarray(world.process.weights.marginal["label"])[t][:, None] * TABLE[labels]
    centre = CENTRES[labels]
    gain = np.sqrt(bar) * SPREAD**2 / (bar * SPREAD**2 + noise)
    with_label = centre + gain * (z_t - drift - np.sqrt(bar) * centre)
    without, _ = clean_of_clusters(world, z_t - drift, 0)
    want = without + scale * (with_label - without)
    np.testing.assert_allclose(got.clean.z_0, want, rtol=1e-6, atol=1e-9)


def test_the_head_after_classifier_free_adds_its_term_as_it_is():
    world, z_t = MixtureWorld(STEPS, probabilities=(0.5, 0.3, 0.2)), states()
    query, plain = query_of(world, label=jnp.arange(len(TIMES)) % 3)
    roles, by_head = roles_of(query, label=1), sampling.decoder_guidance()
    amplified = sampling.classifier_free_guidance("label", 2.5)(plain, query)
    plain_z_0, z_0, guided, both = (
        denoiser(TIMES, z_t, roles).clean.z_0
        for denoiser in (plain, amplified, by_head(plain, query), by_head(amplified, query))
    )
    np.testing.assert_allclose(both - z_0, guided - plain_z_0, rtol=1e-6, atol=1e-9)


def read_all(**options):
    """ẑ_0 without guidance, and with either kind of it."""
    query, plain = query_of(LinearWorld(2, STEPS), x0=states(1), x1=states(2))
    denoisers = [
        plain,
        sampling.classifier_free_guidance("x0", 3.0, **options)(plain, query),
        sampling.decoder_guidance({"x0": 2.0, "x1": 0.5}, **options)(plain, query),
    ]
    before, *after = (
        np.asarray(denoiser(TIMES, states(), roles_of(query, x0=1, x1=1)).clean.z_0)
        for denoiser in denoisers
    )
    return before, after


def test_scales_without_effect_leave_the_denoiser_as_it_is():
    query, plain = query_of(LinearWorld(2, STEPS), x0=states(1), x1=states(2))
    assert sampling.classifier_free_guidance("x0", 1.0)(plain, query) is plain
    assert sampling.decoder_guidance({"x0": 0.0, "x1": 0.0})(plain, query) is plain
    assert sampling.decoder_guidance({})(plain, query) is plain


def test_samples_at_such_scales_are_the_same_bit_for_bit():
    world = LinearWorld(1, 5)
    given = {"x0": jnp.ones((3, 2))}
    samples = [
        sampling.sample(
            jax.random.key(0), world.diffusion(), (3, 2), given,
            method=sampling.Method(decorators=chosen),
        )["p"]
        for chosen in (
            [],
            [sampling.classifier_free_guidance("x0", 1.0), sampling.decoder_guidance({"x0": 0.0})],
        )
    ]  # fmt: skip
    np.testing.assert_array_equal(*samples)


def test_a_scale_of_zero_adds_nothing_to_another():
    query, plain = query_of(LinearWorld(2, STEPS), x0=states(1), x1=states(2))
    guided = [
        sampling.decoder_guidance(scales)(plain, query)(
            TIMES, states(), roles_of(query, x0=1, x1=1)
        )
        for scales in ({"x0": 2.0, "x1": 0.0}, {"x0": 2.0})
    ]
    np.testing.assert_array_equal(*(state.clean.z_0 for state in guided))


def test_the_interval():
    """Both ends included; outside it bit for bit nothing, inside it as without one."""
    sigma = np.sqrt(1 / np.asarray(LinearWorld(2, STEPS).schedule.snr))[np.asarray(TIMES)]
    interval = (float(sigma[2]), float(sigma[4]))
    before, everywhere = read_all()
    _, within = read_all(interval=interval)
    inside = np.array([False, False, True, True, True, False])
    for free, bound in zip(everywhere, within):
        np.testing.assert_array_equal(bound[~inside], before[~inside])
        np.testing.assert_array_equal(bound[inside], free[inside])
        assert (np.abs(free - before).max(1) > 1e-6).all()


def test_rescale():
    """φ = 1 keeps each example's standard deviation, φ between mixes with no rescaling."""
    before, free = read_all()
    _, full = read_all(rescale=1.0)
    _, half = read_all(rescale=0.5)
    for plain, whole, part in zip(free, full, half):
        ratio = before.std(1, keepdims=True) / plain.std(1, keepdims=True)
        np.testing.assert_allclose(whole.std(1), before.std(1), rtol=1e-9)
        np.testing.assert_allclose(whole, plain * ratio, rtol=1e-9)
        np.testing.assert_allclose(part, (whole + plain) / 2, rtol=1e-9)


def test_the_limit():
    """What guidance adds is scaled down, example by example, to the RMS of the limit."""
    before, free = read_all()
    sizes = np.sqrt(((free - before) ** 2).mean(-1))
    limit = float(np.median(sizes))
    _, limited = read_all(limit=limit)
    for plain, bound, size in zip(free, limited, sizes):
        share = np.minimum(1, limit / size)[:, None]
        np.testing.assert_allclose(bound, before + share * (plain - before), rtol=1e-9)
    assert (sizes > limit).any()


def test_a_condition_guides_by_what_it_says():
    """`condition_log_prob`, where a modality has one, takes the place of its likelihood."""
    world = LinearWorld(1, STEPS)
    model = world.model()
    functions = model.modalities["x0"]
    silent = dataclasses.replace(functions, condition_log_prob=lambda head, x: jnp.zeros(len(x)))
    guided = []
    for modality in (functions, silent):
        modalities = {**model.modalities, "x0": modality}
        changed = dataclasses.replace(model, modalities=modalities)
        query, plain = query_of(world, changed, x0=states(1))
        decorate = sampling.decoder_guidance({"x0": 1.0})
        guided.append(decorate(plain, query)(TIMES, states(), roles_of(query, x0=1)).clean.z_0)
    estimate = plain(TIMES, states(), roles_of(query, x0=1)).clean
    drift = np.asarray(world.process.weights.marginal["x0"])[np.asarray(TIMES)][:, None]
    kept = np.sqrt(np.asarray(world.schedule.alpha_bar))[np.asarray(TIMES)][:, None]
    innovation = query.encodings["x0"] - estimate.encodings["x0"]
    np.testing.assert_allclose(guided[1], estimate.z_0 - drift * innovation / kept, rtol=1e-9)
    assert np.abs(guided[0] - guided[1]).max() > 1e-3


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"limit": 0.0}, "`limit`: got 0.0, expected a number above 0"),
        ({"limit": math.nan}, "`limit`: got nan"),
        ({"scale": math.inf}, r"`scales?(\[.x0.\])?`: got inf"),
        ({"scale": math.nan}, r"`scales?(\[.x0.\])?`: got nan"),
        ({"interval": (2.0, 1.0)}, r"`interval`: got \(2.0, 1.0\)"),
        ({"interval": (1.0, 1.0)}, "0 <= low < high"),
        ({"interval": (-1.0, 1.0)}, r"`interval`: got \(-1.0, 1.0\)"),
        ({"rescale": 1.5}, "`rescale`: got 1.5"),
        ({"rescale": -0.5}, "`rescale`: got -0.5"),
    ],
)
def test_bad_options(options, words):
    options = {"scale": 2.0, **options}
    with pytest.raises(ValueError, match=words):
        sampling.classifier_free_guidance("x0", **options)
    scale = options.pop("scale")
    with pytest.raises(ValueError, match=words):
        sampling.decoder_guidance({"x0": scale}, **options)


@pytest.mark.parametrize(
    ("decorate", "words"),
    [
        (sampling.classifier_free_guidance("x00", 2.0), "`guidance`: got 'x00'.*mean 'x0'"),
        (sampling.classifier_free_guidance("p", 2.0), "only the modalities that drive"),
        (sampling.classifier_free_guidance("x1", 2.0), "training never dropped.*'x0'"),
        (sampling.decoder_guidance({"y": 2.0}), "`guidance`: got 'y'"),
        (sampling.decoder_guidance({"p": 2.0}), "only the modalities that drive"),
        (sampling.decoder_guidance({"x1": 2.0}), "'x1', whose value is not given.*'x0'"),
        (sampling.decoder_guidance({"x1": 0.0}), "whose value is not given"),
    ],
)
def test_bad_modalities(decorate, words):
    world = LinearWorld(2, 5)
    model = dataclasses.replace(world.model(), droppable=("x0",))
    query, plain = query_of(world, model, x0=states())
    with pytest.raises(ValueError, match=words):
        decorate(plain, query)


def test_heads_of_all_that_is_given_guide_where_no_scale_is_named():
    """Of what the network is not shown; in a list it is what `Method` has without one."""
    query, plain = query_of(LinearWorld(2, STEPS), x0=states(1))
    roles = roles_of(query, x0=1, x1=1)
    bare, named = (
        sampling.decoder_guidance(*scales)(plain, query)(TIMES, states(), roles)
        for scales in ((), ({"x0": 1.0},))
    )
    np.testing.assert_array_equal(bare.clean.z_0, named.clean.z_0)
    shown = dataclasses.replace(query.diffusion.model, shows=("x0",))
    query = dataclasses.replace(query, diffusion=LinearWorld(2, STEPS).diffusion(shown))
    assert sampling.decoder_guidance()(plain, query) is plain


def test_a_list_of_decorators_takes_the_place_of_the_default():
    world, threshold = LinearWorld(1, 5), sampling.static_threshold(-1e9, 1e9)
    default, alone, kept = (
        sampling.sample(
            jax.random.key(0), world.diffusion(), (3, 2), {"x0": jnp.ones((3, 2))},
            sampling.Method(decorators=decorators),
        )["p"]
        for decorators in (None, [threshold], [sampling.decoder_guidance(), threshold])
    )  # fmt: skip
    np.testing.assert_array_equal(default, kept)
    assert np.abs(default - alone).max() > 0.01


@pytest.mark.parametrize(
    ("other", "words"),
    [
        (LinearWorld(1, STEPS - 1), f"of {STEPS - 1} steps, expected one of {STEPS}"),
        (LinearWorld(2, STEPS), r"that \['x0', 'x1'\] drive, expected one that \['x0'\] drive"),
        (LinearWorld(1, STEPS, log_snr=(5.0, -7.0)), "with another noise schedule"),
        (LinearWorld(1, STEPS, scale=0.8), "with other weights of 'x0'"),
    ],
)
def test_a_weaker_model_of_another_process(other, words):
    query, plain = query_of(LinearWorld(1, STEPS))
    decorate = sampling.autoguidance(other.diffusion(), 2.0)
    with pytest.raises(ValueError, match=f"`weaker`: got a process {words}"):
        decorate(plain, query)
    with pytest.raises(ValueError, match=f"`weaker`: got a process {words}"):
        jax.jit(lambda z: decorate(plain, query)(TIMES, z, roles_of(query)).clean.z_0)(states())


def test_a_weaker_model_is_shown_the_noise_that_the_sampled_one_is():
    """In encodings of its own: what it sees is what its own value under the same noise would be."""
    world, told = LinearWorld(1, STEPS), []
    inner = world.model()

    def denoise(z_t, t, roles):
        told.append(roles)
        return inner.denoise(z_t, t, roles)

    code = inner.modalities["x0"]
    double = dataclasses.replace(code, encode=lambda x: 2 * code.encode(x))
    model = dataclasses.replace(
        inner, denoise=denoise, shows=("x0",), modalities={**inner.modalities, "x0": double}
    )
    sampled = dataclasses.replace(inner, shows=("x0",))
    x = jnp.asarray(np.random.default_rng(0).normal(size=(len(TIMES), 2)))
    query, plain = query_of(world, sampled, x0=x)
    roles = dataclasses.replace(
        query_roles(inner.modalities, len(TIMES), ["x0"], ["p"], ["x0"]), encodings=query.encodings
    )
    keys, s = jax.random.split(jax.random.key(0), len(TIMES)), jnp.full(len(TIMES), 20)
    noisy = shown_at(keys, world.schedule, roles, {"x0": s})
    decorate = sampling.autoguidance(world.diffusion(model), 2.0)
    decorate(plain, query)(TIMES, states(), noisy)
    own = dataclasses.replace(roles, encodings={"x0": double.encode(x)})
    expected = shown_at(keys, world.schedule, own, {"x0": s})
    np.testing.assert_allclose(told[-1].encodings["x0"], expected.encodings["x0"], rtol=1e-6)
    np.testing.assert_array_equal(told[-1].clarity("x0"), expected.clarity("x0"))


def test_rescaling_leaves_an_estimate_of_one_value():
    """A constant map has no deviation to be brought back to."""
    query, _ = query_of(LinearWorld(1, STEPS))
    ones = jnp.ones((len(TIMES), 2))
    plain = sampling.plain_denoiser(query)(TIMES, states(), roles_of(query)).with_z_0(ones)
    options = GuidanceOptions((0.0, math.inf), 1.0, math.inf)
    schedule = query.diffusion.process.schedule
    guided = options.amplify(schedule, plain, 0 * ones, 1.5)
    np.testing.assert_allclose(guided.clean.z_0, 1.5)


def test_a_weaker_model_whose_process_is_read_from_a_file():
    """Its tables are in another precision and of NumPy."""
    world = LinearWorld(1, STEPS)
    query, plain = query_of(world)
    single = jax.tree.map(lambda x: np.asarray(x, np.float32), world.process)
    weaker = dataclasses.replace(world.diffusion(), process=single)
    state = sampling.autoguidance(weaker, 2.0)(plain, query)(TIMES, states(), roles_of(query))
    before = plain(TIMES, states(), roles_of(query)).clean.z_0
    np.testing.assert_allclose(state.clean.z_0, before, rtol=1e-3, atol=1e-3)
