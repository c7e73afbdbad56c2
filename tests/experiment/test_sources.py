"""The data section of a config: small sets, derived modalities, and what does not fit."""

import functools
import json
import shutil

import numpy as np
import pytest
from ml_collections import ConfigDict

from mmdiffusion_jax import data, experiment, modalities
from tests.data import small_files


class Flipped(modalities.Image):
    """An image in which random rows are turned to black."""

    @property
    def derived_from(self):
        return "image"

    def derive(self, rng, x):
        return x * rng.integers(0, 2, x.shape[:2], np.uint8)[:, :, None, None]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("sets")
    small_files.write_all(folder)
    return folder


@pytest.fixture
def config(folder):
    config = experiment.default_config()
    config.data.source = "fashion_mnist"
    config.data.path = str(folder)
    config.data.size = (16, 16)
    config.latent = (16, 16, 1)
    config.modalities = ConfigDict(
        {"image": {"kind": "image"}, "label": {"kind": "label", "num_classes": 10}}
    )
    config.process.weights = ConfigDict({"label": {"rule": "bump", "scale": 1.0}})
    return config


@pytest.fixture
def flipped(config, monkeypatch):
    monkeypatch.setitem(modalities.MODALITIES, "flipped", Flipped)
    config.modalities.flipped = ConfigDict({"kind": "flipped"})
    config.process.weights.flipped = ConfigDict({"rule": "bump", "scale": 1.0})
    return config


def hold(workdir, config):
    with experiment.hold_workdir(workdir, config):
        pass


def test_a_small_set_by_its_folder(config, folder):
    train, test = experiment.open_data(config)
    assert (len(train), len(test)) == (7, 4)
    want = data.open_fashion_mnist(folder, "test", (16, 16)).take(np.arange(4))
    for name, x in test.take(np.arange(4)).items():
        np.testing.assert_array_equal(x, want[name])


def test_splits_and_spectrograms_have_their_options(config):
    config.data.source, config.data.train, config.data.test = "camvid", "val", "test_unseen"
    config.data.size = (48, 64)
    config.latent = (48, 64, 3)
    config.modalities = ConfigDict({"image": {"kind": "image"}})
    config.process.weights = ConfigDict()
    train, test = experiment.open_data(config)
    assert (len(train), len(test)) == (1, 2)
    assert train.columns["mask"][0] == (48, 64)
    config.data.source, config.data.train, config.data.test = "spoken_digits", "train", "test"
    config.data.size, config.data.spectrogram = (32, 32), (8, 4)
    config.latent = (32, 32, 1)
    assert experiment.open_data(config)[1].columns["audio"][0] == (8, 4)


def test_derived_modalities_are_fixed_on_a_source_and_fresh_in_training(flipped):
    train, test = experiment.open_data(flipped)
    rows = np.arange(4)
    first = test.take(rows)
    assert first["flipped"].shape == (4, 16, 16, 1)
    assert (first["flipped"] != first["image"]).any()
    again = experiment.open_data(flipped)[1].take(rows[::-1])
    np.testing.assert_array_equal(again["flipped"], first["flipped"][::-1])
    batches = data.train_batches(train, batch_size=7, seed=0)
    one, two = (next(batches) for _ in range(2))
    one, two = (batch["flipped"][np.argsort(batch["label"])] for batch in (one, two))
    assert (one != two).any()


def test_what_is_derived_is_never_scarce(flipped):
    with flipped.unlocked():
        flipped.data.kept = ConfigDict({"flipped": 3})
    words = r"`config\.data\.kept\.flipped`: got a modality that is drawn from 'image'"
    with pytest.raises(ValueError, match=words):
        experiment.open_data(flipped)


def test_a_stored_column_is_not_derived(flipped, tmp_path):
    arrays = {
        "image": small_files.pixels(0, 3, 16, 16, 1),
        "flipped": small_files.pixels(1, 3, 16, 16, 1),
        "label": np.arange(3),
    }
    for split in ("train", "test"):
        flipped.data[split] = str(tmp_path / f"{split}.npz")
        np.savez(flipped.data[split], **arrays)
    flipped.data.source = "npz"
    got = experiment.open_data(flipped)[0].take(np.arange(3))
    np.testing.assert_array_equal(got["flipped"], arrays["flipped"])
    del arrays["image"], arrays["flipped"]
    np.savez(flipped.data.train, **arrays)
    with pytest.raises(ValueError, match=r"train data`: got 'image'.*'flipped' is derived from it"):
        experiment.open_data(flipped)


def test_a_modality_without_an_array(config, tmp_path):
    config.data.source = "npz"
    for split in ("train", "test"):
        config.data[split] = str(tmp_path / f"{split}.npz")
        np.savez(config.data[split], image=small_files.pixels(0, 3, 16, 16, 1))
    words = r"`train data`: got the arrays 'image', expected an array 'label' too"
    with pytest.raises(ValueError, match=words):
        experiment.open_data(config)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"source": "fashion_mnits"}, "did you mean 'fashion_mnist'"),
        ({"path": "nowhere"}, "`path`: got 'nowhere', where there is no fashion_mnist/train-im"),
        ({"test": "val"}, "`split`: got 'val'"),
        ({"size": (0, 0)}, r"train data, image`: got examples of shape \(28, 28, 1\)"),
        ({"size": (3, 16)}, r"`size`: got \(3, 16\)"),
    ],
)
def test_data_that_do_not_fit(config, changes, words):
    config.data.update(changes)
    with pytest.raises(ValueError, match=words):
        experiment.open_data(config)


