"""Both sides are the same network, loss, optimiser and sampler: else their times say nothing."""

import copy
import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch

from benchmarks.speed import ours, rival, sizes
from mmdiffusion_jax import experiment
from mmdiffusion_jax.model import CleanState
from mmdiffusion_jax.networks import convert
from mmdiffusion_jax.networks.embeddings import grid_embedding
from mmdiffusion_jax.objective.bound import draw_t_and_noise

DIT = {"kind": "dit", "latent": (8, 8, 2), "batch": 4, "width": 16, "depth": 1, "num_heads": 2}
UVIT = {**DIT, "kind": "uvit", "depth": 3}
ADM = {**sizes.TOY["ADM-64"], "latent": (8, 8, 2), "dtype": "float32"}


def head_of(tensors):
    """Our head's parameters from theirs."""

    def layer(name, leaf="kernel"):
        weight, bias = (tensors[f"head.{name}.{part}"] for part in ("weight", "bias"))
        return {leaf: weight.T, "bias": bias}

    return {
        "Dense_0": layer("modulation"),
        "LayerNorm_0": layer("norm", "scale"),
        "Dense_1": layer("out"),
    }


def parameters(built, model):
    """Theirs under our names."""
    tensors = {name: x.detach().numpy().copy() for name, x in model.state_dict().items()}
    net = {name.removeprefix("net."): x for name, x in tensors.items() if name.startswith("net.")}
    backbone = built.model.backbone
    # The converters count the published steps from 0; here both sides count from 1.
    if isinstance(model.net, rival.TorchDiT):
        # Without a class, as the other side runs it.
        net["y_embedder.embedding_table.weight"][:] = 0
        params = convert.from_dit(net, backbone)
        params["time_1"]["kernel"] = net["t_embedder.mlp.0.weight"].T
    elif isinstance(model.net, rival.TorchUViT):
        params = convert.from_uvit(net, backbone)
    else:
        params = convert.from_adm(net, backbone)
        params["time_1"]["kernel"] = net["time_embed.0.weight"].T
        params["condition"] = {
            "kernel": tensors["head.condition.weight"].T,
            "bias": tensors["head.condition.bias"],
        }
    return jax.tree.map(jnp.array, {"backbone": params, "modalities_image": head_of(tensors)})


@pytest.fixture(
    scope="module",
    params=[DIT, UVIT, pytest.param(ADM, marks=pytest.mark.long)],
    ids=lambda size: size["kind"],
)
def sides(request):
    torch.manual_seed(0)
    model = rival.Model(request.param)
    with torch.no_grad():
        for value in model.parameters():
            value.normal_(std=0.5 * value[0].numel() ** -0.5 if value.ndim > 1 else 0.3)
        if request.param["kind"] == "dit":
            model.net.pos_embed.copy_(torch.tensor(grid_embedding(4, 4, 16)[None]))
    built = experiment.build(ours.config_of(request.param))
    return request.param, built, parameters(built, model), model


def flat(tree):
    return np.concatenate([np.ravel(leaf) for leaf in jax.tree.leaves(tree)])


def to_torch(x):
    return torch.tensor(np.asarray(x)).permute(0, 3, 1, 2)


def test_the_same_forward(sides):
    _, built, params, model = sides
    z, t = (
        np.asarray(jax.random.normal(jax.random.key(1), (4, 8, 8, 2))),
        np.array([1, 9, 500, 999]),
    )
    got = jax.jit(ours.forward_of(built))(params, z, t)
    with torch.no_grad():
        want = model(to_torch(z), torch.tensor(t))[0].permute(0, 2, 3, 1)
    np.testing.assert_allclose(got, want.numpy(), atol=2e-5)
    assert want.std() > 0.1


@pytest.mark.long
def test_the_same_steps(sides, monkeypatch):
    """Loss, gradient, clip, AdamW, learning rate and average, over three steps."""
    for name, value in (("LEARNING_RATE", 1e-3), ("WARMUP_STEPS", 2), ("WEIGHT_DECAY", 3.0)):
        monkeypatch.setattr(sizes, name, value)
    size, _, params, model = sides
    built, model = experiment.build(ours.config_of(size)), copy.deepcopy(model)
    step = ours.TrainStep(built, ours.random_batch(built))
    # The step gives up the state that it is handed.
    copies = (jax.tree.map(jnp.copy, params) for _ in range(2))
    step.state = jax.device_put(
        dataclasses.replace(step.state, params=next(copies), ema=next(copies)),
        step.state.step.sharding,
    )
    training = rival.Training(model)
    x = step.batch["image"]
    for _ in range(3):
        # As `simple_loss` draws them.
        _, key = jax.random.split(jax.random.fold_in(step.state.key, step.state.step))
        t, noise = draw_t_and_noise(key, built.process.schedule, CleanState(x, {}), "uniform")
        training.step(to_torch(x), torch.tensor(np.asarray(t)).long(), to_torch(noise))
        step(1)
    for got, theirs in ((step.state.params, model), (step.state.ema, training.average)):
        got, want, before = (flat(tree) for tree in (got, parameters(built, theirs), params))
        # Where a gradient is zero but for rounding, as of the keys' biases, Adam makes it a step.
        moved = np.abs(want - before)
        assert np.mean(np.abs(got - want) <= 0.02 * moved) > 0.97
        assert np.median(moved) > 5e-4


@pytest.mark.parametrize("sides", [DIT], indirect=True, ids=["dit"])
def test_the_same_walk(sides):
    _, built, params, model = sides
    z = jax.random.normal(jax.random.key(2), (4, 8, 8, 2))
    got = jax.jit(ours.walk_of(built, z.shape))(params, jax.random.key(0), z)
    with torch.no_grad():
        want = rival.walk(rival.Training(model).predict, to_torch(z)).permute(0, 2, 3, 1)
    np.testing.assert_allclose(got, want.numpy(), rtol=1e-3, atol=1e-3)
