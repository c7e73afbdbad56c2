"""PyTorch networks with random weights under the names in which the true weights are published."""

import importlib
import sys
import types

import jax
import numpy as np
import torch
import torch.nn.functional as F
from scipy.ndimage import map_coordinates
from torch import nn

from tests import xla


def alexnet(**_):
    """The layers of torchvision's AlexNet before its classifier."""
    widths = ((3, 64, 11, 4, 2), (64, 192, 5, 1, 2), (192, 384, 3, 1, 1), (384, 256, 3, 1, 1))
    layers = []
    for i, (before, after, size, stride, padding) in enumerate((*widths, (256, 256, 3, 1, 1))):
        layers += [nn.Conv2d(before, after, size, stride, padding), nn.ReLU()]
        if i in (0, 1, 4):
            layers.append(nn.MaxPool2d(3, 2))
    return types.SimpleNamespace(features=nn.Sequential(*layers))


def vgg16(**_):
    """The layers of torchvision's VGG16 before its classifier."""
    layers, before = [], 3
    for after in (64, 64, 0, 128, 128, 0, 256, 256, 256, 0, 512, 512, 512, 0, 512, 512, 512, 0):
        if after:
            layers += [nn.Conv2d(before, after, 3, padding=1), nn.ReLU()]
            before = after
        else:
            layers.append(nn.MaxPool2d(2, 2))
    return types.SimpleNamespace(features=nn.Sequential(*layers))


def state_of(backbone):
    """As torchvision saves it."""
    return {f"features.{name}": x.numpy() for name, x in backbone.features.state_dict().items()}


def optimised(jitted, *static):
    """The same function, compiled with what the tests' settings leave out."""
    return jax.jit(jitted.__wrapped__, static_argnums=static, compiler_options=xla.OPTIMISED)


def without_torchvision(monkeypatch, name):
    """The module of this name, where torchvision is nothing but the backbones above."""
    for each in ("", ".datasets", ".transforms", ".transforms.functional", ".models"):
        module = types.ModuleType(f"torchvision{each}")
        module.__path__ = []
        module.__getattr__ = lambda attribute: sys.modules.get(f"torchvision.{attribute}", object)
        monkeypatch.setitem(sys.modules, module.__name__, module)
    module.alexnet, module.vgg16 = alexnet, vgg16
    return importlib.import_module(name)


