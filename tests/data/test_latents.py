"""Cached latents against those encoded at once: cut off, damaged, other autoencoders and data."""

import json

import numpy as np
import pytest

from mmdiffusion_jax import data
from mmdiffusion_jax.data import latents as module

RNG = np.random.default_rng(0)
IMAGES = RNG.integers(0, 256, (23, 4, 4, 3), np.uint8)
SOURCE = data.ArraySource({"image": IMAGES, "label": np.arange(23)})
# Orthonormal, so the images can be had back from the latents exactly.
BASIS = np.linalg.qr(RNG.normal(size=(48, 48)))[0]


class Encoder:
    def __init__(self, sign=1, fails_after=None):
        self.calls, self.sign, self.fails_after = 0, sign, fails_after

    def __call__(self, images):
        assert len(images) == 4, "one compiled shape"
        self.calls += 1
        if self.fails_after is not None and self.calls > self.fails_after:
            raise KeyboardInterrupt
        flat = images.reshape(len(images), -1) / 127.5 - 1
        return (self.sign * flat @ BASIS).reshape(-1, 2, 2, 12).astype(np.float32)


@pytest.fixture(autouse=True)
def _small_shards(monkeypatch):
    monkeypatch.setattr(module, "_SHARD", 8)


def cache(folder, encoder, identity="qr", source=SOURCE):
    return data.cache_latents(source, "image", encoder, identity, folder, batch_size=4)


def assert_right(source, sign=1):
    assert source.columns["image"] == ((2, 2, 12), np.dtype(np.float32))
    assert len(source) == 23
    rows = np.array([22, 0, 8, 7, 22, 15])
    batch = source.take(rows)
    np.testing.assert_array_equal(batch["label"], rows)
    images = sign * batch["image"].reshape(6, 48) @ BASIS.T
    images = np.round((images + 1) * 127.5).reshape(-1, 4, 4, 3)
    np.testing.assert_array_equal(images, IMAGES[rows])


def test_latents_are_encoded_once(tmp_path):
    encoder = Encoder()
    assert_right(cache(tmp_path, encoder))
    assert encoder.calls == 6
    assert_right(cache(tmp_path, encoder))
    assert encoder.calls == 6
    assert not list(tmp_path.rglob("*.tmp"))


@pytest.mark.parametrize("fails_after", [0, 1, 2, 5])
def test_a_cut_off_cache_goes_on(tmp_path, fails_after):
    with pytest.raises(KeyboardInterrupt):
        cache(tmp_path, Encoder(fails_after=fails_after))
    rest = Encoder()
    assert_right(cache(tmp_path, rest))
    assert rest.calls == 6 - fails_after // 2 * 2


def test_latents_beside_the_images(tmp_path):
    """They have the images' mask, and are those that the images would be replaced by."""
    mask = np.arange(23) % 3 > 0
    source = data.ArraySource({"image": IMAGES, "label": np.arange(23), "image_present": mask})
    cache(tmp_path, Encoder(), source=source)
    latents = data.cache_latents(
        source, "image", Encoder(fails_after=0), "qr", tmp_path, batch_size=4, into="code"
    )
    rows = np.array([22, 0, 8])
    got, plain = latents.take(rows), cache(tmp_path, Encoder(), source=source).take(rows)
    np.testing.assert_array_equal(got["image"], IMAGES[rows])
    np.testing.assert_array_equal(got["code"], plain["image"])
    np.testing.assert_array_equal(got["code_present"], mask[rows])
    assert "code_present" not in plain
    assert {name: (x.shape[1:], x.dtype) for name, x in got.items()} == latents.columns


def test_a_damaged_or_missing_shard_is_encoded_again(tmp_path):
    cache(tmp_path, Encoder())
    (folder,) = tmp_path.iterdir()
    content = bytearray((folder / "00001.npy").read_bytes())
    content[-1] ^= 1
    (folder / "00001.npy").write_bytes(content)
    (folder / "00002.npy").unlink()
    rest = Encoder()
    assert_right(cache(tmp_path, rest))
    assert rest.calls == 4
    (folder / "manifest.json").write_text("{")
    whole = Encoder()
    assert_right(cache(tmp_path, whole))
    assert whole.calls == 6


def test_other_autoencoders_and_other_data_never_mix(tmp_path):
    cache(tmp_path, Encoder())
    assert_right(cache(tmp_path, Encoder(sign=-1), "minus"), sign=-1)
    changed = IMAGES.copy()
    changed[11, 0, 0, 0] ^= 1
    encoder = Encoder()
    cache(tmp_path, encoder, source=data.ArraySource({"image": changed}))
    assert encoder.calls == 6
    folders = list(tmp_path.iterdir())
    identities = [json.loads((f / "manifest.json").read_text())["identity"] for f in folders]
    assert sorted(identities) == ["minus", "qr", "qr"]
    assert_right(cache(tmp_path, Encoder(fails_after=0)))


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"column": "imag"}, "did you mean 'image'"),
        ({"into": "label"}, "`into`: got 'label', which the source has"),
        ({"identity": ""}, "`identity`: got nothing"),
        ({"batch_size": 0}, "`batch_size`: got 0"),
        ({"encode": lambda x: x[:1] / 1.0}, r"`encode`: got latents of shape \(1, 4, 4, 3\)"),
        ({"encode": lambda x: x * np.nan}, "192 not finite, expected 4 finite ones"),
    ],
)
def test_bad_requests(tmp_path, options, words):
    valid = {"column": "image", "encode": Encoder(), "identity": "qr", "batch_size": 4}
    with pytest.raises(ValueError, match=words):
        data.cache_latents(SOURCE, folder=tmp_path, **{**valid, **options})
