"""Lists, NumPy arrays, old keys and arguments of wrong kinds, for every public function."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mmdiffusion_jax import sampling
from mmdiffusion_jax.model import Diffusion, query_roles
from tests import habits, plain_model

SCHEDULE, PROCESS, MODEL = plain_model.SCHEDULE, plain_model.PROCESS, plain_model.shared()
KEY, Y, SHAPE = jax.random.key(0), plain_model.batch()["y"], (3, 2)
DIFFUSION, PLAN = Diffusion(PROCESS, MODEL), sampling.plan(PROCESS, [6, 3, 1])
QUERY = sampling.Query(DIFFUSION, {}, {})
DENOISER = sampling.plain_denoiser(QUERY)
REQUEST = {"key": KEY, "diffusion": DIFFUSION, "shape": SHAPE, "given": {"y": Y}}
OPTIONS = {
    "stepper": "ddim",
    "times": [6, 3, 1],
    "decorators": [sampling.static_threshold()],
    "estimate": "mean",
    "unknown": "auto",
    "read": "most_likely",
    "corrections": 0,
}
METHOD = sampling.Method(**OPTIONS)
CALLS = {
    "Method": OPTIONS,
    "DDIM": {"eta": 0.5},
    "DPMSolverPP": {"order": 2, "sde": False},
    "Noised": {"values": Y, "level": 0.5},
    "autoguidance": {
        "weaker": DIFFUSION, "scale": 2.0, "interval": (0.1, 1.0), "rescale": 0.5, "limit": 1.0,
    },
    "check_grid": {"schedule": SCHEDULE, "times": [6, 3, 1]},
    "classifier_free_guidance": {
        "name": "y", "scale": 2.0, "interval": (0.1, 1.0), "rescale": 0.5, "limit": 1.0,
    },
    "decoder_guidance": {
        "scales": {"y": 2.0}, "interval": (0.1, 1.0), "rescale": 0.5, "limit": 1.0,
    },
    "dynamic_threshold": {"quantile": 0.9, "bound": 1.0},
    "karras_grid": {"schedule": SCHEDULE, "num_steps": 3, "rho": 7.0, "sigma_max": 80.0},
    "log_snr_grid": {"schedule": SCHEDULE, "num_steps": 3, "sigma_max": 80.0},
    "plain_denoiser": {"query": QUERY, "keys": None},
    "parse_order": {"order": ["y", "x"]},
    "plan": {"process": PROCESS, "times": [6, 3, 1], "variance": "upper"},
    "quadratic_grid": {"schedule": SCHEDULE, "num_steps": 3},
    "sample": {**REQUEST, "method": METHOD},
    "sample_trajectory": {**REQUEST, "method": METHOD, "num_states": 2},
    "static_threshold": {"low": -1.0, "high": 1.0},
    "uniform_grid": {"schedule": SCHEDULE, "num_steps": 3},
    "run_stepper": {
        "denoiser": DENOISER, "method": METHOD, "plan": PLAN, "start": Y, "keys": KEY,
        "roles": query_roles(MODEL.modalities, 3, ["y"], ["x", "y"]), "kept": [0, 2],
    },
    "with_given": {"denoiser": DENOISER, "query": QUERY, "moments": False},
}  # fmt: skip
OTHERS = {
    "ESTIMATES", "EVERYWHERE", "GRIDS", "READS", "SAMPLERS", "UNKNOWNS", "Ancestral",
    "Decorator", "Heun", "Multistep", "Plan", "Query", "Stepper", "Trajectory",
    "stages_of", "Fixed",
}  # fmt: skip
SAMPLE = ("sample", "sample_trajectory")


def test_every_public_name_is_tried():
    assert set(CALLS) | OTHERS == set(sampling.__all__)


@pytest.mark.parametrize("name", CALLS)
def test_wrong_kinds_get_one_clear_line(name):
    function = getattr(sampling, name)
    assert habits.outcome(function, CALLS[name]) is None
    assert habits.complaints(function, CALLS[name]) == []


@pytest.mark.parametrize("name", SAMPLE)
@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"stepper": "dim"}, "`stepper`: got 'dim', expected one of .*did you mean 'ddim'"),
        ({"stepper": sampling.DDIM}, "`stepper`: got the class DDIM, .*; pass DDIM()"),
        ({"stepper": 3}, "`stepper`: got 3, expected a stepper"),
        ({"times": 3}, "`times`: got 3, .*pass sampling.uniform_grid"),
        ({"key": 0}, r"`key`: got 0, expected a key .*pass jax.random.key\(0\)"),
        ({"key": jax.random.split(KEY, 5)}, r"`key`: got an array of shape \(5,\).*or 3 of them"),
        ({"shape": (0, 2)}, r"`shape`: got \(0, 2\), expected \(num_samples, \*latent\)"),
        ({"shape": 3}, "`shape`: got 3, expected"),
        ({"given": {"y": Y[:2]}}, r"`given\['y'\]`: got shape \(2, 2\), expected 3 examples"),
        ({"given": {"z": Y}}, "`given`: got 'z', expected one of 'x', 'y'"),
        ({"given": {"y": Y[:, :1]}}, r"`modalities\['y'\].encode`: got .* \(3, 1\)"),
    ],
)
def test_a_bad_request(name, change, words):
    def call():
        changed = change
        if {*change} & {*OPTIONS}:
            changed = {"method": dataclasses.replace(METHOD, **change)}
        getattr(sampling, name)(**{**CALLS[name], **changed})

    with pytest.raises(ValueError, match=words):
        call()


def test_names_lists_and_old_keys_give_the_same_samples():
    method = dataclasses.replace(METHOD, decorators=(), stepper=sampling.DDIM())
    arguments = {**CALLS["sample"], "method": method}
    habit = {
        "key": jax.random.PRNGKey(0),
        "shape": [3, np.int64(2)],
        "given": {"y": np.asarray(Y).tolist()},
        "method": dataclasses.replace(method, stepper="ddim", times=np.array([6, 3, 1])),
    }
    want = sampling.sample(**arguments)
    got = sampling.sample(**{**arguments, **habit})
    jax.tree.map(np.testing.assert_array_equal, got, want)
    old = jnp.stack([jax.random.PRNGKey(k) for k in range(3)])
    new = jnp.stack([jax.random.key(k) for k in range(3)])
    several = [sampling.sample(**{**arguments, "key": keys})["x"] for keys in (old, new)]
    np.testing.assert_array_equal(*several)


def test_a_method_is_a_static_argument_of_jit():
    """Though it has lists and arrays; another of the same values is another."""
    methods = [dataclasses.replace(METHOD, times=np.array([6, 3, 1])) for _ in range(2)]
    assert methods[0] != methods[1]

    traced = []

    def draw(key, method):
        traced.append(method)
        return sampling.sample(key, DIFFUSION, SHAPE, {"y": Y}, method)

    compiled = jax.jit(draw, static_argnums=1)
    got = [compiled(KEY, method)["x"] for method in (methods[0], methods[0], methods[1])]
    assert traced == methods
    for x in got:
        np.testing.assert_allclose(x, sampling.sample(**CALLS["sample"])["x"], rtol=1e-5)


@pytest.mark.parametrize("name", ["sample", "plan"])
def test_a_process_on_the_host(name):
    """As `jax.device_get` leaves it, or a file that it was read from."""
    host = jax.device_get(PROCESS)
    changed = {
        "process": host, "schedule": host.schedule, "diffusion": Diffusion(host, MODEL),
    }  # fmt: skip
    arguments = {key: changed.get(key, value) for key, value in CALLS[name].items()}
    assert habits.outcome(getattr(sampling, name), arguments) is None


@pytest.mark.parametrize("name", SAMPLE)
def test_keys_of_the_old_style(name):
    old = {**CALLS[name], "key": jax.random.PRNGKey(0)}
    assert habits.outcome(getattr(sampling, name), old) is None


@pytest.mark.parametrize(
    ("functions", "options", "words"),
    [
        ({"expected_encoding": lambda m: m[:, :1]}, {}, r"expected_encoding`: got .*\(3, 1\)"),
        ({"expected_encoding": None}, {}, "expected_encoding`: got None, expected a function"),
        ({"encoding_variance": lambda m: m[0]}, {"estimate": "moments"}, "encoding_variance`: got"),
        ({"draw": lambda key, m: m[0]}, {"estimate": "draw"}, r"draw`: got .*\(2,\)"),
        (
            {"most_likely": lambda m: m.sum()},
            {},
            r"most_likely`: got .*\(\), expected shape \(3, …",
        ),
        ({"pool": lambda heads: heads}, {}, r"pool`: got parameters of shapes \(1, 3, 2\)"),
    ],
)
def test_a_function_that_answers_in_another_shape(functions, options, words):
    model = plain_model.shared(y=plain_model.point(**functions))
    with pytest.raises(ValueError, match=rf"`modalities\['y'\]\.{words}"):
        sampling.sample(KEY, Diffusion(PROCESS, model), SHAPE, method=sampling.Method(**options))


def test_a_likelihood_that_guides_by_another_shape():
    y = plain_model.point(condition_log_prob=lambda m, x: m * x)
    with pytest.raises(ValueError, match=r"condition_log_prob`: got a result of shape \(3, 2\)"):
        sampling.sample(
            KEY, Diffusion(PROCESS, plain_model.shared(y=y)), SHAPE, {"y": Y},
            method=sampling.Method(decorators=[sampling.decoder_guidance({"y": 1.0})]),
        )  # fmt: skip


def test_scales_may_be_traced():
    """So that one compiled function serves a sweep over them."""

    def draw(scale):
        guide = sampling.classifier_free_guidance("y", scale)
        return sampling.sample(**REQUEST, method=sampling.Method(decorators=[guide]))["x"]

    np.testing.assert_allclose(jax.jit(draw)(1.0), draw(1.0), rtol=1e-5)
