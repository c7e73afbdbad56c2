"""From a folder of pictures to a config that trains, by the command, and what it says."""

import jax
import numpy as np
import pytest

from mmdiffusion_jax import apps, data, experiment, training
from mmdiffusion_jax.apps import folder_config
from mmdiffusion_jax.apps.requests import parse_given
from mmdiffusion_jax.data.folder import FolderOptions, Prepared
from tests.apps.small import launch
from tests.data.folder.pictures import noise, save

SIZE = (8, 16)


def draw(place):
    """Pictures in class folders, and masks of three classes for them."""
    for name in ("cat o' nine", "пёс"):
        for index in range(10):
            save(noise(10, 20, 3), place / "photos" / name / f"{index}.jpg")
            save(noise(10, 20, most=3), place / "masks" / name / f"{index}.png")
    return [f"--folder={place / 'photos'}", "--size=8,16", "--test_share=0.3"]


def test_the_command_says_what_came_of_it_and_last_the_config(tmp_path):
    flags = [*draw(tmp_path), "--labels=by_folder", f"--masks={tmp_path / 'masks'}"]
    (tmp_path / "photos" / "пёс" / "bad.jpg").write_bytes(b"")
    (tmp_path / "photos" / "notes.txt").write_text("x")
    done = launch("prepare", *flags, f"--out={tmp_path / 'a b'}")
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == [str(tmp_path / "a b" / "config.py")]
    for words in (
        "20 pictures: ",
        "label: 2 classes: cat o' nine, пёс.",
        "mask: classes 0 … 2, and 255 where",
        "left out: 1, see skipped.csv: пёс/bad.jpg (it is empty, 0 bytes).",
        "left alone: files of other kinds: 1 .txt.",
    ):
        assert words in done.stderr
    assert "21/21 [" in done.stderr
    assert "picture/s]" in done.stderr


@pytest.mark.parametrize(
    "kinds",
    [
        ("label", "mask"),
        *(pytest.param(kinds, marks=pytest.mark.long) for kinds in ((), ("label",), ("mask",))),
    ],
)
def test_the_config_trains(tmp_path, kinds):
    """It needs none of this project's configs, fits its data, and a step of training is finite."""
    draw(tmp_path)
    options = FolderOptions(
        str(tmp_path / "photos"),
        SIZE,
        labels="by_folder" if "label" in kinds else "",
        masks=str(tmp_path / "masks") if "mask" in kinds else "",
        grey=not kinds,
        test_share=0.3,
    )
    place = apps.prepare_folder(options, str(tmp_path / "out"))
    assert "configs" not in (tmp_path / "out" / "config.py").read_text()
    config = experiment.read_config_file(place)
    assert set(config.modalities) == {"image", *kinds}
    if "label" in kinds:
        assert config.modalities.label.class_names == ("cat o' nine", "пёс")
    jax.eval_shape(experiment.build(config).init, jax.random.key(0))
    config.training.batch_size, config.process.num_steps = 4, 3
    # Levels are all alike, and take long to compile.
    config.backbone.channel_mults = (1,)
    config.sampling.num_steps = 3
    built = experiment.build(config)
    train, test = experiment.open_data(config)
    assert len(train) + len(test) == 20
    step, state = experiment.make_step_and_state(built, training.make_mesh())
    batch = next(data.train_batches(train, batch_size=4, seed=0))
    state, report = step(state, data.select(batch, built.model.modalities))
    assert np.isfinite(report.scalars["loss"])


def test_a_config_that_was_changed_is_kept(tmp_path):
    draw(tmp_path)
    options = FolderOptions(str(tmp_path / "photos"), SIZE, test_share=0.3)
    place = apps.prepare_folder(options, str(tmp_path / "out"))
    (tmp_path / "out" / "config.py").write_text("# mine")
    assert apps.prepare_folder(options, str(tmp_path / "out")) == place
    assert (tmp_path / "out" / "config.py").read_text() == "# mine"


