"""What the launch scripts make of a finished run: samples, comparisons, figures."""

import json

import numpy as np
import pytest
from PIL import Image

from mmdiffusion_jax import apps
from tests.apps.small import launch


def test_samples_in_data_units(finished, tmp_path):
    done = launch(
        "sample", f"--workdir={finished}", "--num_samples=7", f"--out={tmp_path}",
        "--given=label=3", "--png",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    with np.load(tmp_path / "samples-00000-of-00001.npz") as samples:
        assert samples["image"].shape == (7, 8, 8, 1)
        assert samples["image"].dtype == np.uint8
        assert samples["label"].tolist() == [3] * 7
    with Image.open(tmp_path / "samples.png") as sheet:
        assert sheet.size[0] > 100
    lines = (tmp_path / "png" / "samples-00000-of-00001.jsonl").read_text().splitlines()
    assert [json.loads(line)["label"] for line in lines] == ["3"] * 7
    assert len(list((tmp_path / "png" / "image").glob("*.png"))) == 7


def test_labels_of_images_in_a_file_with_every_default(finished, tmp_path):
    """As many samples as the file has, in a folder of the workdir; the same call again is done."""
    file = tmp_path / "given.npz"
    np.savez(file, image=np.zeros((7, 8, 8, 1), np.uint8))
    arguments = (
        f"--workdir={finished}", f"--given=image@{file}", "--sampler=dpm_solver_pp",
        "--num_steps=5", "--guidance=label:2.0",
    )  # fmt: skip
    for _ in range(2):
        done = launch("sample", *arguments)
        assert done.returncode == 0, done.stderr
        assert "Guidance has no effect" in done.stderr or "Shard" not in done.stderr
    (folder,) = (finished / "generated").iterdir()
    assert folder.name.startswith("dpm_solver_pp_5_given-image_seed-0_")
    with np.load(folder / "samples-00000-of-00001.npz") as samples:
        assert samples["label"].shape == (7,)
        assert set(samples["label"].tolist()) <= set(range(10))


@pytest.mark.long
def test_a_part_that_stays_and_values_to_begin_from(finished, tmp_path):
    """The kept half is in every sample; from little noise comes what was there, but not all."""
    rng, file = np.random.default_rng(0), tmp_path / "part.npz"
    levels = np.round(rng.integers(0, 17, (7, 8, 8, 1)) * (255 / 16)).astype(np.uint8)
    keep = np.zeros(levels.shape, bool)
    keep[:, :4] = True
    np.savez(file, image=levels, image_keep=keep)

    def samples_of(name, *arguments):
        out = tmp_path / name
        done = launch("sample", f"--workdir={finished}", f"--out={out}", *arguments)
        assert done.returncode == 0, done.stderr
        with np.load(min(out.glob("*.npz"))) as samples:
            return samples["image"]

    kept = samples_of("kept", f"--keep=image@{file}", "--shard_size=3", "--given=label=3")
    np.testing.assert_array_equal(kept[:3][keep[:3]], levels[:3][keep[:3]])
    near, far = (
        samples_of(f"begun-{level}", f"--begin=image:{level}@{file}").astype(int)
        for level in (0.13, 1.0)
    )
    assert len(near) == 7
    distance = [np.abs(x - levels).mean() for x in (near, far)]
    assert 0 < distance[0] < distance[1] / 2


@pytest.mark.parametrize(
    ("part", "words"),
    [
        ({"keep": ["label@{file}"]}, "`keep`: got .*part.npz', which has no label_keep"),
        ({"begin": ["label:0.5@{file}"]}, "`begin`: got 'label', expected something that this"),
        ({"begin": ["image:0.01@{file}"]}, "`level`: got 0.01, expected 0.125 or more"),
        ({"begin": ["image:1.5@{file}"]}, r"`level`: got 1.5, expected a number in \(0, 1\]"),
    ],
)
def test_parts_that_there_are_not(finished, tmp_path, part, words):
    file = tmp_path / "part.npz"
    np.savez(file, image=np.zeros((2, 8, 8, 1), np.uint8), label=np.zeros(2, np.int32))
    part = {name: [text.format(file=file) for text in texts] for name, texts in part.items()}
    with pytest.raises(ValueError, match=words):
        apps.sample(str(finished), str(tmp_path / "out"), apps.Request(**part))
    assert not (tmp_path / "out").exists()


def test_shards_and_batches_do_not_change_the_samples(finished, tmp_path):
    for name, sizes in (("one", {}), ("many", {"shard_size": 3, "batch_size": 2})):
        apps.sample(
            str(finished), str(tmp_path / name), apps.Request(7),
            sampler="dpm_solver_pp_2m_sde", num_steps=6, **sizes,
        )  # fmt: skip
    whole = np.load(tmp_path / "one" / "samples-00000-of-00001.npz")
    parts = [np.load(file) for file in sorted((tmp_path / "many").glob("*.npz"))]
    assert len(parts) == 3
    images = np.concatenate([part["image"] for part in parts]).astype(int)
    np.testing.assert_allclose(images, whole["image"].astype(int), atol=1)


def test_any_number_of_samples_needs_the_memory_of_one_shard(finished, tmp_path, monkeypatch):
    """Of 10¹¹ samples the first two shards are drawn, in no more than the time of two shards."""
    save, saved = np.savez, []

    def save_two(stream, **arrays):
        if len(saved) == 2:
            raise KeyboardInterrupt
        saved.append(arrays)
        save(stream, **arrays)

    monkeypatch.setattr(np, "savez", save_two)
    with pytest.raises(KeyboardInterrupt):
        apps.sample(
            str(finished), str(tmp_path / "out"), apps.Request(10**11, ["label=3"]), shard_size=2,
            num_steps=2,
        )  # fmt: skip
    names = sorted(file.name for file in (tmp_path / "out").glob("*.npz"))
    assert names == [f"samples-{index:011d}-of-50000000000.npz" for index in range(2)]
    assert all(arrays["label"].tolist() == [3, 3] for arrays in saved)
    assert not np.array_equal(saved[0]["image"], saved[1]["image"])


@pytest.mark.long
def test_a_trajectory_ends_in_the_samples(finished, tmp_path):
    out = tmp_path / "out"
    done = launch(
        "sample", f"--workdir={finished}", "--num_samples=12", f"--out={out}", "--trajectory=3",
        "--sampler=ddim", "--num_steps=6", "--given=label=3",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    samples, way = np.load(out / "samples-00000-of-00001.npz"), np.load(out / "trajectory.npz")
    assert (np.diff(way["times"]) < 0).all()
    assert way["times"][-1] == 1
    assert way["states"].shape == way["clean"].shape == (3, 10, 8, 8, 1)
    assert set(way.files) == {"times", "states", "clean", "values/image"}
    images = way["values/image"].astype(int)
    np.testing.assert_allclose(images[-1], samples["image"][:10].astype(int), atol=1)
    assert np.abs(images[0] - images[-1]).mean() > 2
    # What is shown is the clean estimate, at the nearest of the 17 levels.
    np.testing.assert_allclose(images, 127.5 * (way["clean"] + 1), atol=255 / 16 / 2 + 0.51)
    with Image.open(out / "trajectory.png") as sheet:
        assert sheet.size[1] > 3 * sheet.size[0]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"trajectory": 9}, "`trajectory`: got 9, expected a whole number in 1 … 8"),
        ({"trajectory": 0}, "`trajectory`: got 0, expected a whole number in 1 … 8"),
        ({"trajectory": 2}, "`given`: got the primary 'image'"),
    ],
)
def test_a_trajectory_that_there_is_not(finished, tmp_path, options, words):
    file, out = tmp_path / "given.npz", tmp_path / "out"
    np.savez(file, image=np.zeros((2, 8, 8, 1), np.uint8))
    request = apps.Request(given=[f"image@{file}"] if "primary" in words else ())
    with pytest.raises(ValueError, match=words):
        apps.sample(str(finished), str(out), request, **options)
    assert not out.exists()


