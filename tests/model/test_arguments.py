"""Lists, NumPy arrays, old keys and arguments of wrong kinds, for every public function."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mmdiffusion_jax import model, process
from tests import habits, plain_model

PROCESS, MODEL, BATCH = plain_model.PROCESS, plain_model.shared(), plain_model.batch()
DIFFUSION = model.Diffusion(PROCESS, MODEL)
KEY, T = jax.random.key(0), jnp.array([1, 3, 6])
Z, E = BATCH["x"], {"y": BATCH["y"]}
PRESENCE = {"y": jnp.array([1.0, 0.0, 1.0])}
ROLES = model.training_roles(MODEL, BATCH, PRESENCE)
CLEAN, _ = model.encode(MODEL, BATCH, ROLES)
ANSWER = model.Prediction(Z, {"y": Z})
UNIT = Z / jnp.linalg.norm(Z, axis=1, keepdims=True)
NOTHING_READ = plain_model.shared(y=plain_model.point(draw=lambda key, head: jnp.zeros((1, 2))))
KAPPA = jnp.array([1.0, 2.0, 3.0])

CALLS = {
    "categorical_log_prob": {"logits": jnp.eye(3), "classes": jnp.arange(3), "counted": None},
    "denoise": {"diffusion": DIFFUSION, "t": T, "z_t": Z, "roles": ROLES},
    "discretised_gaussian_log_prob": {"mean": Z, "log_std": Z, "x": jnp.tanh(Z), "num_levels": 4},
    "draw": {"model": NOTHING_READ, "name": "y", "keys": jax.random.split(KEY, 3), "head": Z},
    "encode": {"model": MODEL, "batch": BATCH, "roles": ROLES},
    "estimate_encodings": {"model": MODEL, "prediction": ANSWER},
    "function_of": {"model": MODEL, "name": "y", "wanted": "draw"},
    "gaussian_log_prob": {"mean": Z, "log_std": Z, "x": Z},
    "head_of": {"prediction": ANSWER, "name": "y"},
    "observe": {"diffusion": DIFFUSION, "clean": CLEAN, "roles": ROLES, "t": T, "noise": Z},
    "parse_tasks": {"tasks": {"x | y": 1.0}, "names": ("x", "y")},
    "split_presence": {"batch": {**BATCH, "y_present": PRESENCE["y"]}},
    "training_roles": {
        "model": MODEL, "batch": BATCH, "presence": PRESENCE, "dropout": {"y": 0.5},
        "key": KEY, "tasks": {"x, y": 1.0, "x | y": 1.0}, "believed": ("y",),
    },
    "von_mises_fisher_draw": {"key": KEY, "direction": UNIT, "kappa": KAPPA},
    "von_mises_fisher_log_prob": {"direction": UNIT, "kappa": KAPPA, "x": UNIT},
    "von_mises_fisher_resultant": {"dims": 3, "kappa": KAPPA},
    "where_present": {"mask": jnp.array([1, 0, 1]), "values": Z},
    "Diffusion": {"process": PROCESS, "model": MODEL},
    "ModalityFunctions": {"encode": abs, "log_prob": max, "num_dims": 2},
    "ModelFunctions": {"denoise": max, "modalities": MODEL.modalities, "primary": "x"},
}  # fmt: skip
# Protocols, plain containers, and what others call with names of their own.
OTHERS = {
    "Backbone", "Batch", "CleanState", "Denoise", "Denoiser", "Features", "Modal",
    "NoisyState", "Prediction", "Presence", "Role", "Roles", "Shown", "all_carried",
    "call_modality", "default_tasks", "query_roles",
}  # fmt: skip
# What takes no array, or roles of whole numbers alone.
HOST = ("function_of", "parse_tasks", "split_presence")
ON_ARRAYS = [name for name in CALLS if name[0].islower() and name not in HOST]


def test_every_public_name_is_tried():
    assert set(CALLS) | OTHERS == set(model.__all__)


@pytest.mark.parametrize("name", CALLS)
def test_wrong_kinds_get_one_clear_line(name):
    function = getattr(model, name)
    assert habits.outcome(function, CALLS[name]) is None
    assert habits.complaints(function, CALLS[name]) == []


@pytest.mark.parametrize("name", ON_ARRAYS)
def test_lists_and_numpy_arrays_are_arrays(name):
    function, arguments = getattr(model, name), CALLS[name]
    changes = [np.asarray]
    # In a pytree a list is a branch of it.
    if not {"prediction", "head", "clean", "roles"} & set(arguments):
        changes.append(lambda x: np.asarray(x).tolist())
    want = function(**arguments)
    for change in changes:
        got = function(**habits.with_leaves(arguments, change))
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-6), got, want)


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (
            lambda: model.ModelFunctions(max, {"x": plain_model.point()}, "x", droppable=("y",)),
            "`droppable`: got 'y', expected one of 'x'",
        ),
        (
            lambda: model.ModelFunctions(max, {}, "x"),
            "`primary`: got 'x', expected no entry, as `modalities` is empty",
        ),
        (
            lambda: model.head_of(model.Prediction(Z, {}), "y"),
            "`modality`: got 'y', expected no entry, as the denoiser gives no heads",
        ),
        (
            lambda: model.Diffusion(process.Process(process.cosine_schedule(6)), MODEL),
            "`weights`: got nothing for 'y'",
        ),
        (lambda: ROLES.carried("z"), "`roles`: got 'z', expected one of 'x', 'y'"),
        (
            lambda: model.encode(MODEL, BATCH, model.all_carried(["x"], 3)),
            "`roles`: got 'y', expected",
        ),
        (
            lambda: model.encode(MODEL, BATCH, model.all_carried(["x", "y"], 2)),
            r"`roles\['x'\]`: got shape \(2,\), expected shape \(3,\)",
        ),
    ],
)
def test_what_does_not_fit_says_why(call, words):
    with pytest.raises(ValueError, match=words):
        call()
