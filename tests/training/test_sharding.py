"""Meshes of eight simulated devices against one device, and what they send against theory."""

import json

import jax
import jax.numpy as jnp
import pytest
from jax.sharding import AbstractMesh, PartitionSpec

from mmdiffusion_jax import training
from mmdiffusion_jax.training import sharding
from tests.apps.small import run_python
from tests.training.mesh_worker import BATCH, DEPTH, MESHES, TOKENS, WIDTH


@pytest.fixture(scope="module")
def report(tmp_path_factory):
    folder = tmp_path_factory.mktemp("meshes")
    done = run_python("tests/training/mesh_worker.py", folder, devices=8)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def sizes(name):
    options = training.ShardingOptions(**MESHES[name])
    return options.data or 8 // (options.fsdp * options.tensor), options.fsdp, options.tensor


def test_every_mesh_takes_the_same_steps(report):
    for name in MESHES:
        assert report[name]["difference"] < 2e-6, name
    assert report["accumulated"] < 2e-6


def test_a_checkpoint_is_restored_onto_any_other_mesh(report):
    for name in MESHES:
        saved, laid_out, difference = report[name]["restored"]
        assert saved != name
        assert laid_out, name
        assert difference == 0, (saved, name)


def test_devices_share_what_the_options_share(report):
    """All but the biases, which are too small, over fsdp; two thirds of them over tensor too."""
    small = 4 * DEPTH * (4 * WIDTH + WIDTH)
    for name in MESHES:
        if name != "one":
            _, fsdp, tensor = sizes(name)
            kernels = report[name]["bytes"] - small
            assert kernels / (fsdp * tensor) <= report[name]["held"]
            assert report[name]["held"] <= kernels / (fsdp * tensor) + small
            # Parameters, average and momentum, and little else.
            assert 3 * report[name]["held"] < report[name]["state"] < 3 * report[name]["held"] + 100


def test_bytes_sent_are_what_the_layout_costs(report):
    """Rings: a sum of b bytes over n devices costs 2 b (n − 1)/n, gathering them b (n − 1)/n."""
    assert report["one"]["sent"] == {}
    for name in ("data", "fsdp", "data_fsdp", "data_tensor", "all"):
        data, fsdp, tensor = sizes(name)
        whole = report[name]["bytes"] / tensor
        replicas = data * fsdp
        small = 4 * DEPTH * 5 * WIDTH
        # Gradients are summed over all replicas, parameters gathered once.
        expected = 2 * whole * (replicas - 1) / replicas + whole * (fsdp - 1) / fsdp
        if tensor > 1:
            # Forwards the sum after each second layer, backwards before each first one; what
            # comes before the very first layer are data.
            activations = 4 * BATCH * TOKENS * WIDTH / replicas
            expected += (2 * DEPTH - 1) * 2 * activations * (tensor - 1) / tensor
        sent = sum(report[name]["sent"].values())
        assert abs(sent - expected) < 2 * small + 500, (name, report[name]["sent"], expected)


def test_a_simulated_mesh_lays_out_by_the_rules():
    mesh = AbstractMesh((2, 2, 2), sharding.AXES)

    def spec(name, *shape, **options):
        tree = {name: jax.ShapeDtypeStruct(shape, jnp.float32)}
        layout = sharding.state_sharding(mesh, tree, training.ShardingOptions(**options))
        return layout[name].spec

    assert spec("a/hidden/kernel", 256, 1024) == PartitionSpec("fsdp", "tensor")
    assert spec("a/narrow/kernel", 1024, 256) == PartitionSpec("tensor", "fsdp")
    # A stack of layers has one dimension more.
    assert spec("a/out/kernel", 12, 128, 128) == PartitionSpec(None, "tensor", "fsdp")
    assert spec("a/other/kernel", 130, 1023) == PartitionSpec("fsdp", None)
    assert spec("a/hidden/kernel", 4, 4) == PartitionSpec(None, None)
    rules = (("other/kernel", ("tensor", None)),)
    assert spec("a/other/kernel", 4, 4, rules=rules) == PartitionSpec("tensor", None)
    with pytest.raises(ValueError, match=r"`sharding.rules`: got .*'a/other/kernel' of shape"):
        spec("a/other/kernel", 5, 4, rules=rules)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"fsdp": 0}, "`sharding.fsdp`: got 0, expected 1 or more"),
        ({"rules": (("a", ("tensr",)),)}, "did you mean 'tensor'"),
        ({"rules": (("(", ()),)}, "`sharding.rules`: got"),
        ({"rules": ("a",)}, "`sharding.rules`: got a, expected pairs"),
        ({"fsdp": 3}, "`sharding`: got data 0, fsdp 3, tensor 1, expected sizes whose product"),
    ],
)
def test_bad_options(options, words):
    with pytest.raises(ValueError, match=words):
        training.make_mesh(training.ShardingOptions(**options))