class Inception:
    """The network of Fréchet Inception distances; its random weights are made on first use."""

    def __init__(self):
        self.state, self._generator = {}, torch.Generator().manual_seed(0)

    def __call__(self, images):
        """(n, height, width, 3) bytes → features (n, 2048), logits without bias (n, 1008)."""
        height, width = images.shape[1:3]
        grid = np.meshgrid(
            np.arange(299) * height / 299, np.arange(299) * width / 299, indexing="ij"
        )
        resized = [
            [
                map_coordinates(image[..., c].astype(float), grid, order=1, mode="nearest")
                for c in range(3)
            ]
            for image in images
        ]
        x = (torch.tensor(np.array(resized), dtype=torch.float32) - 128) / 128
        with torch.no_grad():
            return self._network(x)

    def _network(self, x):
        unit, halve = self._unit, lambda x: F.max_pool2d(x, 3, 2)
        x = unit(x, "Conv2d_1a_3x3", 32, 3, stride=2)
        x = unit(unit(x, "Conv2d_2a_3x3", 32, 3), "Conv2d_2b_3x3", 64, 3, padding=1)
        x = unit(unit(halve(x), "Conv2d_3b_1x1", 80, 1), "Conv2d_4a_3x3", 192, 3)
        x = halve(x)
        for name, pool in (("5b", 32), ("5c", 64), ("5d", 64)):
            x = self._a(x, f"Mixed_{name}.", pool)
        x = self._b(x, "Mixed_6a.")
        for name, width in (("6b", 128), ("6c", 160), ("6d", 160), ("6e", 192)):
            x = self._c(x, f"Mixed_{name}.", width)
        x = self._d(x, "Mixed_7a.")
        x = self._e(x, "Mixed_7b.", self._average)
        x = self._e(x, "Mixed_7c.", lambda x: F.max_pool2d(x, 3, 1, 1))
        features = x.mean(dim=(2, 3))
        return features, features @ self._weight("fc.weight", (1008, 2048)).T

    def _a(self, x, at, pool):
        double = self._unit(x, at + "branch3x3dbl_1", 64, 1)
        double = self._unit(double, at + "branch3x3dbl_2", 96, 3, padding=1)
        five = self._unit(x, at + "branch5x5_1", 48, 1)
        branches = [
            self._unit(x, at + "branch1x1", 64, 1),
            self._unit(five, at + "branch5x5_2", 64, 5, padding=2),
            self._unit(double, at + "branch3x3dbl_3", 96, 3, padding=1),
            self._unit(self._average(x), at + "branch_pool", pool, 1),
        ]
        return torch.cat(branches, 1)

    def _b(self, x, at):
        double = self._unit(x, at + "branch3x3dbl_1", 64, 1)
        double = self._unit(double, at + "branch3x3dbl_2", 96, 3, padding=1)
        branches = [
            self._unit(x, at + "branch3x3", 384, 3, stride=2),
            self._unit(double, at + "branch3x3dbl_3", 96, 3, stride=2),
            F.max_pool2d(x, 3, 2),
        ]
        return torch.cat(branches, 1)

    def _c(self, x, at, width):
        row, column = {"size": (1, 7), "padding": (0, 3)}, {"size": (7, 1), "padding": (3, 0)}
        seven = self._unit(x, at + "branch7x7_1", width, 1)
        seven = self._unit(seven, at + "branch7x7_2", width, **row)
        double = self._unit(x, at + "branch7x7dbl_1", width, 1)
        for index, turn in ((2, column), (3, row), (4, column)):
            double = self._unit(double, at + f"branch7x7dbl_{index}", width, **turn)
        branches = [
            self._unit(x, at + "branch1x1", 192, 1),
            self._unit(seven, at + "branch7x7_3", 192, **column),
            self._unit(double, at + "branch7x7dbl_5", 192, **row),
            self._unit(self._average(x), at + "branch_pool", 192, 1),
        ]
        return torch.cat(branches, 1)

    def _d(self, x, at):
        three = self._unit(x, at + "branch3x3_1", 192, 1)
        seven = self._unit(x, at + "branch7x7x3_1", 192, 1)
        seven = self._unit(seven, at + "branch7x7x3_2", 192, (1, 7), padding=(0, 3))
        seven = self._unit(seven, at + "branch7x7x3_3", 192, (7, 1), padding=(3, 0))
        branches = [
            self._unit(three, at + "branch3x3_2", 320, 3, stride=2),
            self._unit(seven, at + "branch7x7x3_4", 192, 3, stride=2),
            F.max_pool2d(x, 3, 2),
        ]
        return torch.cat(branches, 1)

    def _e(self, x, at, pool):
        three = self._unit(x, at + "branch3x3_1", 384, 1)
        double = self._unit(x, at + "branch3x3dbl_1", 448, 1)
        double = self._unit(double, at + "branch3x3dbl_2", 384, 3, padding=1)
        branches = [self._unit(x, at + "branch1x1", 320, 1)]
        for branch, name in ((three, "branch3x3_2"), (double, "branch3x3dbl_3")):
            branches.append(self._unit(branch, f"{at}{name}a", 384, (1, 3), padding=(0, 1)))
            branches.append(self._unit(branch, f"{at}{name}b", 384, (3, 1), padding=(1, 0)))
        branches.append(self._unit(pool(x), at + "branch_pool", 192, 1))
        return torch.cat(branches, 1)

    @staticmethod
    def _average(x):
        return F.avg_pool2d(x, 3, 1, 1, count_include_pad=False)

    def _unit(self, x, name, width, size, stride=1, padding=0):
        size = (size, size) if isinstance(size, int) else size
        weight = self._weight(f"{name}.conv.weight", (width, x.shape[1], *size))
        x = F.conv2d(x, weight, stride=stride, padding=padding)
        mean, var, scale, bias = (
            self._statistic(f"{name}.bn.{each}", width, low)
            for each, low in (
                ("running_mean", 0),
                ("running_var", 0.5),
                ("weight", 0.5),
                ("bias", 0),
            )
        )
        return F.relu(F.batch_norm(x, mean, var, scale, bias, eps=1e-3))

    def _weight(self, name, shape):
        if name not in self.state:
            spread = (2 / np.prod(shape[1:])) ** 0.5
            self.state[name] = spread * torch.randn(shape, generator=self._generator)
        return self.state[name]

    def _statistic(self, name, width, low):
        if name not in self.state:
            self.state[name] = low + torch.rand(width, generator=self._generator)
        return self.state[name]
