"""Masks, placeholders under them, extra columns, and values that do not fit."""

import re
import shutil

import jax
import numpy as np
import pytest
from ml_collections import ConfigDict
from sklearn.datasets import load_digits

from configs import smoke
from mmdiffusion_jax import (
    apps,
    baselines,
    data,
    evaluation,
    experiment,
    metrics,
    modalities,
    training,
)
from mmdiffusion_jax.model import split_presence

COUNT = 40
DIGITS = load_digits()
IMAGES = np.round(DIGITS.images[:COUNT] * (255 / 16)).astype(np.uint8)[..., None]
LABELS = DIGITS.target[:COUNT]
PRESENT = np.arange(COUNT) % 3 > 0
RNG = np.random.default_rng(0)
KINDS = {
    "label": ({"kind": "label", "num_classes": 10}, LABELS, -1),
    "mask": ({"kind": "segmentation", "num_classes": 2}, (IMAGES[..., 0] > 99).astype(int), 99),
    "words": (
        {"kind": "tokens", "num_classes": 7, "length": 3},
        RNG.integers(0, 7, (COUNT, 3)),
        -1,
    ),
    "vector": ({"kind": "embedding", "dims": 4}, RNG.normal(size=(COUNT, 4)), np.nan),
    "direction": (
        {"kind": "embedding", "dims": 4, "head_kind": "cosine"},
        RNG.normal(size=(COUNT, 4)).astype(np.float32),
        0.0,
    ),
    "sound": ({"kind": "audio", "frames": 4, "mels": 4}, RNG.uniform(-1, 1, (COUNT, 4, 4)), np.inf),
    "picture": ({"kind": "image"}, IMAGES.astype(np.int32), 4000),
    "masked_image": (
        {"kind": "masked_image"},
        np.concatenate([IMAGES, np.full_like(IMAGES, 255)], -1).astype(np.int16),
        -1,
    ),
    "latent": ({"kind": "latent_image"}, RNG.normal(size=(COUNT, 8, 8, 1)), np.nan),
}


def config_of(folder, arrays, **spec):
    """A small run on these arrays; the keywords are modalities beside the image."""
    config = smoke.get_config()
    config.data.source, config.data.folder = "npz", str(folder)
    for split in ("train", "test"):
        config.data[split] = str(folder / f"{split}.npz")
        np.savez(config.data[split], **arrays)
    config.modalities = ConfigDict({"image": config.modalities.image, **spec})
    config.process.weights = ConfigDict({name: {"rule": "bump", "scale": 1.0} for name in spec})
    config.loss.scales = config.loss.dropout = ConfigDict()
    config.process.num_steps, config.backbone.width, config.backbone.depth = 4, 16, 1
    config.training.num_steps, config.training.batch_size, config.training.warmup_steps = 2, 8, 1
    config.training.log_every, config.training.eval_every = 1, 2
    config.training.sample_every, config.training.checkpoint_every = 0, 2
    return config


@pytest.mark.parametrize("kind", KINDS)
def test_absent_values_are_never_looked_at(tmp_path, kind):
    spec, values, wrong = KINDS[kind]
    absent = values.copy()
    absent[~PRESENT] = wrong
    arrays = {"image": IMAGES, kind: absent, f"{kind}_present": PRESENT}
    config = config_of(tmp_path, arrays, **{kind: spec})
    got = experiment.open_data(config)[0].take(np.arange(COUNT))
    np.testing.assert_array_equal(got[kind], absent)
    np.testing.assert_array_equal(got[f"{kind}_present"], PRESENT)
    # The same value where the modality is present, or where no mask hides it, is refused.
    for mask in ({f"{kind}_present": np.roll(PRESENT, 1)}, {}):
        np.savez(config.data.train, image=IMAGES, **{kind: absent}, **mask)
        with pytest.raises(ValueError, match=f"`train data, {kind}`: got "):
            experiment.open_data(config)


