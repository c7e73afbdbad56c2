"""What training data mostly lack: when it is drawn, and how often training sees it."""

import itertools
import logging

import numpy as np
import pytest
from ml_collections import ConfigDict

from configs import smoke
from mmdiffusion_jax import apps, baselines, data, experiment, training


def source_with(share, name="label", num=40):
    rng = np.random.default_rng(0)
    images = np.tile(np.arange(num, dtype=np.uint8)[:, None, None, None], (1, 8, 8, 1))
    columns = {"image": images, "label": np.arange(num) % 10}
    columns[f"{name}_present"] = np.arange(num) < share * num
    return data.ArraySource({key: rng.permutation(x) for key, x in columns.items()})


def adapted(config, source):
    return experiment.draw_scarce_last(config, experiment.build(config), source).sampling


@pytest.mark.parametrize(("share", "order"), [(0.2, ("image", "label")), (0.6, ())])
def test_a_scarce_label_is_read_after_the_image(share, order):
    assert adapted(smoke.get_config(), source_with(share)).order == order


def test_a_model_that_is_shown_nothing_leaves_it_out_of_the_states():
    config = smoke.get_config()
    config.loss.tasks = ConfigDict({"image, label": 1.0})
    assert adapted(config, source_with(0.2)).unknown == "absent"
    config.sampling.unknown = "estimated"
    assert adapted(config, source_with(0.2)).unknown == "estimated"


def test_an_order_that_the_config_names_stays():
    config = smoke.get_config()
    config.sampling.order = ("label", "image")
    assert adapted(config, source_with(0.2)) is config.sampling


def test_a_model_that_cannot_be_shown_the_image_keeps_its_order():
    config = smoke.get_config()
    config.loss.tasks = ConfigDict({"image | label": 1.0, "label": 1.0})
    assert adapted(config, source_with(0.2)) is config.sampling


@pytest.fixture
def batches_of(monkeypatch, tmp_path):
    """Config and source → the first 20 batches that training would take."""
    taken = []

    def look(options, folder, state, step, open_batches, *rest):
        taken.extend(itertools.islice(open_batches(0), 20))

    monkeypatch.setattr(training, "train", look)

    def read(config, source):
        taken.clear()
        config.backbone.width, config.backbone.depth = 16, 1
        experiment.fit(experiment.build(config), source, tmp_path, None)
        return taken

    return read


def share_of_labels(batches):
    present = [batch["label_present"] for batch in batches if "label_present" in batch]
    return np.mean(np.concatenate(present)) if present else None


def test_a_predictor_sees_nothing_but_what_it_can_learn_from(batches_of):
    """Its rival of the same config sees all images, and one alone has no labels at all."""
    config, source = smoke.get_config(), source_with(0.1)
    assert share_of_labels(batches_of(config, source)) == pytest.approx(0.1)
    single = baselines.make_arm(config, "single")
    assert share_of_labels(batches_of(single["predict_label"], source)) == 1
    assert share_of_labels(batches_of(single["generate"], source)) is None


