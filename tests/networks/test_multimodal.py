"""The model that joins the parts: shapes, what conditions it, and its form in float32."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax._src.cudnn import fused_attention_stablehlo

from mmdiffusion_jax.modalities import Image, Label
from mmdiffusion_jax.model import training_roles
from mmdiffusion_jax.networks import DiT, MultiModalModel, attention

LATENT = (8, 8, 1)


def small(**options):
    channels = 2 if options.get("variance") == "learned" else 1
    return MultiModalModel(
        modalities={
            "image": Image(latent=LATENT, is_primary=True, num_levels=17),
            "label": Label(latent=LATENT, num_classes=10),
        },
        backbone=DiT(LATENT, channels, num_steps=10, width=16, depth=1, num_heads=2),
        primary="image",
        **options,
    )


def parameters(model):
    batch = {"image": jnp.zeros((1, 8, 8, 1), jnp.uint8), "label": jnp.zeros((1,), jnp.int32)}
    return jax.jit(model.init)(jax.random.key(0), batch, jnp.ones((1,), jnp.int32))["params"]


@pytest.mark.parametrize("variance", ["posterior", "learned"])
def test_answers_have_the_contracts_shapes(variance):
    model = small(variance=variance)
    functions = model.functions(parameters(model))
    z, t = jnp.ones((3, *LATENT)), jnp.array([1, 5, 10])
    answer = jax.jit(functions.predict)(z, t)
    assert answer.value.shape == z.shape
    assert (answer.variance_mix is not None) == (variance == "learned")
    assert answer.heads["label"].shape == (3, 10)
    assert answer.heads["image"]["log_std"].shape == z.shape
    # adaLN-zero starts as the zero function.
    assert float(jnp.abs(answer.value).max()) == 0


def test_the_roles_condition_the_network():
    model = small()
    params = parameters(model)
    assert params["backbone"]["context"]["kernel"].shape == (1, 16)
    predict = jax.jit(model.functions(params).predict)
    z, t = jnp.ones((2, *LATENT)), jnp.array([5, 5])
    batch = {"image": z, "label": z}
    roles = training_roles(model, batch, {"label": jnp.array([1.0, 0.0])})
    logits = predict(z, t, roles).heads["label"]
    assert float(jnp.abs(logits[0] - logits[1]).max()) > 1e-3
    np.testing.assert_allclose(predict(z, t).heads["label"][0], logits[0], rtol=1e-5)


def test_a_forward_derivative_where_attention_is_fused(monkeypatch):
    """With a GPU feigned: the kernel of bfloat16 has none, so float32 takes its place."""
    monkeypatch.setattr(attention, "_has_fused_kernel", lambda: True)
    monkeypatch.setattr(fused_attention_stablehlo, "check_cudnn_version", lambda: 91000)
    model = small()
    half = model.clone(backbone=model.backbone.clone(dtype="bfloat16"))
    params = jax.eval_shape(lambda: parameters(model))
    z, t = jnp.ones((4, *LATENT)), jnp.array([1, 2, 3, 4])

    def lower(model):
        def push(params):
            return jax.jvp(lambda z: model.functions(params).predict(z, t).value, (z,), (z,))[1]

        return jax.jit(push).trace(params).lower(lowering_platforms=("cuda",))

    assert half.in_float32().backbone == model.in_float32().backbone == model.backbone
    assert lower(half.in_float32()).out_info.shape == z.shape
    with pytest.raises(TypeError, match="forward-mode"):
        lower(half)