def test_the_folder_of_the_data_may_move_and_old_workdirs_go_on(config, folder, tmp_path):
    hold(tmp_path, config)
    config.data.path = str(shutil.copytree(folder, tmp_path / "elsewhere"))
    hold(tmp_path, config)
    config.data.size = (32, 32)
    with pytest.raises(ValueError, match=r"differs in data\.size"):
        hold(tmp_path, config)
    file = tmp_path / "config.json"
    old = experiment.read_config(tmp_path).to_dict()
    for key in ("path", "size", "spectrogram"):
        del old["data"][key]
    file.write_text(ConfigDict(old).to_json())
    defaults = experiment.default_config().data
    assert experiment.read_config(tmp_path).data.size == defaults.size


def test_a_small_set_in_the_same_place_may_be_another(config, folder, tmp_path):
    workdir = tmp_path / "w"
    config.data.path = str(shutil.copytree(folder, tmp_path / "sets"))
    hold(workdir, config)
    kept = (workdir / "data.json").read_text()
    labels = small_files.fashion_mnist()["t10k-labels-idx1-ubyte.gz"]
    file = tmp_path / "sets" / "fashion_mnist" / "t10k-labels-idx1-ubyte.gz"
    small_files.write_idx(file, labels[::-1])
    words = r"on other contents of data\.path \(digest [0-9a-f]{12} there, .*/sets'\)"
    with pytest.raises(ValueError, match=words):
        hold(workdir, config)
    assert (workdir / "data.json").read_text() == kept
    # Of another set nothing is read.
    small_files.write_idx(file, labels)
    shutil.rmtree(tmp_path / "sets" / "cifar10")
    hold(workdir, config)


def test_a_workdir_of_before_goes_on_with_its_small_set_and_keeps_a_digest(
    config, folder, tmp_path
):
    workdir = tmp_path / "w"
    hold(workdir, config)
    (workdir / "data.json").unlink()
    config.data.path = str(shutil.copytree(folder, tmp_path / "sets"))
    hold(workdir, config)
    assert json.loads((workdir / "data.json").read_text()) == experiment.data_digests(config)
    (tmp_path / "sets" / "fashion_mnist" / "t10k-labels-idx1-ubyte.gz").unlink()
    with pytest.raises(ValueError, match=r"`path`: got .*where there is no fashion_mnist/t10k-lab"):
        hold(workdir, config)


@pytest.fixture
def of_files(config, tmp_path):
    """A config on two `.npz` files, and what they hold."""
    arrays = {"image": small_files.pixels(0, 9, 16, 16, 1), "label": np.arange(9)}
    config.data.source = "npz"
    for split in ("train", "test"):
        config.data[split] = str(tmp_path / f"{split}.npz")
        np.savez(config.data[split], **arrays)
    return config, arrays


@pytest.fixture
def of_larger_files(of_files):
    """The same with grey images of 28 × 28 without a channel axis, and masks."""
    config, arrays = of_files
    images = small_files.pixels(0, 9, 28, 28, 1)[..., 0]
    arrays = {**arrays, "image": images, "mask": images % 2}
    for split in ("train", "test"):
        np.savez(config.data[split], **arrays)
    config.primary = "hidden"
    config.modalities = ConfigDict(
        {
            "hidden": {"kind": "masked_image", "square_size": 4},
            "mask": {"kind": "segmentation", "num_classes": 2, "void": 3},
        }
    )
    config.process.weights = ConfigDict({"mask": {"rule": "bump", "scale": 1.0}})
    return config, arrays


def test_images_and_masks_of_files_are_brought_to_the_size(of_larger_files):
    """As those of the small sets are; the image is no modality, but one is derived from it."""
    config, arrays = of_larger_files
    got = experiment.open_data(config)[0].take(np.arange(9))
    images = data.resize_images(arrays["image"][..., None], (16, 16))
    np.testing.assert_array_equal(got["image"], images)
    np.testing.assert_array_equal(got["hidden"][..., :1], images)
    np.testing.assert_array_equal(got["mask"], data.resize_masks(arrays["mask"], (16, 16), 3))
    assert (got["mask"] == 3).any()


def test_two_kept_modalities_are_not_kept_by_the_same_examples(of_files):
    config, _ = of_files
    count, each = 200, 20
    masks = {name: np.zeros((count, 16, 16), int) for name in ("mask", "other")}
    images = small_files.pixels(0, count, 16, 16, 1)
    for split in ("train", "test"):
        np.savez(config.data[split], image=images, **masks)
    kinds = {name: {"kind": "segmentation", "num_classes": 2} for name in masks}
    config.modalities = ConfigDict({"image": {"kind": "image"}, **kinds})
    config.process.weights = ConfigDict({name: {"rule": "bump"} for name in masks})
    config.data.kept = ConfigDict(dict.fromkeys(masks, each))
    draws = []
    for config.seed in (0, 1):
        columns = experiment.open_data(config)[0].take(np.arange(count))
        draws.append(np.stack([columns[f"{name}_present"] for name in masks]))
    assert (draws[0].sum(axis=1) == each).all()
    # Of independent draws two in twenty coincide on average.
    assert draws[0].all(axis=0).sum() < 7
    np.testing.assert_array_equal(*draws)


