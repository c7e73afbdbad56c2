"""LPIPS against PyTorch with the same random backbone, and against the package itself."""

import importlib.util

import numpy as np
import pytest
import torch
from safetensors.numpy import save_file

from mmdiffusion_jax.metrics import LPIPS
from mmdiffusion_jax.metrics.features import lpips
from tests.metrics.features import torch_networks

LAST = {"alex": (1, 4, 7, 9, 11), "vgg": (3, 8, 15, 22, 29)}
WIDTHS = {"alex": (64, 192, 384, 256, 256), "vgg": (64, 128, 256, 512, 512)}
X, Y = np.random.default_rng(0).uniform(-1, 1, (2, 3, 38, 33, 3)).astype(np.float32)


@pytest.fixture(autouse=True)
def _optimised(monkeypatch):
    # A large network runs for longer unoptimised than it compiles optimised.
    monkeypatch.setattr(lpips, "_distance", torch_networks.optimised(lpips._distance, 0))


def random_network(name):
    torch.manual_seed(0)
    backbone = {"alex": torch_networks.alexnet, "vgg": torch_networks.vgg16}[name]()
    linear = {
        f"lin{i}.model.1.weight": torch.rand(1, width, 1, 1).numpy()
        for i, width in enumerate(WIDTHS[name])
    }
    return backbone, linear


def by_torch(name, backbone, linear, x, y):
    scaled = []
    for each in (x, y):
        maps = torch.tensor(each).permute(0, 3, 1, 2)
        shift, scale = torch.tensor([[-0.030, -0.088, -0.188], [0.458, 0.448, 0.450]])
        maps = (maps - shift.view(3, 1, 1)) / scale.view(3, 1, 1)
        layers = []
        for i, layer in enumerate(backbone.features[: LAST[name][-1] + 1]):
            maps = layer(maps)
            if i in LAST[name]:
                layers.append(torch.nn.functional.normalize(maps, dim=1, eps=1e-10))
        scaled.append(layers)
    total = 0
    for i, (a, b) in enumerate(zip(*scaled)):
        weight = torch.tensor(linear[f"lin{i}.model.1.weight"])
        total = total + torch.nn.functional.conv2d((a - b) ** 2, weight).mean(dim=(1, 2, 3))
    return total.detach().numpy()


@pytest.mark.parametrize(("name", "shape"), [("alex", (3, 38, 33)), ("vgg", (2, 17, 16))])
def test_against_torch(name, shape, tmp_path):
    pairs, height, width = shape
    x, y = (each[:pairs, :height, :width].copy() for each in (X, Y))
    y[-1] = x[-1]
    backbone, linear = random_network(name)
    weights = {k: torch.tensor(v) for k, v in torch_networks.state_of(backbone).items()}
    torch.save(weights, tmp_path / "weights.pth")
    save_file(linear, tmp_path / "linear.safetensors")
    network = LPIPS.from_files(name, tmp_path / "weights.pth", tmp_path / "linear.safetensors")
    got = network.distance(x, y, batch_size=2)
    np.testing.assert_allclose(got, by_torch(name, backbone, linear, x, y), 1e-4, 1e-9)
    assert got[-1] < 1e-9
    assert network.identity.startswith(f"lpips-{name}-")


@pytest.mark.skipif(not importlib.util.find_spec("lpips"), reason="lpips is not installed")
@pytest.mark.parametrize("name", ["alex", "vgg"])
def test_against_the_package(name, monkeypatch):
    package = torch_networks.without_torchvision(monkeypatch, "lpips")
    torch.manual_seed(1)
    # Its own linear weights, which it brings along, and a random backbone.
    theirs = package.LPIPS(net=name, pnet_rand=True, verbose=False)
    state = {k: v.numpy() for k, v in theirs.state_dict().items()}
    weights = {
        "features." + ".".join(k.split(".")[2:]): v
        for k, v in state.items()
        if k.startswith("net.slice")
    }
    linear = {k: v for k, v in state.items() if k.startswith("lin") and ".model." in k}
    with torch.no_grad():
        want = theirs(*(torch.tensor(z).permute(0, 3, 1, 2) for z in (X, Y))).numpy().reshape(-1)
    got = LPIPS.from_tensors(name, weights, linear).distance(X, Y, batch_size=2)
    np.testing.assert_allclose(got, want, rtol=1e-4)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"backbone": "vgg16"}, "`backbone`: got 'vgg16', expected one of 'alex', 'vgg'"),
        ({"backbone": "vgg"}, r"weights\['features.0.weight'\]`: got shape \(64, 3, 11, 11\)"),
        ({"weights": {}}, "`weights`: got no tensor 'features.0."),
        ({"linear": {}}, "`weights`: got no tensor 'lin0.model.1.weight'"),
    ],
)
def test_weights_of_another_network(change, words):
    backbone, linear = random_network("alex")
    if change.get("backbone") == "vgg":
        linear = random_network("vgg")[1]
    given = {"backbone": "alex", "weights": torch_networks.state_of(backbone), "linear": linear}
    with pytest.raises(ValueError, match=words):
        LPIPS.from_tensors(**{**given, **change})


def test_a_grey_channel_is_repeated():
    backbone, linear = random_network("alex")
    network = LPIPS.from_tensors("alex", torch_networks.state_of(backbone), linear)
    grey = X[..., :1], Y[..., :1]
    whole = [np.repeat(x, 3, axis=-1) for x in grey]
    np.testing.assert_array_equal(network.distance(*grey), network.distance(*whole))


def test_bad_pairs():
    backbone, linear = random_network("alex")
    network = LPIPS.from_tensors("alex", torch_networks.state_of(backbone), linear)
    for x, y in ((X, Y[:1]), (X[:, :30], Y[:, :30]), (X[..., :2], Y[..., :2])):
        with pytest.raises(ValueError, match=r"`x and y`: got shapes .* sides of 31 or more"):
            network.distance(x, y)
    for x, y in ((X, 200 * Y), (np.full_like(X, np.nan), Y), (X[:0], Y[:0])):
        with pytest.raises(ValueError, match=r"`x and y`: got \d pairs of values outside"):
            network.distance(x, y)
