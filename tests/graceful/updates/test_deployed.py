"""What is absent pulls no encoder of a successor toward the deployed one."""

import jax
import jax.numpy as jnp
import numpy as np

from mmdiffusion_jax import graceful
from tests import plain_model


def test_placeholders_enter_neither_the_distance_nor_its_gradient():
    def model(scale):
        return plain_model.shared(y=plain_model.point(encode=lambda x: scale * jnp.log(x)))

    def distance(scale, placeholder):
        values = jnp.where(present[:, None] > 0, jnp.arange(1.0, 7.0).reshape(3, 2), placeholder)
        batch = {"x": jnp.ones((3, 2)), "y": values}
        return graceful.latent_distance(model(scale), model(0.5), batch, {"y": present})

    for present in (jnp.array([1.0, 0.0, 1.0]), jnp.zeros(3)):
        results = [jax.value_and_grad(distance)(0.7, x) for x in (2.0, -1.0, 0.0, jnp.nan)]
        assert jnp.isfinite(results[0][1])
        assert (results[0][0] > 0) == bool(present.any())
        for other in results[1:]:
            np.testing.assert_array_equal(other, results[0])
