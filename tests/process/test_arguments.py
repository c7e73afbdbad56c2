"""Lists, NumPy arrays, old keys and arguments of wrong kinds, for every public function."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mmdiffusion_jax import process
from tests import habits, plain_model

SCHEDULE, WEIGHTS, PROCESS = plain_model.SCHEDULE, plain_model.WEIGHTS, plain_model.PROCESS
KEY, T = jax.random.key(0), jnp.array([1, 3, 6])
Z, E = plain_model.batch()["x"], {"y": plain_model.batch()["y"]}
PIVOT = process.Pivot(Z, -Z)
AT = {"process": PROCESS, "t": T}

CALLS = {
    "antithetic_timesteps": {"key": KEY, "batch_size": 3, "num_steps": 6},
    "cosine_schedule": {"num_steps": 6, "offset": 0.008},
    "from_pivot": {"schedule": SCHEDULE, "t": T, "pivot": PIVOT, "target": "v"},
    "gaussian_kl": {"p": process.Gaussian(Z, 1 + Z**2), "q": process.Gaussian(-Z, 1 + Z**2)},
    "linear_schedule": {"num_steps": 6, "beta_start": 1e-4, "beta_end": 0.002},
    "logit_normal_timesteps": {
        "key": KEY, "batch_size": 3, "schedule": SCHEDULE, "mean": 0.0, "std": 1.0,
    },
    "marginal": {**AT, "z_0": Z, "encodings": E},
    "modality_weights": {"schedule": SCHEDULE, "weights": {"y": jnp.arange(7.0)}},
    "noise_error_factor": {"schedule": SCHEDULE, "t": T, "target": "v"},
    "posterior": {**AT, "z_t": Z, "z_0": -Z, "encodings": E},
    "reverse_variance": {
        "schedule": SCHEDULE, "t": T, "like": Z, "kind": "learned", "mix": jax.nn.sigmoid(Z),
    },
    "schedule_from_betas": {"betas": np.array([0.1, 0.2])},
    "shift": {**AT, "z_t": Z, "encodings": E},
    "sigmoid_schedule": {"num_steps": 6, "start": -3.0, "end": 3.0, "temperature": 1.0},
    "stratified_timesteps": {"key": KEY, "batch_size": 3, "num_steps": 6},
    "sum_per_example": {"values": Z},
    "to_pivot": {"schedule": SCHEDULE, "t": T, "y_t": Z, "prediction": Z, "target": "noise"},
    "transition": {**AT, "z_prev": Z, "encodings": E},
    "uniform_timesteps": {"key": KEY, "batch_size": 3, "num_steps": 6},
    "Process": {"schedule": SCHEDULE, "weights": WEIGHTS},
}  # fmt: skip
# Rules and plain containers.
OTHERS = {
    "RULES", "TARGETS", "TIMESTEP_DRAWS", "VARIANCES", "Bump", "Constant", "Decay", "Gaussian",
    "ModalityWeights", "Pivot", "Schedule",
}  # fmt: skip
ON_ARRAYS = [name for name in CALLS if name[0].islower()]


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
    if not {"p", "pivot"} & set(arguments):
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
def test_weights_of_another_number_of_steps(num_steps):
    other = process.modality_weights(process.cosine_schedule(num_steps), {"y": "bump"})
    with pytest.raises(ValueError, match=rf"`weights\['y'\]`: got tables of {num_steps + 1} and"):
        process.Process(SCHEDULE, other)


def test_weights_of_another_schedule_of_as_many_steps():
    other = process.modality_weights(process.linear_schedule(6), {"y": "bump"})
    with pytest.raises(ValueError, match=r"`weights\['y'\]`: got values of another schedule"):
        process.Process(SCHEDULE, other)
    for given in ("transition", "marginal"):
        for schedule in (SCHEDULE, process.linear_schedule(1000), process.cosine_schedule(1000)):
            weights = process.modality_weights(schedule, {"y": "constant", "z": "decay"}, given)
            assert process.Process(schedule, weights).names == ("y", "z")


def test_a_process_is_a_pytree():
    """It goes through compiled functions, and while it is mapped its leaves may be anything."""
    through = jax.jit(lambda forward: process.marginal(forward, T, Z, E).mean)
    np.testing.assert_allclose(through(PROCESS), process.marginal(PROCESS, T, Z, E).mean, rtol=1e-6)
    shapes = jax.tree.map(jnp.shape, PROCESS)
    assert shapes.weights.marginal == {"y": (7,)}
    paths = [jax.tree_util.keystr(path) for path, _ in jax.tree.leaves_with_path(PROCESS)]
    assert ".schedule.alpha_bar" in paths
    host = jax.device_get(PROCESS)
    np.testing.assert_allclose(through(host), through(PROCESS), rtol=1e-6)


def test_an_encoding_where_nothing_drives_the_process():
    words = "`encodings`: got 'y', expected no entry, as the weights have no modality"
    with pytest.raises(ValueError, match=words):
        process.shift(process.Process(SCHEDULE), T, Z, E)