@pytest.mark.parametrize("portion", [0.25, 0.5, 0.8])
def test_portions_of_a_batch(batches_of, portion):
    config, source = smoke.get_config(), source_with(0.1)
    config.data.portions = ConfigDict({"label": portion})
    seen = batches_of(config, source)
    assert share_of_labels(seen) == pytest.approx(portion, abs=0.02)
    # A single task does not see images more often for the sake of another.
    arm = baselines.make_arm(config, "single")["generate"]
    images = np.concatenate([batch["image"] for batch in batches_of(arm, source)])
    assert len(images) % 40 == 0
    counts = np.unique(images.reshape(len(images), -1), axis=0, return_counts=True)[1]
    assert set(counts.tolist()) == {len(images) // 40}


def test_two_portions_of_a_batch_hold_together(batches_of):
    config = smoke.get_config()
    config.modalities.mask = ConfigDict({"kind": "segmentation", "num_classes": 2})
    config.process.weights.mask = ConfigDict({"rule": "bump", "scale": 1.0})
    config.data.portions = ConfigDict({"label": 0.4, "mask": 0.4})
    columns = source_with(1).take(np.arange(40)) | {"mask": np.zeros((40, 8, 8), int)}
    columns["label_present"], columns["mask_present"] = np.arange(40) < 3, np.arange(40) > 36
    source = data.ArraySource(columns)
    seen = batches_of(config, source)
    for name in ("label", "mask"):
        share = np.mean(np.concatenate([batch[f"{name}_present"] for batch in seen]))
        assert share == pytest.approx(0.4, abs=0.03)
    config.data.portions.mask = 0.6
    with pytest.raises(ValueError, match=r"`config\.data\.portions`: got .*below 1 where none"):
        batches_of(config, source)


@pytest.mark.parametrize(
    ("parts", "share", "said"),
    [(1, 0.1, 0), (8, 0.1, 1), (8, 0.9, 0), (16, 0.9, 0), (32, 0.9, 1), (64, 1, 0)],
)
def test_parts_of_a_batch_that_lack_a_modality_are_spoken_of(
    batches_of, caplog, parts, share, said
):
    config = smoke.get_config()
    config.training.batch_size, config.training.accumulate = 64, parts
    batches_of(config, source_with(share))
    lines = [text for text in caplog.messages if "accumulate" in text]
    assert len(lines) == said
    if said:
        expected = f"of the {64 // parts} examples of a part {share * 64 / parts:.2g} have 'label'"
        assert expected in lines[0]
        assert "fewer parts" in lines[0]


def on_files(config, folder):
    """The config on four images with labels, in two files."""
    config.data.source, config.modalities.image.num_levels = "npz", 256
    for split in ("train", "test"):
        config.data[split] = str(folder / f"{split}.npz")
        images = np.arange(256, dtype=np.uint8).reshape(4, 8, 8, 1)
        np.savez(config.data[split], image=images, label=np.arange(4))
    return config


@pytest.mark.parametrize(
    ("key", "value"), [("portions", ConfigDict({"labl": 0.5})), ("mirrored", ("labl",))]
)
def test_more_of_what_there_is_not(tmp_path, key, value):
    config = on_files(smoke.get_config(), tmp_path)
    config.data[key] = value
    words = f"`config.data.{key}`: got 'labl'.*did you mean 'label'"
    with pytest.raises(ValueError, match=words):
        experiment.open_data(config)


def test_training_sees_mirror_images_and_the_test_split_has_none(tmp_path, batches_of):
    config = on_files(smoke.get_config(), tmp_path)
    config.data.mirrored = ("image",)
    train, test = experiment.open_data(config)
    assert len(train) == len(test) == 4
    seen = np.concatenate([batch["image"] for batch in batches_of(config, train)])
    whole = train.take(np.arange(4))["image"]
    both = np.unique(np.concatenate([whole, np.flip(whole, axis=2)]), axis=0)
    np.testing.assert_array_equal(np.unique(seen, axis=0), both)
    # A model without the modality trains on the rest as it is.
    arm = baselines.make_arm(config, "single")["predict_label"]
    assert len(np.unique(np.concatenate([b["image"] for b in batches_of(arm, train)]), axis=0)) == 8


@pytest.fixture
def masked(tmp_path):
    """A config of masked images and masks, whose images are no modality, and its arrays."""
    config = on_files(smoke.get_config(), tmp_path)
    config.primary = "masked_image"
    config.modalities = ConfigDict(
        {
            "masked_image": {"kind": "masked_image", "num_squares": 1, "square_size": 3},
            "mask": {"kind": "segmentation", "num_classes": 2},
        }
    )
    config.process.weights = ConfigDict({"mask": {"rule": "bump", "scale": 1.0}})
    config.loss.tasks = ConfigDict({"masked_image, mask": 1.0})
    config.loss.scales = ConfigDict()
    config.data.mirrored = ("image", "mask")
    mask = np.random.default_rng(0).integers(0, 2, (4, 8, 8))
    arrays = {"image": (255 * mask[..., None]).astype(np.uint8), "mask": mask}
    for split in ("train", "test"):
        np.savez(config.data[split], **arrays)
    return config, arrays


def test_an_image_is_mirrored_where_it_is_no_modality_but_one_is_drawn_from_it(masked, batches_of):
    config, _ = masked
    seen = batches_of(config, experiment.open_data(config)[0])
    assert len({mask.tobytes() for batch in seen for mask in batch["mask"]}) == 8
    for batch in seen:
        np.testing.assert_array_equal(batch["masked_image"][..., 0], 255 * batch["mask"])


def test_a_masked_image_that_the_data_hold_is_mirrored_with_its_image_or_refused(
    masked, batches_of
):
    config, arrays = masked
    hidden = np.concatenate([arrays["image"], np.full_like(arrays["image"], 255)], axis=-1)
    for split in ("train", "test"):
        np.savez(config.data[split], **arrays, masked_image=hidden)
    words = r"`config\.data\.mirrored`: got 'image' without 'masked_image'.*add 'masked_image'"
    with pytest.raises(ValueError, match=words):
        experiment.open_data(config)
    with pytest.raises(ValueError, match=words):
        batches_of(config, data.open_npz(config.data.train))
    config.data.mirrored = ("image", "mask", "masked_image")
    seen = batches_of(config, experiment.open_data(config)[0])
    assert len({mask.tobytes() for batch in seen for mask in batch["mask"]}) == 8
    for batch in seen:
        np.testing.assert_array_equal(batch["masked_image"][..., 0], 255 * batch["mask"])


def test_masked_images_are_drawn_anew_where_few_have_a_label(tmp_path):
    config = on_files(smoke.get_config(), tmp_path)
    squares = {"kind": "masked_image", "num_squares": 1, "square_size": 3}
    config.modalities.masked_image = ConfigDict(squares)
    config.process.weights.masked_image = ConfigDict({"rule": "bump", "scale": 1.0})
    config.data.kept = ConfigDict({"label": 2})
    train = experiment.open_data(config)[0]
    batches = data.train_batches(train, batch_size=4, seed=0)
    by_label = {}
    for batch in itertools.islice(batches, 10):
        assert batch["label_present"].sum() == 2
        for label, masked in zip(batch["label"], batch["masked_image"], strict=True):
            by_label.setdefault(int(label), set()).add(masked.tobytes())
    assert min(map(len, by_label.values())) > 5


@pytest.mark.long
def test_training_says_so_once_and_keeps_it(tmp_path, caplog):
    """In the config of the workdir, where every later command reads it; and a run goes on."""
    config = smoke.get_config()
    config.data.source = "npz"
    rng = np.random.default_rng(0)
    levels = np.round(rng.integers(0, 17, (64, 8, 8, 1)) * (255 / 16)).astype(np.uint8)
    labels = np.arange(64) % 10
    for split in ("train", "test"):
        config.data[split] = str(tmp_path / f"{split}.npz")
        np.savez(config.data[split], image=levels, label=labels, label_present=labels < 2)
    config.backbone.width, config.backbone.depth = 16, 1
    config.training.num_steps = 2
    config.training.eval_every = config.training.sample_every = 0
    workdir = str(tmp_path / "run")
    with caplog.at_level(logging.WARNING):
        apps.train(config, workdir)
    said = [record.getMessage() for record in caplog.records if "'label'" in record.getMessage()]
    assert len(said) == 1
    assert "21.9% have 'label'" in said[0]
    assert experiment.read_config(workdir).sampling.order == ("image", "label")
    config.training.num_steps = 3
    assert int(apps.train(config, workdir).step) == 3
