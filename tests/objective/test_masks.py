"""Masks among the columns of a batch, which the losses and bounds would not read."""

import dataclasses

import jax
import jax.numpy as jnp
import pytest

from mmdiffusion_jax import baselines, model, objective
from tests import plain_model

BATCH = plain_model.batch()
MASK = jnp.array([1, 0, 1])
COLUMNS = {**BATCH, "y_present": MASK}
KEY = jax.random.key(0)
MODEL = plain_model.shared()
DIFFUSION = model.Diffusion(plain_model.PROCESS, MODEL)

CALLS = {
    "simple_loss": lambda batch: objective.simple_loss(KEY, DIFFUSION, batch),
    "bound_loss": lambda batch: objective.bound_loss(KEY, DIFFUSION, batch),
    "bound": lambda batch: objective.bound(KEY, DIFFUSION, batch),
    "bound of a chain": lambda batch: objective.bound(KEY, DIFFUSION, batch, order=["x, y"]),
    "bound_at": lambda batch: objective.bound_at(MASK + 1, BATCH["x"], DIFFUSION, batch),
    "bound_estimate": lambda batch: objective.bound_estimate(KEY, DIFFUSION, batch),
    "flow_bound": lambda batch: objective.flow_bound(KEY, DIFFUSION, batch),
    "candidate_log_probs": lambda batch: objective.candidate_log_probs(
        KEY, DIFFUSION, batch, "y", BATCH["y"]
    ),
    "training_roles": lambda batch: model.training_roles(MODEL, batch),
    "separate_loss_terms": lambda batch: baselines.separate_loss_terms(
        KEY, plain_model.SCHEDULE, plain_model.separate(), batch
    ),
}


@pytest.mark.parametrize("name", CALLS)
def test_a_mask_among_the_columns_is_refused(name):
    words = "`batch`: got a column 'y_present', expected .*`presence`; .*model.split_presence"
    with pytest.raises(ValueError, match=words):
        CALLS[name](COLUMNS)
    # Columns of what the model does not have are none of its masks.
    CALLS[name]({**BATCH, "z_present": MASK, "z": MASK})


def test_parted_by_the_function_that_the_error_names():
    values, presence = model.split_presence(COLUMNS)
    loss, scalars = objective.simple_loss(KEY, DIFFUSION, values, presence)
    assert jnp.isfinite(loss)
    assert float(scalars["y/loss"].count) == int(MASK.sum())


def test_a_modality_may_have_the_name_of_a_mask():
    named = {"x": MODEL.modalities["x"], "x_present": MODEL.modalities["y"]}
    functions = dataclasses.replace(MODEL, modalities=named)
    roles = model.training_roles(functions, {"x": BATCH["x"], "x_present": BATCH["y"]})
    assert roles.present("x_present").all()