@pytest.mark.long
def test_samplers_side_by_side(finished, tmp_path):
    done = launch(
        "compare_samplers", f"--workdir={finished}", f"--workdir={finished}",
        f"--out={tmp_path / 'out'}", "--samplers=ddim,heun", "--steps=2",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    table = (tmp_path / "out" / "samplers.md").read_text()
    assert table in done.stdout
    assert [line.split("|")[1:3] for line in table.splitlines()[2:]] == [
        [" ancestral, every step ", " 8 "], [" ddim ", " 2 "], [" heun ", " 2 "],
    ]  # fmt: skip
    runs = json.loads((tmp_path / "out" / "samplers.json").read_text())
    assert runs[0][1]["frechet"] == runs[1][1]["frechet"] > 0
    with Image.open(tmp_path / "out" / "samplers.png") as picture:
        assert picture.size[0] > 500


def test_evaluation_writes_its_table(finished):
    done = launch("evaluate", f"--workdir={finished}")
    assert done.returncode == 0, done.stderr
    figures = json.loads((finished / "metrics.json").read_text())
    total = sum(figures[f"bound/{x}"] for x in ("prior", "posterior", "recovery", "reconstruction"))
    np.testing.assert_allclose(figures["bound/total"], total)
    np.testing.assert_allclose(figures["bits_per_dim"], total / (65 * np.log(2)))
    assert "joint/image_label/agreement" in done.stdout
    assert 0 <= figures["label_by_scoring/accuracy"] <= 1
    assert figures["flow/bits_per_dim"] > 0
    assert figures["judge/image_label/accuracy"] > 0.97
    assert figures["joint/frechet_ratio"] > 0
