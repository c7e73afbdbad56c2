"""Reports: a model against itself, against worse ones, and what is refused."""

import dataclasses
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from mmdiffusion_jax import data, experiment, graceful, objective
from mmdiffusion_jax.graceful.updates import report as module
from mmdiffusion_jax.model import Diffusion
from tests.graceful.small import built_with, examples, frozen, source
from tests.graceful.updates.test_bundle import changed


@pytest.fixture(scope="module")
def deployed():
    return frozen(built_with())


@pytest.fixture(scope="module")
def successor(deployed):
    """Another encoder, another head and another backbone, trained to go with nothing."""
    return frozen(built_with(width=32), seed=1)


@pytest.fixture(scope="module")
def report(deployed, successor):
    return graceful.compare(deployed, successor, source(), repeats=2)


def test_a_model_is_a_graceful_update_of_itself(deployed):
    report = graceful.compare(deployed, deployed, source(), repeats=2)
    assert report.num_examples == 40
    assert report.decisions["label"].negative == report.decisions["label"].positive == 0
    assert report.denoising.ratio == 1
    assert report.denoising.successor_on_stored == report.denoising.successor
    assert report.compatible == {"image": True, "label": True}
    assert report.search == {}
    report.require()


def test_decisions_are_those_that_the_models_make_with_the_same_keys(deployed, successor, report):
    columns = examples()
    given = {"image": columns["image"]}
    was, now = (
        x.built.generate(jax.random.key(0), x.params, 40, given)["label"]
        for x in (deployed, successor)
    )
    right = columns["label"]
    flips = report.decisions["label"]
    assert flips.old_error == pytest.approx(np.mean(was != right))
    assert flips.new_error == pytest.approx(np.mean(now != right))
    assert flips.broken[:, 0].tolist() == np.flatnonzero((was == right) & (now != right)).tolist()


@pytest.mark.long
def test_errors_of_the_noise_are_the_means_over_draws(deployed, report):
    """In the tasks of training: where labels are shown, wrong codes of labels tell."""
    batch = jax.tree.map(jnp.asarray, examples())
    built = deployed.built
    model = built.model.functions(deployed.params)
    key = jax.random.fold_in(jax.random.key(0), 0)
    errors = [
        objective.simple_loss(
            k, Diffusion(built.process, model), batch, options=built.settings.loss.of_simple_loss()
        )[1]["image/squared_error"].value
        for k in jax.random.split(key, 2)
    ]
    np.testing.assert_allclose(report.denoising.deployed, np.mean(errors), rtol=1e-5)
    assert report.denoising.ratio != 1


def test_what_new_encodings_find_among_stored_ones(deployed, successor, report):
    """Codes of ten classes: those of one table always find their like, others' by chance."""
    search = report.search["label"]
    assert search.precision.old_old == search.precision.new_new == pytest.approx(1)
    assert search.precision.new_old < 0.6
    labels = examples()["label"]
    tables = [x.params["modalities_label"]["table"].reshape(10, -1) for x in (deployed, successor)]
    old, new = (np.asarray(graceful.unit(table))[labels] for table in tables)
    cosines = new @ old.T
    np.fill_diagonal(cosines, -np.inf)
    wrong = labels[np.argmax(cosines, axis=1)] != labels
    assert search.items.new_error == pytest.approx(wrong.mean())
    first, last = (search.migration[place][1] for place in (0, -1))
    assert first == (search.top_1.new_old, search.precision.new_old)
    assert last == (search.top_1.new_new, search.precision.new_new)
    assert first.mean_average_precision < last.mean_average_precision


def test_a_bad_update_is_refused_with_the_examples_that_break(report):
    with pytest.raises(graceful.UpdateRefused) as refused:
        report.require(
            graceful.Limits(negative_flips=-1.0, error_increase=-1.0, denoiser_ratio=0.0)
        )
    words = str(refused.value)
    assert "the encoder of 'label' is neither the deployed one nor trained to go with it" in words
    assert "of the decisions on 'label' were right and become wrong" in words
    assert "the deployed denoiser's error on the new latents is" in words
    assert "new queries of 'label' find" in words
    broken = report.search["label"].items.broken[:, 0]
    assert f"examples {', '.join(map(str, broken[:20]))}" in words
    assert "the encoder of 'image'" not in words