def test_the_whole_of_the_data_is_read_for_wrong_values(tmp_path):
    label = np.tile(LABELS, 60)
    image = np.tile(IMAGES, (60, 1, 1, 1))
    config = config_of(tmp_path, {"image": image, "label": label}, label=KINDS["label"][0])
    experiment.open_data(config)
    label[-1] = 10
    np.savez(config.data.test, image=image, label=label)
    with pytest.raises(ValueError, match="`test data, label`: got label 10"):
        experiment.open_data(config)


@pytest.mark.parametrize(
    ("masks", "words"),
    [
        ({"labels_present": PRESENT}, "the mask 'labels_present' .*did you mean 'label_present'"),
        ({"labels_present": PRESENT.astype(int)}, "did you mean 'label_present', of the column"),
        ({"lable_present": PRESENT}, "without a column 'lable'.*did you mean 'label_present'"),
        (
            {"zzz_present": PRESENT},
            "a mask named after one of the columns 'image', 'label'; rename",
        ),
        ({"label_present": PRESENT.astype(int)}, r"label_present`: got .* dtype int64.*bool\)"),
        ({"label_present": PRESENT * 1.0}, "train data, label_present`: got .* dtype float64"),
        ({"label_present": PRESENT[:, None]}, r"got examples of shape \(1,\).*reshape\(len"),
        ({"label_present": np.ones((COUNT, 8), bool)}, r"shape \(8,\) and dtype bool"),
        ({"image_present": PRESENT * 1}, "train data, image_present`: got .* dtype int64"),
        ({"label_present": np.zeros(COUNT, bool)}, "label_present with no True in it"),
    ],
)
def test_masks_that_say_nothing(tmp_path, masks, words):
    arrays = {"image": IMAGES, "label": LABELS, **masks}
    config = config_of(tmp_path, arrays, label=KINDS["label"][0])
    with pytest.raises(ValueError, match=words):
        experiment.open_data(config)


def test_one_split_may_have_the_mask_and_the_other_not(tmp_path):
    arrays = {"image": IMAGES, "label": LABELS}
    config = config_of(tmp_path, arrays, label=KINDS["label"][0])
    np.savez(config.data.train, **arrays, label_present=PRESENT)
    train, test = experiment.open_data(config)
    assert "label_present" in train.columns
    assert "label_present" not in test.columns
    # Nothing is learned from a test split, which may lack a modality altogether.
    np.savez(config.data.test, **arrays, label_present=np.zeros(COUNT, bool))
    experiment.open_data(config)


def test_a_column_that_ends_like_a_mask_may_be_a_modality(tmp_path):
    spec = {"kind": "label", "num_classes": 3}
    arrays = {"image": IMAGES, "gift_present": LABELS % 3, "gift_present_present": PRESENT}
    config = config_of(tmp_path, arrays, gift_present=spec)
    train, _ = experiment.open_data(config)
    built = experiment.build(config)
    batch = data.select(train.take(np.arange(8)), built.model.modalities)
    values, presence = split_presence(batch)
    assert (set(values), set(presence)) == ({"image", "gift_present"}, {"gift_present"})
    params = jax.eval_shape(built.init, jax.random.key(0))
    _, scalars = jax.eval_shape(built.loss, params, jax.random.key(0), batch)
    assert "gift_present/loss" in scalars
    # A run that does not use it takes it for what it is, one more column.
    experiment.open_data(config_of(tmp_path, arrays))
    arrays["gift"] = LABELS % 3
    with pytest.raises(ValueError, match=r"`config\.modalities\.gift_present`: got a name"):
        experiment.open_data(config_of(tmp_path, arrays, gift=spec, gift_present=spec))


def test_a_pure_batch_names_its_orphan():
    with pytest.raises(ValueError, match=r"`batch`: got 'labels_present'.*mean 'label_present'"):
        split_presence({"label": LABELS, "labels_present": PRESENT})


