"""The optimisers, against PyTorch's and Optax's own."""

import dataclasses
import math

import chex
import jax
import numpy as np
import optax
import pytest
import torch
from flax import traverse_util

from mmdiffusion_jax import training

RATE, DECAY = 0.1, 0.5
MUON = training.TrainingOptions(
    num_steps=10,
    learning_rate=RATE,
    warmup_steps=0,
    weight_decay=DECAY,
    gradient_clip=math.inf,
    optimiser="muon",
)


def test_muon_is_pytorchs_for_matrices_within_and_adamw_elsewhere():
    """A linear layer, two blocks of a scan, a convolution of 3 × 3; biases, inputs and heads."""
    shapes = {
        ("backbone", "blocks_0", "hidden", "kernel"): (6, 4),
        ("backbone", "blocks", "hidden", "kernel"): (2, 4, 6),
        ("backbone", "down_0", "conv", "kernel"): (3, 3, 2, 5),
        ("backbone", "blocks_0", "hidden", "bias"): (4,),
        ("backbone", "patches", "kernel"): (4, 6),
        ("backbone", "blocks_0", "modulation", "kernel"): (4, 6),
        ("modalities_label", "head", "kernel"): (4, 6),
    }
    draw = np.random.default_rng(1).normal
    params, gradient = (
        traverse_util.unflatten_dict({n: np.float32(draw(size=x)) for n, x in shapes.items()})
        for _ in range(2)
    )
    optimiser = training.make_optimiser(MUON)
    updates, _ = optimiser.update(gradient, optimiser.init(params), params)
    updates, value, g = map(traverse_util.flatten_dict, (updates, params, gradient))
    matrices = [*shapes][:3]
    for name in shapes:
        if name not in matrices:
            want = -RATE * (np.sign(g[name]) + DECAY * value[name] * (value[name].ndim > 1))
            np.testing.assert_allclose(updates[name], want, atol=1e-4 * RATE)

    def by_torch(value, gradient):
        """One step of a matrix (in, out), which PyTorch has as (out, in)."""
        weight = torch.nn.Parameter(torch.tensor(value.T))
        weight.grad = torch.tensor(gradient.T)
        torch.optim.Muon([weight], RATE, weight_decay=DECAY, adjust_lr_fn="match_rms_adamw").step()
        return weight.detach().numpy().T - value

    close = {"rtol": 0.1, "atol": 0.02 * RATE}  # PyTorch orthogonalises in bfloat16
    one, stack, conv = matrices
    np.testing.assert_allclose(updates[one], by_torch(value[one], g[one]), **close)
    for block in range(2):
        want = by_torch(value[stack][block], g[stack][block])
        np.testing.assert_allclose(updates[stack][block], want, **close)
    flat = lambda x: x.reshape(-1, 5)  # noqa: E731
    want = by_torch(flat(value[conv]), flat(g[conv]))
    np.testing.assert_allclose(flat(updates[conv]), want, **close)


@pytest.mark.parametrize("optimiser", ["adamw", "muon"])
def test_biases_and_norms_of_a_scan_do_not_decay(optimiser):
    """Without a gradient a parameter changes by its decay alone."""
    names = ("kernel", "bias", "scale")
    params = {"backbone": {"blocks": {name: np.ones((2, 4, 6), np.float32) for name in names}}}
    gradient = jax.tree.map(np.zeros_like, params)
    options = dataclasses.replace(MUON, optimiser=optimiser)
    ours = training.make_optimiser(options)
    updates, _ = ours.update(gradient, ours.init(params), params)
    decayed = {name: bool(np.any(x)) for name, x in updates["backbone"]["blocks"].items()}
    assert decayed == {"kernel": True, "bias": False, "scale": False}
    if optimiser == "adamw":  # a pytree may be one array
        matrix = np.ones((2, 2), np.float32)
        assert ours.update(0 * matrix, ours.init(matrix), matrix)[0].all()


def test_muon_in_a_loop_takes_optaxs_steps_and_has_its_state():
    """Of one matrix, so that all of the state is Muon's."""
    draw = np.random.default_rng(2).normal
    ours = training.make_optimiser(MUON)
    theirs = optax.contrib.muon(
        optax.cosine_decay_schedule(RATE, MUON.num_steps), weight_decay=DECAY, consistent_rms=0.2
    )
    params = want = {"backbone": {"kernel": np.float32(draw(size=(6, 4)))}}
    state, other = ours.init(params), theirs.init(params)
    for _ in range(3):
        gradient = jax.tree.map(lambda x: np.float32(draw(size=x.shape)), params)
        updates, state = ours.update(gradient, state, params)
        params = optax.apply_updates(params, updates)
        updates, other = theirs.update(gradient, other, want)
        want = optax.apply_updates(want, updates)
    chex.assert_trees_all_close(params, want, rtol=1e-5)
    chex.assert_trees_all_close(_muon_state(state), _muon_state(other), rtol=1e-5)


def _muon_state(state):
    """The momentum, the coefficients and the count, in a list."""
    is_muon = lambda x: isinstance(x, optax.contrib.MuonState)  # noqa: E731
    (muon,) = [x for x in jax.tree.leaves(state, is_leaf=is_muon) if is_muon(x)]
    return jax.tree.leaves(muon)