def test_images_of_another_size_and_none_asked_for(of_larger_files):
    config, _ = of_larger_files
    config.data.size = (0, 0)
    with pytest.raises(ValueError, match=r"`image`: got examples of shape \(28, 28\), .*None\]"):
        experiment.open_data(config)
    config.data.size = (9, 9)
    with pytest.raises(ValueError, match=r"`config\.data\.size`: got \(9, 9\)"):
        experiment.open_data(config)


def test_files_may_move_and_contents_may_not_change(of_files, tmp_path):
    config, arrays = of_files
    workdir = tmp_path / "w"
    hold(workdir, config)
    old = config.data.train
    (tmp_path / "elsewhere").mkdir()
    config.data.train = str(tmp_path / "elsewhere" / "other_name.npz")
    # Nor is it other contents when the file is compressed on its way.
    np.savez_compressed(config.data.train, **arrays)
    (tmp_path / "train.npz").unlink()
    hold(workdir, config)
    assert experiment.read_config(workdir).data.train == config.data.train
    experiment.open_data(experiment.read_config(workdir))
    np.savez(config.data.train, **{**arrays, "label": arrays["label"][::-1]})
    kept = (workdir / "config.json").read_text(), (workdir / "data.json").read_text()
    words = r"holds an experiment on other contents of data\.train \(digest [0-9a-f]{12} there, .*"
    with pytest.raises(ValueError, match=words + "other_name.npz'.*the same data, in whatever pl"):
        hold(workdir, config)
    assert kept == ((workdir / "config.json").read_text(), (workdir / "data.json").read_text())
    config.data.train = old
    with pytest.raises(ValueError, match=r"`path`: got .*train\.npz', where there is no file"):
        hold(workdir, config)
    with pytest.raises(ValueError, match=r"have moved, .* launch/train\.py takes --config\.data\."):
        experiment.open_data(config)


def test_a_workdir_without_digests_compares_names_once_and_keeps_digests_from_then_on(
    of_files, tmp_path
):
    config, arrays = of_files
    workdir = tmp_path / "w"
    hold(workdir, config)
    (workdir / "data.json").unlink()
    moved = config.copy_and_resolve_references()
    moved.data.train = str(tmp_path / "moved.npz")
    np.savez(moved.data.train, **arrays)
    with pytest.raises(ValueError, match=r"differs in data\.train"):
        hold(workdir, moved)
    hold(workdir, config)
    hold(workdir, moved)


def test_records_are_brought_to_another_size_where_they_are_held_in_memory(
    config, tmp_path, monkeypatch
):
    data.digits.prepare(tmp_path)
    config.data.source, config.data.folder = "tfds", str(tmp_path / "digits" / "1.0.0")
    stored = experiment.open_data(config)[0].take(np.arange(3))["image"]
    assert stored.shape == (3, 16, 16, 1)
    monkeypatch.setattr(data, "open_tfds", functools.partial(data.open_tfds, max_in_memory_bytes=0))
    with pytest.raises(ValueError, match=r"`config\.data\.size`: got \(16, 16\), .* in memory"):
        experiment.open_data(config)
    config.data.size, config.latent = (8, 8), (8, 8, 1)
    plain = experiment.open_data(config)[0].take(np.arange(3))["image"]
    np.testing.assert_array_equal(stored[:, 4:12, 4:12], plain)


def test_a_prepared_set_in_the_same_place_may_be_another(config, tmp_path):
    data.digits.prepare(tmp_path)
    config.data.source = "tfds"
    config.data.folder = str(tmp_path / "digits" / "1.0.0")
    workdir = tmp_path / "w"
    hold(workdir, config)
    other = shutil.copytree(config.data.folder, tmp_path / "other" / "1.0.0")
    config.data.folder = str(other)
    hold(workdir, config)
    metadata = json.loads((other / "dataset_info.json").read_text())
    metadata["splits"][0]["numBytes"] = "7"
    (other / "dataset_info.json").write_text(json.dumps(metadata))
    with pytest.raises(ValueError, match=r"on other contents of data\.folder"):
        hold(workdir, config)


def test_the_network_of_embeddings_may_move_too(config, tmp_path):
    file = tmp_path / "network.safetensors"
    file.write_bytes(b"parameters")
    config.data.embedder = str(file)
    hold(tmp_path / "w", config)
    config.data.embedder = str(file.rename(tmp_path / "moved.safetensors"))
    hold(tmp_path / "w", config)
    (tmp_path / "moved.safetensors").write_bytes(b"others")
    with pytest.raises(ValueError, match=r"on other contents of data\.embedder"):
        hold(tmp_path / "w", config)