def test_extra_columns_and_their_masks_are_left_alone(tmp_path, monkeypatch):
    """Training, evaluation and costs read the columns of the modalities and no others."""
    extra = {
        "label": np.where(PRESENT, LABELS, -1),
        "label_present": PRESENT,
        "caption": np.full(COUNT, "words"),
        "caption_present": PRESENT,
        "meta": np.array([{"any": 1}] * COUNT, object),
        "date": np.full(COUNT, "2020-01-01", "M8[D]"),
    }
    config = config_of(tmp_path, {"image": IMAGES, **extra})
    train, test = experiment.open_data(config)
    assert set(train.columns) == {"image", "label", "label_present", "caption_present"}
    built = experiment.build(config)

    def take_one(options, folder, state, step, open_batches, monitor, *rest):
        batch = next(open_batches(0))
        assert set(batch) == {"image"}
        return monitor.evaluate(state.params)

    monkeypatch.setattr(training, "train", take_one)
    losses = experiment.fit(built, train, tmp_path, evaluation.monitor(built, test))
    assert np.isfinite(losses["loss"])


def test_every_arm_of_a_comparison_takes_a_set_with_masks(tmp_path):
    arrays = {"image": IMAGES, "label": np.where(PRESENT, LABELS, -1), "label_present": PRESENT}
    config = config_of(tmp_path, arrays, label=KINDS["label"][0])
    train, _ = experiment.open_data(config)
    for arm in baselines.ARMS:
        for part, part_config in baselines.make_arm(config, arm).items():
            built = experiment.build(part_config)
            batch = data.select(train.take(np.arange(8)), built.model.modalities)
            params = jax.eval_shape(built.init, jax.random.key(0))
            loss, _ = jax.eval_shape(built.loss, params, jax.random.key(0), batch)
            assert loss.shape == (), part
    assert set(train.columns) == set(arrays)


@pytest.mark.parametrize(
    ("column", "words"),
    [
        (np.full(COUNT, "seven"), "`train data, label`: got dtype <U5, expected numbers"),
        (np.array([None] * COUNT), "`train data, label`: got dtype object, expected numbers"),
        (
            LABELS * 1.0,
            r"got .* dtype float64, .*x\.astype\(np\.int32\), with any class where a ma",
        ),
        (np.eye(10, dtype=int)[LABELS], r"shape \(10,\).*x\.argmax\(-1\)"),
        (LABELS[:, None], r"shape \(1,\).*x\[\.\.\., 0\]"),
        (LABELS.reshape(8, 5).repeat(5, 0), r"shape \(5,\) and dtype int64.*correct the config"),
    ],
)
def test_a_column_of_another_kind_is_named(tmp_path, column, words):
    config = config_of(tmp_path, {"image": IMAGES, "label": column}, label=KINDS["label"][0])
    with pytest.raises(ValueError, match=words):
        experiment.open_data(config)


def test_embeddings_and_what_is_derived_are_absent_with_their_origin(tmp_path):
    network = metrics.fit_classifier(IMAGES, LABELS, num_steps=1)
    network.save(tmp_path / "network.safetensors")
    image = IMAGES.astype(np.int16)
    image[~PRESENT] = -1
    spec = {
        "vector": {"kind": "embedding", "dims": 128, "head_kind": "cosine"},
        "hidden": {"kind": "masked_image", "num_squares": 1, "square_size": 3},
    }
    config = config_of(tmp_path, {"image": image, "image_present": PRESENT}, **spec)
    config.data.embedder = str(tmp_path / "network.safetensors")
    got = experiment.open_data(config)[0].take(np.arange(COUNT))
    for name in ("vector_present", "hidden_present"):
        np.testing.assert_array_equal(got[name], PRESENT)
    np.testing.assert_allclose(np.linalg.norm(got["vector"], axis=1), PRESENT, rtol=1e-5)
    image[PRESENT.argmax()] = -1
    np.savez(config.data.train, image=image, image_present=PRESENT)
    with pytest.raises(ValueError, match="`train data, image`: got pixels from -1 to"):
        experiment.open_data(config)


def test_images_may_be_present_in_late_examples_alone(tmp_path):
    image = np.tile(IMAGES, (40, 1, 1, 1))
    present = np.arange(len(image)) > 1500
    spec = {"kind": "masked_image", "num_squares": 1, "square_size": 3}
    config = config_of(tmp_path, {"image": image, "image_present": present}, hidden=spec)
    experiment.open_data(config)
    np.savez(config.data.train, image=image, image_present=present & False)
    with pytest.raises(ValueError, match="train data, image`: got image_present with no True"):
        experiment.open_data(config)


