"""A trained model from Python: the launch scripts' samples and figures, and words for bad input."""

import functools

import jax
import numpy as np
import pytest
from PIL import Image

import mmdiffusion_jax as mm
from mmdiffusion_jax import apps, data, evaluation, experiment, objective
from tests.apps.small import launch, run_python

PARTS = ("prior", "posterior", "recovery", "reconstruction")


def examples(count=7):
    rng = np.random.default_rng(0)
    image = np.round(rng.integers(0, 17, (count, 8, 8, 1)) * (255 / 16)).astype(np.uint8)
    return {"image": image, "label": np.arange(count) % 10}


def samples_in(folder):
    files = sorted(folder.glob("samples-*.npz"))
    shards = [np.load(file) for file in files]
    return {name: np.concatenate([shard[name] for shard in shards]) for name in shards[0].files}


def assert_same(samples, others):
    assert samples.keys() == others.keys()
    for name, x in samples.items():
        np.testing.assert_array_equal(x, others[name], strict=True)


def test_samples_are_those_of_the_launch_script(finished, model, tmp_path):
    done = launch(
        "sample", f"--workdir={finished}", "--num_samples=8", f"--out={tmp_path}",
        "--given=label=3",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    samples = model.sample(8, given={"label": 3}, seed=0)
    assert samples["image"].shape == (8, 8, 8, 1)
    assert samples["label"].tolist() == [3] * 8
    assert_same(samples, samples_in(tmp_path))
    others = model.sample(8, given={"label": 3}, seed=1)
    assert not np.array_equal(samples["image"], others["image"])


@pytest.mark.parametrize("request_", ["joint", "shards", "given", "keep", "begin", "weaker"])
def test_every_kind_of_request_is_that_of_the_command(finished, model, tmp_path, request_):
    file, values = tmp_path / "values.npz", examples()
    mask = np.zeros(values["image"].shape, bool)
    mask[:, :4] = True
    np.savez(file, **values, image_keep=mask)
    options = {"sampler": "dpm_solver_pp_2m_sde", "num_steps": 5}
    noised = mm.pure.Noised(values["image"], 0.5)
    other = {"batch_size": 3}
    words, arguments, options = {
        "joint": ({"seed": 5}, {"seed": 5}, {}),
        "shards": ({"num_samples": 8}, {"num_samples": 8}, {**options, **other}),
        "given": ({"given": [f"image@{file}"]}, {"given": {"image": values["image"]}}, options),
        "keep": (
            {"keep": [f"image@{file}"], "given": ["label=3"]},
            {"keep": {"image": mm.pure.Fixed(values["image"], mask)}, "given": {"label": 3}},
            {},
        ),
        "begin": ({"begin": [f"image:0.5@{file}"]}, {"begin": {"image": noised}}, {}),
        "weaker": (
            {"num_samples": 7, "weaker": str(finished)},
            {"num_samples": 7, "weaker": model},
            {"autoguidance": 2.0},
        ),
    }[request_]
    out, shard_size = tmp_path / "out", 6 if request_ == "shards" else None
    apps.sample(str(finished), str(out), apps.Request(**words), shard_size, **options)
    samples = model.sample(**arguments, **options)
    assert len(samples["image"]) == {"joint": 100, "shards": 8}.get(request_, 7)
    assert_same(samples, samples_in(out))


def test_the_bound_is_the_one_that_evaluation_prints(model):
    built = model.experiment
    _, test = experiment.open_data(model.config)
    rows = np.arange(built.evaluation.num_scored)
    terms = model.bound(data.select(test.take(rows), model.modalities))
    figures = evaluation.values_of(evaluation.bound_on(built, model.params, test))
    for part in PARTS:
        assert float(getattr(terms, part).mean()) == figures[f"bound/{part}"]
    np.testing.assert_allclose(
        terms.bits_per_dim(model.num_dims()).mean(), figures["bits_per_dim"], rtol=1e-6
    )


@pytest.mark.parametrize("given", [[], ["label"], ["image"]])
def test_the_bound_is_that_of_the_pure_function(model, given):
    batch = examples()
    terms = model.bound(batch, given=given)
    diffusion = mm.pure.Diffusion(
        model.experiment.process, model.experiment.model.functions(model.params)
    )
    key = jax.random.fold_in(jax.random.key(model.config.evaluation.seed), 0)
    order = [name for name in ("label", "image") if name not in given]
    bound = jax.jit(functools.partial(objective.bound, key, diffusion, given=given, order=order))
    wanted = bound(batch)
    for part in PARTS:
        np.testing.assert_allclose(getattr(terms, part), getattr(wanted, part), rtol=2e-4)
    if given == ["image"]:
        assert terms.prior.tolist() == terms.posterior.tolist() == [0] * 7
        assert (terms.recovery > 0).all()
    assert model.num_dims(given) == 65 - {"label": 1, "image": 64}.get("".join(given), 0)


def test_encodings_and_pictures_are_as_pillow_and_numpy_make_them(model):
    batch = examples(3)
    np.testing.assert_allclose(
        model.encode("image", batch["image"]), batch["image"] / 127.5 - 1, atol=1e-6
    )
    codes = model.encode("label", [3, 3, 4])
    assert codes.shape == (3, 8, 8, 1)
    assert np.array_equal(codes[0], codes[1])
    assert not np.array_equal(codes[0], codes[2])

    picture = model.show({"image": batch["image"]}, columns=2)
    assert isinstance(picture, Image.Image)
    pixels = np.asarray(picture)
    for index, image in enumerate(batch["image"]):
        tile = np.asarray(Image.fromarray(image[..., 0]).resize((48, 48), Image.Resampling.NEAREST))
        top, left = (index // 2) * 52 + 2, (index % 2) * 52 + 2
        shown = pixels[top : top + 48, left : left + 48]
        np.testing.assert_array_equal(shown, np.repeat(tile[..., None], 3, axis=-1))


def test_what_has_the_same_shape_is_traced_once(finished):
    traces = []

    def on_event(name, seconds, **_):
        if name == "/jax/core/compile/jaxpr_trace_duration":
            traces.append(name)

    jax.monitoring.register_event_duration_secs_listener(on_event)
    try:
        model, batch = mm.load(finished), examples(4)
        calls = (
            lambda: model.sample(4, given={"label": 3}, num_steps=2),
            lambda: model.bound(batch, given=["label"]),
            lambda: model.encode("image", batch["image"]),
        )
        for call in calls:
            before = len(traces)
            call()
            first = len(traces)
            assert first > before
            call()
            assert len(traces) == first
    finally:
        jax.monitoring.unregister_event_duration_listener(on_event)


def test_what_it_says_of_itself(finished, model):
    assert repr(model) == "Model(image: (8, 8, 1) integer, the primary; label: () integer)"
    assert model.config.to_dict() == apps.load(str(finished))[0].to_dict()
    model.config.unlock()
    changed = model.config
    changed.latent = (4, 4, 1)
    assert model.config.latent == (8, 8, 1)


def test_opening_says_nothing_of_other_libraries(finished, caplog):
    apps.load(str(finished))
    assert "read only" in caplog.text  # Orbax, of the folder that is only read
    caplog.clear()
    mm.load(finished)
    assert [x.getMessage() for x in caplog.records if "orbax" in x.pathname] == []


def test_a_file_is_the_workdir_that_it_was_exported_from(finished, model, tmp_path):
    read = mm.load(apps.export(str(finished), tmp_path / "model.safetensors"))
    assert_same(read.sample(3, seed=2), model.sample(3, seed=2))
    assert all(isinstance(x, jax.Array) for x in jax.tree.leaves(read.params))
    with pytest.raises(ValueError, match="`checkpoint`: got 'best' with the file"):
        mm.load(tmp_path / "model.safetensors", checkpoint="best")


def test_it_computes_on_the_device_that_is_asked_for(finished):
    done = run_python("tests/trained/second_device.py", str(finished), devices=2)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda m: m.sample(2, given={"labl": 3}), "`given`: got 'labl'.*did you mean 'label'"),
        (lambda m: m.sample(2, given={"label": 10}), "`given label`: got label 10, expected"),
        (lambda m: m.sample(2, given={"label": "three"}), "`given label`: got 'three'"),
        (lambda m: m.sample(2, given={"label": [1, 2, 3]}), r"`given label`: got shape \(3,\)"),
        (lambda m: m.sample(2, given={"image": [[1], [2, 3]]}), "`given image`: got .*an array"),
        (lambda m: m.sample(2, given=["label"]), "`given`: got list, expected a dictionary"),
        (lambda m: m.sample(0), "`num_samples`: got 0"),
        (lambda m: m.sample(2, num_step=3), "did you mean 'num_steps'"),
        (lambda m: m.sample(2, decoder_guidance={"label": 1.0}), "`decoder_guidance`: got 'label'"),
        (lambda m: m.sample(2, weaker=m), "`autoguidance`: got 1.0, no guidance, beside a weaker"),
        (lambda m: m.sample(2, weaker=m, autoguidance=1.0), "`autoguidance`: got 1.0, no guidance"),
        (lambda m: m.sample(2, autoguidance=2.0), "`autoguidance`: got 2.0 without a weaker model"),
        (lambda m: m.sample(7, given=examples()), "`given`: got all of"),
        (lambda m: m.bound({"image": examples()["image"]}), "`batch`: got nothing for 'label'"),
        (
            lambda m: m.bound({**examples(), "label_present": np.arange(7) > 1}),
            r"`batch\['label_present'\]`: got 2 examples without it",
        ),
        (lambda m: m.bound(examples(), given="label"), r"`given`: got 'label', expected a list"),
        (lambda m: m.bound(examples(), given=["lab"]), "`given`: got 'lab'.*did you mean"),
        (lambda m: m.bound(examples(), given=["label", "image"]), "`given`: got all of"),
        (lambda m: m.encode("imge", 0), "`name`: got 'imge'.*did you mean 'image'"),
        (lambda m: m.encode("label", 3), r"`x label`: got shape \(\) and dtype int32"),
        (lambda m: m.show({"image": examples(2)["image"], "label": [1]}), "as many of each"),
        (lambda m: m.show({}), "`samples`: got nothing"),
        (lambda m: m.show(examples(), columns=0), "`columns`: got 0"),
    ],
)
def test_bad_input_is_one_clear_error(model, call, words):
    with pytest.raises(ValueError, match=words):
        call(model)


