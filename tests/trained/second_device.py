"""Samples, bounds and encodings on the second of two devices: WORKDIR."""

import sys

import jax
import numpy as np

import mmdiffusion_jax as mm


def main(workdir):
    first, second = jax.devices()
    model, there = mm.load(workdir), mm.load(workdir, device=second)
    for each, device in ((model, first), (there, second)):
        assert {device} == {d for x in jax.tree.leaves(each.params) for d in x.devices()}
    batch = {"image": np.zeros((2, 8, 8, 1), np.uint8), "label": [3, 4]}
    np.testing.assert_array_equal(model.sample(2)["image"], there.sample(2)["image"])
    np.testing.assert_array_equal(model.bound(batch).total, there.bound(batch).total)
    np.testing.assert_array_equal(model.encode("label", [3]), there.encode("label", [3]))


if __name__ == "__main__":
    main(sys.argv[1])