def make_autoencoder():
    """One that divides by the mean, and so makes nothing finite of black images."""
    return modalities.Autoencoder(
        lambda x: x / (x + 1).mean((1, 2, 3), keepdims=True), lambda z: z, "divides by the mean"
    )


def test_latents_of_absent_images_need_not_be_finite(tmp_path):
    image = IMAGES.copy()
    image[~PRESENT] = 0
    config = config_of(tmp_path, {"image": image, "image_present": PRESENT})
    config.modalities.image = ConfigDict(
        {"kind": "latent_image", "autoencoder": f"{__name__}:make_autoencoder"}
    )
    got = experiment.open_data(config)[0].take(np.arange(COUNT))["image"]
    want = experiment.build(config).model.modalities["image"].encode_images(IMAGES)
    np.testing.assert_allclose(got[PRESENT], want[PRESENT], rtol=1e-5)
    np.savez(config.data.train, image=image)
    with pytest.raises(ValueError, match=r"`encode`: got latents of .* not finite"):
        experiment.open_data(config)
    shutil.rmtree(tmp_path / "latents")
    with pytest.raises(ValueError, match=r"`encode`: got latents .* not finite"):
        experiment.open_data(config)
    np.savez(config.data.train, image=image.astype(np.uint16) * 257)
    with pytest.raises(ValueError, match=r"train data, image`: got pixels .*images / 65535"):
        experiment.open_data(config)


def test_given_values_are_present(tmp_path):
    file = tmp_path / "given.npz"
    np.savez(file, label=np.where(PRESENT, LABELS, -1), label_present=PRESENT)
    words = r"`given label`: got .* where label_present is False for 14 of 40.*label\[label_present"
    with pytest.raises(ValueError, match=words):
        apps.requests.parse_given(apps.Request(given=[f"label@{file}"]), ["label"])
    np.savez(file, label=LABELS[PRESENT])
    known, count = apps.requests.parse_given(apps.Request(given=[f"label@{file}"]), ["label"])
    assert count == PRESENT.sum()
    np.testing.assert_array_equal(known["label"], LABELS[PRESENT])


def test_records_have_masks_as_arrays_do():
    class Records:
        def __len__(self):
            return COUNT

        def __getitems__(self, keys):
            return [
                {"label": int(LABELS[k]) if PRESENT[k] else -1, "label_present": PRESENT[k]}
                for k in keys
            ]

    modality = {"label": modalities.Label(latent=(8, 8, 1), num_classes=10)}
    label = ((), np.dtype(np.int64))
    for dtype, words in ((np.bool_, ""), (np.int8, "label_present`: got .* dtype int8")):
        columns = {"label": label, "label_present": ((), np.dtype(dtype))}
        source = data.RecordSource(Records(), columns)
        if words:
            with pytest.raises(ValueError, match=words):
                experiment.check_opened(source, modality, "train")
        else:
            experiment.check_opened(source, modality, "train")
            experiment.check_source(source, modality, "train")
    with pytest.raises(ValueError, match="got label -1"):
        experiment.check_source(data.RecordSource(Records(), {"label": label}), modality, "train")


TOP = np.arange(COUNT * 64).reshape(COUNT, 8, 8, 1) % 17
RAMP = np.linspace(0, 1, COUNT * 64).reshape(COUNT, 8, 8, 1)


