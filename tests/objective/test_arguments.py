"""Lists, NumPy arrays, old keys and arguments of wrong kinds, for every public function."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mmdiffusion_jax import objective
from mmdiffusion_jax.model import Diffusion, Prediction, encode, observe, training_roles
from tests import habits, plain_model

SCHEDULE, PROCESS, MODEL = plain_model.SCHEDULE, plain_model.PROCESS, plain_model.shared()
KEY, T, BATCH = jax.random.key(0), jnp.array([1, 3, 6]), plain_model.batch()
NOISE, PRESENCE = BATCH["y"], {"y": jnp.array([1.0, 0.0, 1.0])}
DIFFUSION, ROLES = Diffusion(PROCESS, MODEL), training_roles(MODEL, BATCH, PRESENCE)
CLEAN, _ = encode(MODEL, BATCH, ROLES)
STATE = observe(DIFFUSION, CLEAN, ROLES, T, NOISE)
ALL = {"key": KEY, "diffusion": DIFFUSION, "batch": BATCH, "presence": PRESENCE}
AT = {"t": T, "noise": NOISE, **{name: ALL[name] for name in list(ALL)[1:]}}
MESH = jax.sharding.Mesh(jax.devices()[:1], ("data",))


def part(params, key, batch):
    return jnp.mean((params * batch["x"]) ** 2), {}


CALLS = {
    "bound": {**ALL, "recovery_weights": np.full(6, 1 / 6)},
    "bound_at": {**AT, "recovery_weights": np.full(6, 1 / 6)},
    "bound_estimate": {**ALL, "recovery_weights": np.full(6, 1 / 6), "timesteps": "stratified"},
    "bound_loss": {**ALL, "timesteps": "uniform"},
    "candidate_log_probs": {**ALL, "name": "y", "candidates": BATCH["y"], "times": [1, 4]},
    "draw_t_and_noise": {"key": KEY, "schedule": SCHEDULE, "clean": CLEAN, "timesteps": "uniform"},
    "flow_bound": {**ALL, "num_probes": 2},
    "flow_log_density": {
        "key": KEY, "diffusion": DIFFUSION, "z": NOISE, "roles": ROLES, "num_probes": None,
    },
    "LossOptions": {
        "modality_scales": {"x": 1.0}, "weighting": objective.no_weighting,
        "dropout": {"y": 0.1}, "timesteps": "antithetic", "variance_scale": 0.001,
        "logit_normal": (-0.8, 0.8),
    },
    "min_snr_weighting": {"gamma": 5.0},
    "no_weighting": {"snr": NOISE[:, 0] ** 2},
    "p2_weighting": {"gamma": 1.0, "k": 1.0},
    "sigmoid_weighting": {"bias": 1.0},
    "pmap_gradient": {"loss": part, "axis_name": "data"},
    "posterior_term": {"diffusion": DIFFUSION, "clean": CLEAN, "state": STATE},
    "prior_term": {"process": PROCESS, "clean": CLEAN},
    "reconstruction_term": {"model": MODEL, "batch": BATCH, "roles": ROLES, "state": STATE},
    "recovery_terms": {"model": MODEL, "batch": BATCH, "roles": ROLES, "state": STATE},
    "shard_map_loss": {"loss": part, "mesh": MESH, "axis_name": "data"},
    "simple_loss": {**ALL, "options": objective.LossOptions(dropout={"y": 0.1})},
    "step_noise": {"key": KEY, "t": 3, "like": NOISE},
}  # fmt: skip
CALLS |= {f"{name}_terms": CALLS[name] for name in ("simple_loss", "bound_loss")}
OTHERS = {"BoundTerms", "LossTerm", "LossTerms", "v_weighting"}
WITH_LISTS = [name for name in CALLS if {"batch", "snr", "z"} & set(CALLS[name])]


def test_every_public_name_is_tried():
    assert set(CALLS) | OTHERS == set(objective.__all__)


@pytest.mark.parametrize("name", CALLS)
def test_wrong_kinds_get_one_clear_line(name):
    function = getattr(objective, name)
    assert habits.outcome(function, CALLS[name]) is None
    assert habits.complaints(function, CALLS[name]) == []


@pytest.mark.parametrize("name", WITH_LISTS)
def test_lists_and_numpy_arrays_are_arrays(name):
    """By shape and dtype; that the values are the same is tried for one loss below."""
    function, arguments = getattr(objective, name), CALLS[name]

    def shapes(change):
        changed = {
            key: value
            if key in ("clean", "state", "model", "diffusion", "roles", "mesh", "loss", "options")
            else habits.with_leaves({key: value}, change)[key]
            for key, value in arguments.items()
        }
        return jax.eval_shape(lambda: jax.tree.map(jnp.asarray, function(**changed)))

    want = shapes(lambda x: x)
    assert shapes(np.asarray) == want
    assert shapes(lambda x: np.asarray(x).tolist()) == want


def test_lists_and_old_keys_give_the_same_loss():
    want = objective.simple_loss(**ALL)[0]
    lists = {name: np.asarray(x).tolist() for name, x in BATCH.items()}
    mask = {"y": [True, False, True]}
    old = {**ALL, "key": jax.random.PRNGKey(0), "batch": lists, "presence": mask}
    np.testing.assert_allclose(objective.simple_loss(**old)[0], want, rtol=1e-6)


@pytest.mark.parametrize(
    "name", [name for name in CALLS if {"diffusion", "process"} & {*CALLS[name]}]
)
def test_a_process_on_the_host(name):
    """As `jax.device_get` leaves it, or a file that it was read from."""
    host = jax.device_get(PROCESS)
    changed = {"process": host, "diffusion": Diffusion(host, MODEL)}
    arguments = {key: changed.get(key, value) for key, value in CALLS[name].items()}
    assert habits.outcome(getattr(objective, name), arguments) is None


@pytest.mark.parametrize("name", [name for name in CALLS if "key" in CALLS[name]])
def test_keys_of_the_old_style(name):
    function, old = getattr(objective, name), {**CALLS[name], "key": jax.random.PRNGKey(0)}
    assert habits.outcome(function, old) is None


LOSSES = ("simple_loss", "bound", "bound_loss", "flow_bound", "candidate_log_probs")


@pytest.mark.parametrize("name", [*LOSSES, "recovery_terms"])
@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"log_prob": lambda m, x: m[:, :1]}, r"log_prob`: got .*\(3, 1\), expected shape \(3,\)"),
        ({"log_prob": lambda m, x: (m * x).sum()}, r"log_prob`: got .*\(\), expected shape \(3,\)"),
        ({"log_prob": lambda m, x: None}, "log_prob`: got None, expected an array"),
    ],
)
def test_a_likelihood_of_another_shape(name, wrong, words):
    """(batch, 1) would broadcast to (batch, batch), and be a mean over wrong pairs."""
    model = plain_model.shared(y=plain_model.point(**wrong))
    changed = {"model": model}
    if "diffusion" in CALLS[name]:
        changed = {"diffusion": Diffusion(PROCESS, model)}
    with pytest.raises(ValueError, match=rf"`modalities\['y'\]\.{words}"):
        getattr(objective, name)(**{**CALLS[name], **changed})


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"encode": lambda x: x[:1]}, r"encode`: got .*\(1, 2\), expected shape \(3, …\)"),
        ({"encode": lambda x: x[:, :1]}, r"encode`: got an encoding of shape \(3, 1\)"),
        ({"expected_encoding": lambda m: m[:, :1]}, r"expected_encoding`: got .*shape \(3, 1\)"),
    ],
)
def test_an_encoding_of_another_shape(wrong, words):
    model = plain_model.shared(y=plain_model.point(**wrong))
    with pytest.raises(ValueError, match=rf"`modalities\['y'\]\.{words}"):
        objective.simple_loss(**{**ALL, "diffusion": Diffusion(PROCESS, model)})


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (lambda z: z, "`denoise`: got an array of shape .*, expected a value of type Prediction"),
        (lambda z: Prediction(z[:, :1], {"y": z}), r"`prediction.value`: got .*\(3, 1\)"),
        (lambda z: Prediction(z, z), "`prediction.heads`: got an array"),
        (lambda z: Prediction(z, {}), "`modality`: got 'y', expected no entry"),
        (lambda z: Prediction(z, {"y": z}, z[:, :1]), "`prediction.variance_mix`: got"),
    ],
)
def test_an_answer_that_does_not_fit(answer, words):
    model = plain_model.shared(lambda z_t, t: answer(z_t))
    with pytest.raises(ValueError, match=words):
        objective.bound_at(**{**AT, "diffusion": Diffusion(PROCESS, model)})


def test_a_weighting_of_another_shape():
    wide = objective.LossOptions(weighting=lambda snr: snr[:, None])
    with pytest.raises(ValueError, match=r"`weighting`: got a result of shape \(3, 1\)"):
        objective.simple_loss(**ALL, options=wide)
    two = objective.LossOptions(weighting=lambda snr: 2.0)
    doubled = objective.simple_loss(**ALL, options=two)[1]["x/squared_error"].value
    plain = objective.simple_loss(**ALL)[1]["x/squared_error"].value
    np.testing.assert_allclose(doubled, 2 * plain, rtol=1e-6)


def test_known_values_under_jit():
    """Checks of known values are made on the host, where jit traces nothing."""
    pi, t = np.full(6, 1 / 6), jnp.array([1, 3, 6])
    presence = {"y": jnp.array([True, False, True])}
    run = jax.jit(
        lambda batch: (
            objective.bound_at(
                t, NOISE, Diffusion(PROCESS, MODEL), batch, presence, recovery_weights=pi
            ).total
        )
    )
    assert run(BATCH).shape == (3,)


@pytest.mark.parametrize("x64", [False, True], ids=["", "x64"])
@pytest.mark.parametrize("dtype", ["bfloat16", "float16", "float32"])
@pytest.mark.parametrize("name", LOSSES)
def test_networks_and_data_of_any_dtype(name, dtype, x64):
    """What comes out is of the dtype of the states, at least float32, with strict promotion."""

    def denoise(z_t, t):
        return Prediction(z_t.astype(dtype) / 2, {"y": jnp.tanh(z_t.astype(dtype))})

    model = plain_model.shared(denoise)
    with jax.enable_x64(x64), jax.numpy_rank_promotion("raise"):
        data = {name: np.asarray(x).astype(dtype) for name, x in BATCH.items()}
        changed = {"model": model}
        if "diffusion" in CALLS[name]:
            changed = {"diffusion": Diffusion(PROCESS, model)}
        arguments = {**CALLS[name], **changed, "batch": data}
        out = jax.eval_shape(lambda: getattr(objective, name)(**arguments))
        kinds = {leaf.dtype.name for leaf in jax.tree.leaves(out)}
        assert kinds <= {"float32", "float64"}
        assert kinds == {"float32"} or x64
