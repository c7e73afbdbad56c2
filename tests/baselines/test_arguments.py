"""Lists, old keys, dtypes and arguments of wrong kinds, for the functions of the rivals."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mmdiffusion_jax import baselines, objective, sampling
from mmdiffusion_jax.model import Prediction
from tests import habits, plain_model

KEY, SCHEDULE, BATCH = jax.random.key(0), plain_model.SCHEDULE, plain_model.batch()
METHOD = sampling.Method("ddim", [6, 3, 1])
PREDICTED = {"given": ["x"], "target": "y"}
PRESENCE = {"y": jnp.array([True, False, True])}
CALLS = {
    "predict": {"model": plain_model.shared(), "batch": BATCH, **PREDICTED},
    "prediction_loss_terms": {
        "model": plain_model.shared(), "batch": BATCH, "presence": PRESENCE, **PREDICTED,
    },
    "sample_separate": {
        "key": KEY, "schedule": SCHEDULE, "model": plain_model.separate(), "shape": (3, 2),
        "given": {"y": BATCH["y"]}, "method": METHOD, "limit": 1.0,
    },
    "separate_loss_terms": {
        "key": KEY, "schedule": SCHEDULE, "model": plain_model.separate(), "batch": BATCH,
        "presence": PRESENCE, "options": objective.LossOptions({"x": 1.0}),
    },
}  # fmt: skip
LOSSES = ("prediction_loss_terms", "separate_loss_terms")


@pytest.mark.parametrize("name", CALLS)
def test_wrong_kinds_get_one_clear_line(name):
    function = getattr(baselines, name)
    assert habits.outcome(function, CALLS[name]) is None
    assert habits.complaints(function, CALLS[name]) == []


@pytest.mark.parametrize("name", ["sample_separate", "separate_loss_terms"])
def test_lists_old_keys_and_a_schedule_on_the_host(name):
    habit = {"key": jax.random.PRNGKey(0), "schedule": jax.device_get(SCHEDULE)}
    for part in {"batch", "given"} & {*CALLS[name]}:
        habit[part] = {key: np.asarray(x).tolist() for key, x in CALLS[name][part].items()}
    want, got = (getattr(baselines, name)(**{**CALLS[name], **changed}) for changed in ({}, habit))
    jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, rtol=1e-6), got, want)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"key": jax.random.split(KEY, 5)}, r"`key`: got an array of shape \(5,\).*or 3 of them"),
        ({"shape": (0, 2)}, r"`shape`: got \(0, 2\), expected \(num_samples, \*latent\)"),
        ({"given": {"y": BATCH["y"][:2]}}, r"`given\['y'\]`: got shape \(2, 2\), expected 3 exam"),
        ({"given": {"z": BATCH["y"]}}, "`given`: got 'z', expected one of 'x', 'y'"),
    ],
)
def test_a_bad_request(change, words):
    with pytest.raises(ValueError, match=words):
        baselines.sample_separate(**{**CALLS["sample_separate"], **change})


def model_for(name, denoise=None, **parts):
    """A model of the kind that a loss takes."""
    if name != "separate_loss_terms":
        return plain_model.shared(denoise, **parts)
    separately = denoise and (lambda states, times: denoise(states["x"], times["x"]))
    return plain_model.separate(separately, **parts)


@pytest.mark.parametrize("name", LOSSES)
def test_a_likelihood_of_another_shape(name):
    """(batch, 1) would broadcast to (batch, batch), and be a mean over wrong pairs."""
    y = plain_model.point(log_prob=lambda m, x: m[:, :1])
    with pytest.raises(ValueError, match=r"`modalities\['y'\]\.log_prob`: got .*\(3, 1\)"):
        getattr(baselines, name)(**{**CALLS[name], "model": model_for(name, y=y)})


@pytest.mark.parametrize("x64", [False, True], ids=["", "x64"])
@pytest.mark.parametrize("dtype", ["bfloat16", "float16", "float32"])
@pytest.mark.parametrize("name", LOSSES)
def test_networks_and_data_of_any_dtype(name, dtype, x64):
    """What comes out is of the dtype of the states, at least float32, with strict promotion."""

    def denoise(z_t, t):
        return Prediction(z_t.astype(dtype) / 2, {"y": jnp.tanh(z_t.astype(dtype))})

    with jax.enable_x64(x64), jax.numpy_rank_promotion("raise"):
        data = {key: np.asarray(x).astype(dtype) for key, x in BATCH.items()}
        arguments = {**CALLS[name], "model": model_for(name, denoise), "batch": data}
        out = jax.eval_shape(lambda: getattr(baselines, name)(**arguments).reduce())
        kinds = {leaf.dtype.name for leaf in jax.tree.leaves(out)}
        assert kinds <= {"float32", "float64"}
        assert kinds == {"float32"} or x64