@pytest.mark.parametrize("name", [field.name for field in dataclasses.fields(graceful.Limits)])
def test_a_limit_that_is_no_number_lets_nothing_through(name):
    with pytest.raises(ValueError, match=f"`{name}`: got nan, expected a finite number"):
        graceful.Limits(**{name: float("nan")})
    assert getattr(graceful.Limits(**{name: float("inf")}), name) == float("inf")


def test_an_error_that_is_no_number_is_no_reason_to_pass(report):
    denoising = dataclasses.replace(report.denoising, deployed_on_new=float("nan"))
    harmed = dataclasses.replace(report, denoising=denoising)
    limits = graceful.Limits(1.0, 1.0, 1.1, 1.0)
    assert any("denoiser's error" in line for line in harmed.problems(limits))


@pytest.mark.long
def test_declared_compatibility_counts(deployed, successor):
    declared = graceful.freeze(
        successor.built,
        successor.params,
        compatible_with={"label": (deployed.encoders["label"].fingerprint,)},
    )
    report = graceful.compare(deployed, declared, source(), repeats=1)
    assert report.compatible == {"image": True, "label": True}


def masks_with_void():
    """The digits' images in two channels, with random masks of which half of the rows is void."""
    columns = examples()
    columns["image"] = np.repeat(columns["image"], 2, axis=-1)
    mask = np.random.default_rng(1).integers(0, 3, (40, 8, 8))
    mask[:, ::2] = 255
    return {**columns, "mask": mask.astype(np.int32)}


@pytest.mark.long
def test_unknown_entries_are_not_counted(deployed):
    """Half of the pixels are void: shares are of the others."""
    one, two = (frozen(built_with(masks=True), seed=seed) for seed in (0, 1))
    columns = masks_with_void()
    mask = columns["mask"]
    report = graceful.compare(one, two, data.ArraySource(columns), repeats=1)
    given = {"image": columns["image"]}
    was, now = (
        x.built.generate(jax.random.key(0), x.params, 40, given)["mask"] for x in (one, two)
    )
    known = mask != 255
    flips = report.decisions["mask"]
    assert flips.old_error == pytest.approx(np.mean((was != mask)[known]))
    assert flips.negative == pytest.approx(np.mean(((was == mask) & (now != mask))[known]))
    assert all(mask[tuple(index)] != 255 for index in flips.broken)


@pytest.mark.long
def test_absent_examples_and_later_classes_are_left_out(deployed):
    """Forty examples among which ten more are absent, and ten of a class that came later."""
    rng = np.random.default_rng(3)
    more = {name: np.concatenate([x, x[:20]]) for name, x in examples().items()}
    more["label"][50:] = 11
    present = np.arange(60) < 40
    order = rng.permutation(60)
    columns = {name: x[order] for name, x in more.items()}
    columns["label_present"] = (present | (np.arange(60) >= 50))[order].astype(np.float32)
    later = frozen(
        built_with(width=32, modalities={"label": {"kind": "label", "num_classes": 12}}), seed=1
    )
    report = graceful.compare(deployed, later, data.ArraySource(columns), repeats=1)
    labels = columns["label"]
    rows = np.flatnonzero(present[order])
    table = deployed.params["modalities_label"]["table"].reshape(10, -1)
    new = later.params["modalities_label"]["table"].reshape(12, -1)
    truth = labels[rows]
    across = graceful.retrieve(new[truth], truth, table[truth], truth, same_examples=True)
    assert report.search["label"].precision.new_old == pytest.approx(across[1])
    assert set(report.search["label"].items.broken[:, 0]) <= set(rows)
    # What is there of a later class counts as wrong as deployed.
    judged = np.flatnonzero(columns["label_present"])
    read = deployed.built.generate(
        jax.random.key(0), deployed.params, 60, {"image": columns["image"]}
    )["label"]
    assert report.decisions["label"].old_error == pytest.approx(np.mean((read != labels)[judged]))
    assert np.isfinite(list(dataclasses.asdict(report.denoising).values())).all()


