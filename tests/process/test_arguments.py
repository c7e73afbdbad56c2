"""Lists, NumPy arrays, old keys and arguments of wrong kinds, for every public function."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mmdiffusion_jax import process
from tests import habits, plain_model

SCHEDULE, WEIGHTS, MODEL = plain_model.SCHEDULE, plain_model.WEIGHTS, plain_model.shared()
KEY, T = jax.random.key(0), jnp.array([1, 3, 6])
Z, E = plain_model.batch()["x"], {"y": plain_model.batch()["y"]}
ANSWER = process.Prediction(Z, {"y": Z})
PIVOT = process.Pivot(Z, -Z)
UNIT = Z / jnp.linalg.norm(Z, axis=1, keepdims=True)
NOTHING_READ = plain_model.shared(y=plain_model.point(draw=lambda key, head: jnp.zeros((1, 2))))
ONE = {"x": plain_model.point()}
KAPPA = jnp.array([1.0, 2.0, 3.0])
PROCESS = {"schedule": SCHEDULE, "weights": WEIGHTS, "t": T}

CALLS = {
    "antithetic_timesteps": {"key": KEY, "batch_size": 3, "num_steps": 6},
    "belief": {**PROCESS, "model": MODEL, "z_t": Z, "prediction": ANSWER, "estimates": E},
    "categorical_log_prob": {"logits": jnp.eye(3), "classes": jnp.arange(3), "counted": None},
    "check_model": {"weights": WEIGHTS, "model": MODEL},
    "check_weights": {"schedule": SCHEDULE, "weights": WEIGHTS},
    "cosine_schedule": {"num_steps": 6, "offset": 0.008},
    "discretised_gaussian_log_prob": {"mean": Z, "log_std": Z, "x": Z, "num_levels": 4},
    "draw": {"model": NOTHING_READ, "name": "y", "keys": jax.random.split(KEY, 3), "head": Z},
    "estimate_encodings": {"model": MODEL, "prediction": ANSWER},
    "from_pivot": {"schedule": SCHEDULE, "t": T, "pivot": PIVOT, "target": "v"},
    "function_of": {"model": MODEL, "name": "y", "wanted": "draw"},
    "gate": {"encodings": E, "carried": {"y": jnp.array([1.0, 0.0, 1.0])}},
    "gaussian_kl": {"p": process.Gaussian(Z, 1 + Z**2), "q": process.Gaussian(-Z, 1 + Z**2)},
    "gaussian_log_prob": {"mean": Z, "log_std": Z, "x": Z},
    "head_of": {"prediction": ANSWER, "name": "y"},
    "linear_schedule": {"num_steps": 6, "beta_start": 1e-4, "beta_end": 0.002},
    "marginal": {**PROCESS, "z_0": Z, "encodings": E},
    "modalities_of": {"model": MODEL},
    "modality_weights": {"schedule": SCHEDULE, "weights": {"y": jnp.arange(7.0)}},
    "noise_error_factor": {"schedule": SCHEDULE, "t": T, "target": "v"},
    "posterior": {**PROCESS, "z_t": Z, "z_0": -Z, "encodings": E},
    "reverse_variance": {
        "schedule": SCHEDULE, "t": T, "like": Z, "kind": "learned", "mix": jax.nn.sigmoid(Z),
    },
    "schedule_from_betas": {"betas": np.array([0.1, 0.2])},
    "separate_state": {"schedule": SCHEDULE, "t": T, "encoding": Z, "noise": -Z},
    "shift": {**PROCESS, "z_t": Z, "encodings": E},
    "sigmoid_schedule": {"num_steps": 6, "start": -3.0, "end": 3.0, "temperature": 1.0},
    "stratified_timesteps": {"key": KEY, "batch_size": 3, "num_steps": 6},
    "sum_per_example": {"values": Z},
    "to_pivot": {"schedule": SCHEDULE, "t": T, "y_t": Z, "prediction": Z, "target": "noise"},
    "transition": {**PROCESS, "z_prev": Z, "encodings": E},
    "uniform_timesteps": {"key": KEY, "batch_size": 3, "num_steps": 6},
    "von_mises_fisher_draw": {"key": KEY, "direction": UNIT, "kappa": KAPPA},
    "von_mises_fisher_log_prob": {"direction": UNIT, "kappa": KAPPA, "x": UNIT},
    "von_mises_fisher_resultant": {"dims": 3, "kappa": KAPPA},
    "where_present": {"mask": jnp.array([1, 0, 1]), "values": Z},
    "ModalityFunctions": {"encode": abs, "log_prob": max, "num_dims": 2},
    "ModelFunctions": {"denoise": max, "modalities": MODEL.modalities, "primary": "x"},
    "SeparateFunctions": {"denoise": max, "modalities": MODEL.modalities, "primary": "x"},
}  # fmt: skip
# Rules, plain containers, and what others call with names of their own.
OTHERS = {
    "RULES", "TARGETS", "TIMESTEP_DRAWS", "VARIANCES", "Bump", "Constant", "Decay", "Gaussian",
    "Modal", "ModalityWeights", "Pivot", "Prediction", "Schedule", "ask_modality",
}  # fmt: skip

# What takes no array.
HOST = ("check_model", "check_weights", "function_of", "modalities_of")
ON_ARRAYS = [name for name in CALLS if name[0].islower() and name not in HOST]


def test_every_public_name_is_tried():
    assert set(CALLS) | OTHERS == set(process.__all__)


@pytest.mark.parametrize("name", CALLS)
def test_wrong_kinds_get_one_clear_line(name):
    function = getattr(process, name)
    assert habits.outcome(function, CALLS[name]) is None
    assert habits.complaints(function, CALLS[name]) == []


@pytest.mark.parametrize("name", ON_ARRAYS)
def test_lists_and_numpy_arrays_are_arrays(name):
    function, arguments = getattr(process, name), CALLS[name]
    changes = [np.asarray]
    # In a pytree a list is a branch of it.
    if not {"p", "pivot", "prediction", "head"} & set(arguments):
        changes.append(lambda x: np.asarray(x).tolist())
    want = function(**arguments)
    for change in changes:
        got = function(**habits.with_leaves(arguments, change))
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-6), got, want)


@pytest.mark.parametrize(
    "name", ["uniform_timesteps", "antithetic_timesteps", "stratified_timesteps"]
)
def test_keys_of_the_old_style(name):
    old = {**CALLS[name], "key": jax.random.PRNGKey(0)}
    got = getattr(process, name)(**old)
    np.testing.assert_array_equal(got, getattr(process, name)(**CALLS[name]))


@pytest.mark.parametrize("num_steps", [5, 7, 50])
@pytest.mark.parametrize("name", ["marginal", "transition", "posterior", "shift", "check_weights"])
def test_weights_of_another_number_of_steps(name, num_steps):
    other = process.modality_weights(process.cosine_schedule(num_steps), {"y": "bump"})
    with pytest.raises(ValueError, match=rf"`weights\['y'\]`: got tables of {num_steps + 1} and"):
        getattr(process, name)(**{**CALLS[name], "weights": other})


def test_weights_of_another_schedule_of_as_many_steps():
    other = process.modality_weights(process.linear_schedule(6), {"y": "bump"})
    with pytest.raises(ValueError, match=r"`weights\['y'\]`: got values of another schedule"):
        process.check_weights(SCHEDULE, other)
    for given in ("transition", "marginal"):
        for schedule in (SCHEDULE, process.linear_schedule(1000), process.cosine_schedule(1000)):
            weights = process.modality_weights(schedule, {"y": "constant", "z": "decay"}, given)
            process.check_weights(schedule, weights)


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (
            lambda: process.ModelFunctions(max, ONE, "x", trained_without=("y",)),
            "`trained_without`: got 'y', expected no entry, as the model has no secondary",
        ),
        (
            lambda: process.ModelFunctions(max, {}, "x"),
            "`primary`: got 'x', expected no entry, as `modalities` is empty",
        ),
        (
            lambda: process.head_of(process.Prediction(Z, {}), "y"),
            "`modality`: got 'y', expected no entry, as the denoiser gives no heads",
        ),
        (
            lambda: process.shift(SCHEDULE, process.modality_weights(SCHEDULE, {}), T, Z, E),
            "`encodings`: got 'y', expected no entry, as the weights have no modality",
        ),
    ],
)  # fmt: skip
def test_a_name_where_there_are_none_says_why(call, words):
    with pytest.raises(ValueError, match=words):
        call()
