"""Every kind of modality keeps the contract, alone and in a model of all of them."""

import jax
import jax.numpy as jnp
import pytest

from mmdiffusion_jax.modalities import MODALITIES
from mmdiffusion_jax.model import estimate_encodings
from mmdiffusion_jax.networks import DiT, MultiModalModel
from tests.modalities.cases import CASES
from tests.modalities.contract import CHECKS, LATENT


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
@pytest.mark.parametrize("kind", CASES)
def test_contract(kind, check):
    check(CASES[kind])


def test_every_kind_has_its_case():
    assert {type(case.modality) for case in CASES.values()} == set(MODALITIES.values())


def test_one_model_of_all_kinds():
    modalities = {kind: case.modality for kind, case in CASES.items() if kind != "image"}
    modalities["image"] = MODALITIES["image"](latent=LATENT, is_primary=True)
    backbone = DiT(LATENT, LATENT[2], num_steps=10, width=8, depth=1, num_heads=2)
    model = MultiModalModel(modalities=modalities, backbone=backbone, primary="image")
    batch, t = {kind: jnp.asarray(case.x) for kind, case in CASES.items()}, jnp.array([1, 5, 10])

    def nats():
        functions = model.functions(model.init(jax.random.key(0), batch, t)["params"])
        answer = functions.predict(jnp.ones((3, *LATENT)), t)
        return estimate_encodings(functions, answer), {
            kind: functions.modalities[kind].log_prob(answer.heads[kind], batch[kind])
            for kind in functions.secondaries
        }

    # Shapes alone: the values are checked kind by kind.
    estimates, log_probs = jax.eval_shape(nats)
    assert set(log_probs) == set(estimates) == set(CASES) - {"image"}
    assert {x.shape for x in log_probs.values()} == {(3,)}
    assert {x.shape for x in estimates.values()} == {(3, *LATENT)}