@pytest.mark.long
def test_examples_without_the_primary_or_the_truth_count_nowhere(deployed, successor):
    """Whatever stands in their place, the report is the same, and says how many counted."""
    rng = np.random.default_rng(4)
    seen = {name: rng.random(40) < share for name, share in (("image", 0.8), ("label", 0.6))}
    masks = {f"{name}_present": mask for name, mask in seen.items()}
    reports = []
    for pixel, label in ((0, -1), (255, 3)):
        columns = examples() | masks
        columns["image"] = np.where(
            seen["image"][:, None, None, None], columns["image"], pixel
        ).astype(np.uint8)
        columns["label"] = np.where(seen["label"], columns["label"], label)
        reports.append(graceful.compare(deployed, successor, data.ArraySource(columns), repeats=1))
    assert reports[0].to_dict() == reports[1].to_dict()
    both = np.flatnonzero(seen["image"] & seen["label"])
    assert reports[0].num_examples == seen["image"].sum()
    assert reports[0].decisions["label"].count == len(both)
    assert f"| label: decisions that are known | {len(both)} |" in reports[0].table()
    # Broken examples are named by their rows in the data.
    given = {"image": examples()["image"][seen["image"]]}
    was, now = (
        x.built.generate(jax.random.key(0), x.params, len(given["image"]), given)["label"]
        for x in (deployed, successor)
    )
    rows, truth = np.flatnonzero(seen["image"]), examples()["label"][seen["image"]]
    broken = rows[(was == truth) & (now != truth) & seen["label"][rows]]
    assert reports[0].decisions["label"].broken[:, 0].tolist() == broken.tolist()


def test_decisions_that_nothing_is_known_of_are_a_problem(deployed, successor):
    columns = {**examples(), "label_present": np.zeros(40, bool)}
    report = graceful.compare(deployed, successor, data.ArraySource(columns), repeats=1)
    assert dict(report.decisions) == {}
    assert "| label: decisions | no example says what is right |" in report.table()
    words = "the decisions on 'label' could not be compared: no example says what is right"
    assert words in report.problems(graceful.Limits(1.0, 1.0, 100.0, 1.0))


def test_what_is_unknown_to_the_successor_alone_is_no_decision():
    """The deployed model has no void: a void pixel was wrong in both, and is no decision."""
    without = {"kind": "segmentation", "num_classes": 3}
    one = frozen(built_with(masks=True, modalities={"mask": without}))
    two = frozen(built_with(masks=True), seed=1)
    columns = masks_with_void()
    decided = np.zeros((40, 8, 8), np.int32)
    for bundle, values in ((one, decided), (two, decided + 1)):
        answer = lambda *_, values=values: {"mask": values, "label": columns["label"]}  # noqa: E731
        bundle.built.__dict__["generate"] = answer
    flipped = module._decisions(jax.random.key(0), one, two, columns, np.arange(40))[0]["mask"]
    known = columns["mask"] != 255
    assert flipped.count == known.sum()
    assert flipped.negative == pytest.approx(np.mean(columns["mask"][known] == 0))


def test_retrieval_among_labels_that_are_all_distinct_is_not_measured(deployed, successor):
    """The distance of the encodings needs no labels."""
    columns = {"image": examples()["image"][:10], "label": np.arange(10)}
    distances, search, reasons = module._search(deployed, successor, columns, np.arange(10))
    why = "no two of the examples that can be searched have the same label"
    assert (search, reasons) == ({}, {"label": why})
    old, new = (
        np.asarray(x.built.model.functions(x.params).modalities["label"].encode(np.arange(10)))
        for x in (deployed, successor)
    )
    assert distances["label"] == pytest.approx(np.sqrt(np.mean((new - old) ** 2)), rel=1e-5)


@pytest.mark.parametrize("more", [{}, {"label": np.zeros((40, 10), np.int32)}])
def test_retrieval_without_labels_is_not_measured(more):
    """A model of images and masks, of data that have no labels or several each."""
    config = built_with(masks=True).settings.to_dict()
    del config["modalities"]["label"], config["process"]["weights"]["label"]
    config["loss"] |= {"tasks": {"image, mask": 1.0}, "dropout": {}, "scales": {}}
    built = experiment.build(experiment.config_of(config))
    one, two = (frozen(built, seed=seed) for seed in (0, 1))
    columns = {**masks_with_void(), **more}
    if not more:
        del columns["label"]
    distances, search, reasons = module._search(one, two, columns, np.arange(40))
    assert distances["mask"] > 0
    assert (search, reasons) == ({}, {"mask": "the examples have no labels, one each"})


