"""Data of a workdir in another place: the same contents are read, others are refused."""

import numpy as np
import pytest

from mmdiffusion_jax import experiment
from mmdiffusion_jax.apps.train import open_moved_data
from tests.apps.small import smoke_config


@pytest.fixture
def trained(tmp_path):
    """A workdir on files that have moved since, and its config."""
    config = smoke_config()
    config.data.source = "npz"
    rng = np.random.default_rng(0)
    for split in ("train", "test"):
        file = tmp_path / f"{split}.npz"
        image = rng.choice(np.round(np.arange(17) * 255 / 16), (6, 8, 8, 1)).astype(np.uint8)
        np.savez(file, image=image, label=rng.integers(0, 10, 6))
        config.data[split] = str(file)
    with experiment.hold_workdir(tmp_path / "w", config):
        pass
    (tmp_path / "elsewhere").mkdir()
    for split in ("train", "test"):
        (tmp_path / f"{split}.npz").rename(tmp_path / "elsewhere" / f"{split}.npz")
    return config


def test_moved_files_are_read_where_they_are(trained, tmp_path):
    places = {split: str(tmp_path / "elsewhere" / f"{split}.npz") for split in ("train", "test")}
    train, test = open_moved_data(str(tmp_path / "w"), trained, places)
    with np.load(places["test"]) as file:
        np.testing.assert_array_equal(test.take(np.arange(6))["image"], file["image"])
    assert len(train) == 6


def test_without_places_the_error_says_how_to_name_them(trained, tmp_path):
    with pytest.raises(ValueError, match=r"have moved, .* takes --data_train=FILE and --data_test"):
        open_moved_data(str(tmp_path / "w"), trained)


def test_other_contents_are_refused(trained, tmp_path):
    other = str(tmp_path / "elsewhere" / "test.npz")
    with pytest.raises(ValueError, match=r"on other contents of data\.train"):
        open_moved_data(str(tmp_path / "w"), trained, {"train": other, "test": other})
