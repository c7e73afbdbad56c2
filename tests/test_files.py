"""Files that are there whole or not at all."""

import pytest

from mmdiffusion_jax import files


def write_half(path):
    with files.replacing(path) as stream:
        stream.write(b"half")
        stream.flush()
        assert path.read_text(encoding="utf-8") == "λ = 0.03"
        raise RuntimeError("killed")


def test_a_file_that_is_not_finished_leaves_the_older_one_and_nothing_else(tmp_path):
    path = tmp_path / "figures.json"
    files.write_text(path, "λ = 0.03")
    assert path.read_text(encoding="utf-8") == "λ = 0.03"
    with pytest.raises(RuntimeError, match="killed"):
        write_half(path)
    assert path.read_text(encoding="utf-8") == "λ = 0.03"
    assert list(tmp_path.iterdir()) == [path]


def test_a_folder_that_is_not_there_is_an_error(tmp_path):
    with pytest.raises(FileNotFoundError):
        files.write_text(tmp_path / "none" / "figures.json", "")
