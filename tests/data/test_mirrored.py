"""Training examples and their mirror images."""

import numpy as np
import pytest

from mmdiffusion_jax import data

COUNT = 6
RNG = np.random.default_rng(0)
SOURCE = data.ArraySource(
    {
        "image": RNG.integers(0, 256, (COUNT, 4, 5, 3), np.uint8),
        "mask": RNG.integers(0, 7, (COUNT, 4, 5)),
        "label": np.arange(COUNT),
        "mask_present": np.arange(COUNT) % 2 == 0,
    }
)


def test_one_epoch_has_every_example_once_each_way():
    source = data.Mirrored(SOURCE, ["image", "mask"])
    batch = next(data.train_batches(source, batch_size=2 * COUNT, seed=0))
    whole = SOURCE.take(np.arange(COUNT))
    for label in range(COUNT):
        pair = np.flatnonzero(batch["label"] == label)
        assert len(pair) == 2
        for column, mirror in {"image": np.fliplr, "mask": np.fliplr}.items():
            expected = [whole[column][label], mirror(whole[column][label])]
            values = list(batch[column][pair])
            if not (values[0] == expected[0]).all():
                values.reverse()
            np.testing.assert_array_equal(values, expected)
        assert (batch["mask_present"][pair] == whole["mask_present"][label]).all()


def test_images_and_masks_are_turned_together():
    """The mask says where the image is bright, in every example that is drawn."""
    bright = RNG.integers(0, 2, (COUNT, 4, 5))
    plain = data.ArraySource({"image": 255 * bright[..., None].astype(np.uint8), "mask": bright})
    batches = data.train_batches(data.Mirrored(plain, ["image", "mask"]), batch_size=5, seed=1)
    seen = [next(batches) for _ in range(5)]
    for batch in seen:
        np.testing.assert_array_equal(batch["image"][..., 0], 255 * batch["mask"])
    assert len(np.unique(np.concatenate([batch["mask"] for batch in seen]), axis=0)) == 2 * COUNT


def test_what_is_derived_is_derived_of_the_mirror_image_and_anew():
    def hide(rng, x):
        return np.where(rng.random((len(x), 1, 1, 1)) < 0.5, 0, x)

    derived = data.Derived(SOURCE, {"hidden": ("image", hide)}, seed=0)
    source = data.beneath(derived, lambda plain: data.Mirrored(plain, ["image"]))
    batches = data.train_batches(source, batch_size=COUNT, seed=0)
    seen = [next(batches) for _ in range(40)]
    for batch in seen:
        whole = (batch["hidden"] == batch["image"]).all((1, 2, 3))
        assert (batch["hidden"][~whole] == 0).all()
    hidden = np.concatenate([(batch["hidden"] == 0).all((1, 2, 3)) for batch in seen])
    labels = np.concatenate([batch["label"] for batch in seen])
    # Fixed draws would hide an example, or its mirror image, always or never.
    shares = [hidden[labels == label].mean() for label in range(COUNT)]
    assert min(shares) > 0.2
    assert max(shares) < 0.8


@pytest.mark.parametrize(
    ("name", "words"),
    [("imag", "did you mean 'image'"), ("label", r"'label', whose .* shape \(\)")],
)
def test_what_cannot_be_mirrored(name, words):
    with pytest.raises(ValueError, match=words):
        data.Mirrored(SOURCE, [name])
