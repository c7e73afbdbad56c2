"""The divergence of Gaussians against PyTorch."""

import jax.numpy as jnp
import numpy as np
import torch

from mmdiffusion_jax import process


def test_kl_against_torch():
    rng = np.random.default_rng(2)
    means = rng.normal(size=(2, 3, 4)).astype(np.float32)
    variances = rng.uniform(0.1, 2, size=(2, 3, 4)).astype(np.float32)
    ours = process.gaussian_kl(
        *(process.Gaussian(jnp.asarray(m), jnp.asarray(v)) for m, v in zip(means, variances))
    )
    p, q = (
        torch.distributions.Normal(torch.tensor(m), torch.tensor(v).sqrt())
        for m, v in zip(means, variances)
    )
    want = torch.distributions.kl_divergence(p, q).sum(1).numpy()
    np.testing.assert_allclose(ours, want, rtol=1e-5)