@pytest.mark.parametrize(
    ("num_levels", "images"),
    [
        (17, TOP.astype(np.uint8)),
        (17, TOP.astype(np.float32)),
        (17, TOP / 16),
        (17, np.floor(TOP * (255 / 16)).astype(np.uint8)),
        (17, (RAMP * 255).astype(np.uint8)),
        (2, (TOP > 8)),
        (2, (TOP > 8).astype(np.uint8)),
        (256, RAMP),
        (256, RAMP.astype(np.float16)),
        (256, 2 * RAMP - 1),
        (256, np.round(255 * RAMP)),
        (256, TOP > 8),
        (256, (RAMP * 65535).astype(np.uint16)),
        (256, (RAMP * 4095).astype(np.uint16)),
        (256, (RAMP * 1023).astype(np.int32)),
    ],
    ids=lambda value: str(getattr(value, "dtype", value)),
)
def test_images_on_another_scale_come_with_the_line_that_converts_them(
    tmp_path, num_levels, images
):
    """The line is run, and what it makes is taken, of all 256 or `num_levels` levels."""
    config = config_of(tmp_path, {"image": images})
    config.modalities.image.num_levels = num_levels
    with pytest.raises(ValueError, match="`train data, image`: got ") as refused:
        experiment.open_data(config)
    line = re.search(r"np\.round.*?astype\(np\.uint8\)", str(refused.value))
    converted = eval(line.group(), {"np": np, "images": images})
    for split in ("train", "test"):
        np.savez(config.data[split], image=converted)
    got = experiment.open_data(config)[0].take(np.arange(COUNT))["image"]
    assert (got.min(), got.max()) == (0, 255)
    # No two values are exchanged, and levels are those that came.
    order = np.argsort(images.ravel(), kind="stable")
    assert (np.diff(got.ravel()[order].astype(int)) >= 0).all()


@pytest.mark.parametrize(
    ("images", "line"),
    [
        (IMAGES[..., 0], "images[..., None]"),
        (np.moveaxis(IMAGES, -1, 1), "images.transpose(0, 2, 3, 1)"),
        (IMAGES[..., 0] / 255, "np.round(images * 255).astype(np.uint8)"),
    ],
)
def test_images_in_another_shape(tmp_path, images, line):
    config = config_of(tmp_path, {"image": images})
    config.modalities.image.num_levels = 256
    with pytest.raises(ValueError, match=re.escape(line)):
        experiment.open_data(config)


def test_what_is_no_scale_at_all_is_refused_in_words(tmp_path):
    for images in (RAMP * 7e5, RAMP - 300, np.full((COUNT, 8, 8, 1), np.nan)):
        config = config_of(tmp_path, {"image": images})
        with pytest.raises(ValueError, match=r"mark such examples as not present\.$"):
            experiment.open_data(config)


def test_images_that_are_almost_black_are_spoken_of(tmp_path, caplog):
    """All levels of 256 are allowed, but 17 of them are likely those of another scale."""
    config = config_of(tmp_path, {"image": TOP.astype(np.uint8)})
    config.modalities.image.num_levels = 256
    with caplog.at_level("WARNING", "absl"):
        experiment.open_data(config)
    assert "train data, image: no pixel is above 16 of 255" in caplog.text


def test_vectors_say_how_they_get_the_shape_of_the_latent(tmp_path):
    config = config_of(tmp_path, {"image": RNG.normal(size=(COUNT, 64))})
    config.modalities.image = ConfigDict({"kind": "latent_image"})
    with pytest.raises(ValueError, match=r"x\.reshape\(-1, 8, 8, 1\)\.astype\(np\.float32\)"):
        experiment.open_data(config)


@pytest.mark.parametrize(("head_kind", "is_spoken_of"), [("gaussian", True), ("cosine", False)])
def test_unit_vectors_of_a_gaussian_embedding_are_spoken_of(caplog, head_kind, is_spoken_of):
    """By their root mean square, though one value of the last chunk is large."""
    vectors = np.random.default_rng(0).normal(size=(1100, 100))
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    vectors[-1] = np.eye(100)[0]
    kind = modalities.Embedding(latent=(8, 8, 2), dims=100, head_kind=head_kind)
    with caplog.at_level("WARNING", "absl"):
        experiment.checks.check_source(data.ArraySource({"e": vectors}), {"e": kind}, "train")
    words = 'train data, e: the values have a root mean square of 0.1, .* head_kind="cosine"'
    assert bool(re.search(words, caplog.text)) == is_spoken_of