def test_a_command_whose_weaker_model_or_scale_is_alone(finished, tmp_path):
    out = tmp_path / "out"
    request = apps.Request(2, weaker=str(finished))
    with pytest.raises(ValueError, match=r"`autoguidance`: got 1\.0, no guidance, beside a weaker"):
        apps.sample(str(finished), str(out), request)
    with pytest.raises(ValueError, match=r"`autoguidance`: got 2\.0 without a weaker model"):
        apps.sample(str(finished), str(out), apps.Request(2), autoguidance=2.0)
    assert not list(tmp_path.glob("out/*"))


def test_the_scale_of_a_config_waits_for_a_request_with_a_weaker_model():
    config = experiment.read_config_file("smoke")
    plain = mm.untrained(config)
    config.sampling.autoguidance = 2.0
    scaled = mm.untrained(config)
    assert_same(scaled.sample(2, num_steps=2), plain.sample(2, num_steps=2))
    assert len(scaled.sample(2, weaker=plain, num_steps=2)["image"]) == 2
    with pytest.raises(ValueError, match=r"`autoguidance`: got 1\.0, no guidance"):
        scaled.sample(2, weaker=plain, autoguidance=1.0, num_steps=2)


def test_a_model_without_one_space_has_no_bound():
    config = experiment.read_config_file("smoke")
    config.formulation = "separate"
    separate = mm.untrained(config)
    with pytest.raises(ValueError, match="`model`: got one of the formulation 'separate'"):
        separate.bound(examples())