def test_a_config_moves_with_its_folder(tmp_path, monkeypatch):
    draw(tmp_path)
    options = FolderOptions(str(tmp_path / "photos"), SIZE, test_share=0.3)
    apps.prepare_folder(options, str(tmp_path / "out"))
    (tmp_path / "out").rename(tmp_path / "moved")
    monkeypatch.chdir(tmp_path / "moved")
    config = experiment.read_config_file("config.py")
    monkeypatch.chdir("/")
    assert len(experiment.open_data(config)[0]) > 0


@pytest.mark.parametrize("side", [1, 2, 4, 6, 8, 12, 16, 28, 32, 36, 48, 64, 75, 96, 100, 128, 256])
@pytest.mark.parametrize("ratio", [(1, 1), (3, 4), (2, 1)])
def test_networks_suit_every_size(tmp_path, side, ratio):
    size = (side * ratio[0], side * ratio[1])
    prepared = Prepared(tmp_path, ("image", "label"), {"train": 9, "test": 1}, ("a", "b"))
    (tmp_path / "config.py").write_text(
        folder_config.config_text(FolderOptions("x", size), prepared)
    )
    config = experiment.read_config_file(str(tmp_path / "config.py"))
    experiment.build(config)
    fields = folder_config.unet_fields(size, has_label=True)
    if side % 32 == 0 and ratio == (1, 1):
        assert 16 < size[0] // fields["patch_size"] <= 32
        assert len(fields["channel_mults"]) == 3


@pytest.mark.parametrize("name", ["it's", 'say "a"', "a\\b", "{x}", "日本"])
def test_names_of_any_letters_are_written_as_python(tmp_path, name):
    prepared = Prepared(
        tmp_path / name, ("image", "label"), {"train": 9, "test": 1}, (name, "other" * 20)
    )
    (tmp_path / "config.py").write_text(
        folder_config.config_text(FolderOptions("x", SIZE), prepared)
    )
    config = experiment.read_config_file(str(tmp_path / "config.py"))
    assert config.modalities.label.class_names == (name, "other" * 20)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--size=8,8"], "error: `folder`: got nothing, expected --folder=PICTURES or --dataset"),
        (["--folder=x", "--dataset=y"], "error: `folder`: got --dataset too"),
        (["--folder=x", "--values=y"], "error: `values`: got it with --folder"),
        (["--dataset=x", "--strict"], "error: `strict`: got it with --dataset"),
        (["--folder=x"], "error: `size`: got none, expected height,width"),
        (["--folder=x", "--size=8"], "error: `size`: got 8, expected height,width"),
        (["--folder=x", "--size=8,8"], "error: `folder`: got 'x', where there is nothing"),
        (["--folder=x", "--size=8,8", "--masks=m", "--palette=p"], "error: `palette`: got 'p', wh"),
    ],
)
def test_bad_flags_end_in_one_line(tmp_path, arguments, words):
    done = launch("prepare", *arguments, f"--out={tmp_path / 'out'}")
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1].startswith(words)
    assert not (tmp_path / "out").exists()


def test_palettes(tmp_path):
    file = tmp_path / "p.csv"
    file.write_text("red,green,blue,name\n1,2,3,a\n4,5,6,b\n")
    assert apps.parse_palette(str(file)) == ((1, 2, 3), (4, 5, 6))
    assert apps.parse_palette("") == ()
    file.write_text("red,green,blue\n1,x,3\n")
    with pytest.raises(ValueError, match=r"`palette`: got 1,x,3 in line 2, expected whole numbers"):
        apps.parse_palette(str(file))


def test_labels_are_given_by_name():
    names = {"label": ("cat", "dog", "7")}

    def given(text):
        return parse_given(apps.Request(1, [text]), ["label"], class_names=names)[0]["label"].item()

    assert given("label=dog") == 1
    assert given("label=2") == 2
    # A name comes before the number it looks like.
    assert given("label=7") == 2
    with pytest.raises(ValueError, match=r"`given label`: got 'dogg'.*did you mean 'dog'"):
        given("label=dogg")