def test_a_report_without_retrieval_says_so(report, tmp_path):
    silent = dataclasses.replace(report, search={}, not_searched={"label": "no labels"})
    words = "retrieval by 'label' could not be compared: no labels"
    assert words in silent.problems(graceful.Limits(1.0, 1.0, 100.0, 0.99))
    assert words not in silent.problems(graceful.Limits(1.0, 1.0, 100.0, 1.0))
    assert "| label: retrieval | no labels |" in silent.table()
    distance = report.distances["label"]
    assert f"root mean square of new encodings less stored ones | {distance:.4f} |" in (
        report.table()
    )
    graceful.plot_report(silent, tmp_path / "report.png")


def test_encodings_of_zeros_are_left_out_of_the_search(deployed, successor, monkeypatch):
    """One example is silent: the rest is searched, and broken examples keep their rows."""
    encode = module._encodings

    both = [deployed, successor]

    def silent(bundle, name, x):
        encoded = encode(bundle, name, x).copy()
        encoded[3] *= bundle not in both
        return encoded

    columns, rows = examples(), np.arange(40)
    rest = np.delete(rows, 3)
    want = module._search(
        deployed, successor, {name: x[rest] for name, x in columns.items()}, rest
    )[1]["label"]
    monkeypatch.setattr(module, "_encodings", silent)
    got = module._search(deployed, successor, columns, rows)[1]["label"]
    assert got.num_examples == 39
    assert got.precision == pytest.approx(want.precision)
    np.testing.assert_array_equal(got.items.broken, want.items.broken)
    both.remove(deployed)
    _, search, reasons = module._search(deployed, successor, columns, rows)
    assert (search, reasons) == ({}, {"label": "encodings that had a direction are zeros now"})


def test_both_denoisers_are_measured_by_the_deployed_models_loss(deployed):
    """The same parameters trained by another weighting have the same errors."""
    config = experiment.config_of(deployed.built.settings.to_dict())
    assert config.loss.weighting.kind == "v"
    config.loss.weighting.kind = "none"
    same = graceful.freeze(experiment.build(config), deployed.params)
    errors = graceful.compare(deployed, same, source(16), repeats=1).denoising
    assert errors.successor == pytest.approx(errors.deployed, rel=1e-5)


@pytest.mark.long
def test_a_successor_that_is_shown_less_or_more_is_measured_as_well(deployed):
    """Without the tasks that it has no part in; the deployed model's errors stay what they are."""
    config = deployed.built.settings.to_dict()
    config["loss"] |= {"tasks": {"image, label": 1.0}, "dropout": {}}
    blind = frozen(experiment.build(experiment.config_of(config)))
    assert deployed.built.settings.shows
    assert not blind.built.settings.shows
    alone = graceful.compare(deployed, deployed, source(16), repeats=1).denoising
    less, more = (
        graceful.compare(old, new, source(16), repeats=1).denoising
        for old, new in ((deployed, blind), (blind, deployed))
    )
    assert less.deployed == pytest.approx(alone.deployed)
    assert np.isfinite([*dataclasses.astuple(less), *dataclasses.astuple(more)]).all()


def test_a_report_as_text_json_and_picture(report, tmp_path):
    table = report.table()
    assert "| 40 examples | |" in table
    assert f"{report.denoising.deployed:.4f}" in table
    plain = json.loads(json.dumps(report.to_dict()))
    assert plain["decisions"]["label"]["broken"] == report.decisions["label"].broken.tolist()
    assert plain["search"]["label"]["precision"]["old_old"] == pytest.approx(1)
    graceful.plot_report(report, tmp_path / "report.png")
    with Image.open(tmp_path / "report.png") as picture:
        assert picture.size[0] > 1000


def test_who_cannot_be_compared(deployed):
    with pytest.raises(ValueError, match=r"`config.process.num_steps`: got 9"):
        graceful.compare(deployed, frozen(built_with(num_steps=9)), source())
    other = frozen(built_with(num_steps=9))
    undecided = graceful.UpdateOptions(flips=0.0)
    assert graceful.compare(deployed, other, source(8), repeats=1, options=undecided)
    worse = dataclasses.replace(
        deployed, params=changed(deployed.params, "modalities_label", "table")
    )
    assert not np.isnan(graceful.compare(deployed, worse, source(), repeats=1).denoising.ratio)
