"""What a user does wrong, for each message of docs/errors.md: functions that raise it."""

import dataclasses
import functools
from collections.abc import Callable
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

import mmdiffusion_jax as mm
from configs import digits
from mmdiffusion_jax import (
    apps,
    data,
    experiment,
    metrics,
    modalities,
    model,
    objective,
    process,
    sampling,
    training,
)
from mmdiffusion_jax.data import folder
from tests.data.folder.pictures import noise, options, photos, save

Provocation = Callable[[Path], object]
PROVOKED: list[Provocation] = []


def provokes(function: Provocation) -> Provocation:
    """Enters a function that gets an empty folder and raises."""
    PROVOKED.append(function)
    return function


def _config(**changes):
    """The digits' config with keys changed, by paths with "__" between the keys."""
    config = digits.get_config()
    with config.unlocked():
        for path, value in changes.items():
            *sections, key = path.split("__")
            functools.reduce(lambda part, name: part[name], sections, config)[key] = value
    return config


def _of_arrays(place, **arrays):
    """Opens data of these arrays as the digits' images and labels."""
    whole = {"image": np.zeros((9, 8, 8, 1), np.uint8), "label": np.zeros(9, int)} | arrays
    file = str(place / "data.npz")
    data.write_npz(file, {name: x for name, x in whole.items() if x is not None})
    changes = {"data__source": "npz", "data__train": file, "data__test": file}
    return experiment.open_data(_config(**changes, data__folder=str(place)))


def _points(**changes):
    """A model of points in the plane, as a user's own code has it."""
    point = model.ModalityFunctions(
        encode=lambda x: x,
        log_prob=lambda mean, x: model.gaussian_log_prob(mean, jnp.zeros_like(mean), x),
    )
    point = dataclasses.replace(point, **{key: x for key, x in changes.items() if key != "denoise"})
    denoise = changes.get("denoise", lambda z_t, t: model.Prediction(jnp.zeros_like(z_t), {}))
    functions = model.ModelFunctions(denoise, {"point": point}, "point")
    return model.Diffusion(process.Process(process.cosine_schedule(5)), functions)


def _loss(diffusion, batch=None, key=None):
    key = jax.random.key(0) if key is None else key
    return objective.simple_loss(key, diffusion, batch or {"point": jnp.ones((3, 2))})


@functools.cache
def _untrained():
    return mm.untrained(_config(backbone__width=16, backbone__depth=1))


# Configs and flags


@provokes
def misspelt_key(place):
    raise ValueError(
        experiment.unknown_override(["--config=digits", "--config.training.num_step=5"])
    )


@provokes
def misspelt_name(place):
    experiment.read_settings(_config(backbone__kind="ditt"))


@provokes
def misspelt_config(place):
    experiment.read_config_file("digit")


@provokes
def latent_of_two_numbers(place):
    experiment.read_settings(_config(latent=(8, 8)))


@provokes
def task_without_modality(place):
    experiment.build(_config(loss__tasks={"image | lable": 1.0}))


@provokes
def patches_that_do_not_fit(place):
    experiment.build(_config(backbone__patch_size=3))


@provokes
def no_source_of_parameters(place):
    built = experiment.build(_config(init_from=str(place / "nowhere")))
    experiment.open_pretrained(built, place)


@provokes
def mesh_of_too_many(place):
    training.make_mesh(training.ShardingOptions(data=3, fsdp=5))


@provokes
def cloud_path(place):
    experiment.local_paths(_config(data__folder="gs://bucket/data"))


# Folders of runs


@provokes
def other_experiment(place):
    for seed in (0, 1):
        with experiment.hold_workdir(place, _config(seed=seed)):
            pass


@provokes
def no_experiment(place):
    experiment.read_config(place)


@provokes
def unwritable(place):
    (place / "file").touch()
    with experiment.hold_workdir(place / "file" / "W", _config()):
        pass


@provokes
def two_at_once(place):
    with experiment.hold_workdir(place, _config()), experiment.hold_workdir(place, _config()):
        pass


@provokes
def no_checkpoint(place):
    with experiment.hold_workdir(place, _config()):
        pass
    mm.load(place)


@provokes
def nothing_to_load(place):
    mm.load(place / "nowhere")


@provokes
def damaged_export(place):
    (place / "model.safetensors").write_bytes(b"cut")
    training.read_safetensors(place / "model.safetensors")


# Data


@provokes
def missing_column(place):
    _of_arrays(place, label=None)


@provokes
def other_shape(place):
    _of_arrays(place, image=np.zeros((9, 28, 28, 1), np.uint8))


@provokes
def floats(place):
    _of_arrays(place, image=np.zeros((9, 8, 8, 1), np.float32))


@provokes
def other_levels(place):
    _of_arrays(place, image=np.full((9, 8, 8, 1), 7, np.uint8))


@provokes
def other_classes(place):
    _of_arrays(place, label=np.full(9, 10))


@provokes
def mask_without_column(place):
    _of_arrays(place, labels_present=np.ones(9, bool))


@provokes
def nobody_has_it(place):
    _of_arrays(place, label_present=np.zeros(9, bool))


@provokes
def moved_files(place):
    changes = {"data__source": "npz", "data__train": str(place / "nowhere.npz")}
    experiment.open_data(_config(**changes))


@provokes
def other_contents(place):
    file = str(place / "data.npz")
    config = _config(data__source="npz", data__train=file, data__test=file)
    for value in (0, 1):
        data.write_npz(file, {"image": np.full((9, 8, 8, 1), value, np.uint8)})
        with experiment.hold_workdir(place / "W", config):
            pass


@provokes
def no_small_set(place):
    data.open_camvid(place, "train")


@provokes
def damaged_small_set(place):
    (place / "camvid").mkdir()
    (place / "camvid" / "camvid_128x96.npz").write_bytes(b"cut")
    data.open_camvid(place, "train")


@provokes
def odd_size(place):
    data.resize_images(np.zeros((1, 28, 28, 1), np.uint8), (28, 14))


@provokes
def no_data_set(place):
    data.open_tfds(place, "train")


@provokes
def no_embedder(place):
    metrics.read_embedder(str(place / "nowhere.safetensors"))


@provokes
def no_autoencoder(place):
    modalities.load_autoencoder("no_such_module:load")


# A folder of pictures


def _prepare(place, **changes):
    photos(place / "photos")
    return folder.prepare(options(place / "photos", **changes), str(place / "out"))


@provokes
def no_pictures(place):
    (place / "photos").mkdir()
    folder.prepare(options(place / "photos"), str(place / "out"))


@provokes
def two_of_a_name(place):
    save(noise(6, 8, 3), place / "photos" / "1.jpg")
    _prepare(place)


@provokes
def mask_of_another_size(place):
    save(noise(5, 8, most=3), place / "masks" / "1.png")
    _prepare(place, masks=str(place / "masks"))


@provokes
def mask_of_two_greys(place):
    for name in range(12):
        save(noise(6, 8, most=2) * np.uint8(255), place / "masks" / f"{name}.png")
    _prepare(place, masks=str(place / "masks"))


@provokes
def mask_without_a_picture(place):
    save(noise(6, 8, most=3), place / "masks" / "other.png")
    _prepare(place, masks=str(place / "masks"))


@provokes
def label_without_a_picture(place):
    (place / "labels.csv").write_text("file,label\n1.png,cat\nother.png,dog\n")
    _prepare(place, labels=str(place / "labels.csv"))


@provokes
def one_class(place):
    photos(place / "photos" / "cat")
    folder.prepare(options(place / "photos", labels="by_folder"), str(place / "out"))


@provokes
def unreadable(place):
    (place / "photos").mkdir()
    (place / "photos" / "empty.png").touch()
    _prepare(place, strict=True)


@provokes
def no_test_pictures(place):
    photos(place / "photos", range(2))
    folder.prepare(options(place / "photos", test_share=0.001), str(place / "out"))


@provokes
def other_options(place):
    _prepare(place)
    folder.prepare(options(place / "photos", size=(3, 4)), str(place / "out"))


# Samples


@provokes
def given_a_misspelt_name(place):
    _untrained().sample(2, given={"labl": 3})


@provokes
def given_another_class(place):
    _untrained().sample(2, given={"label": 12})


@provokes
def nothing_left(place):
    _untrained().sample(given={"label": [1], "image": np.zeros((1, 8, 8, 1), np.uint8)})


@provokes
def misspelt_sampler(place):
    _untrained().sample(2, sampler="dpm_solver")


@provokes
def too_many_states(place):
    _untrained().sample(2, num_steps=1000)


@provokes
def wrong_flag(place):
    apps.requests.parse_given(apps.Request(1, ["label"]), ["label"])


# Your own code


@provokes
def seed_in_place_of_a_key(place):
    _loss(_points(), key=7)


@provokes
def no_column(place):
    _loss(_points(), batch={"points": jnp.ones((3, 2))})


@provokes
def likelihoods_of_each_number(place):
    _loss(_points(log_prob=lambda mean, x: -((x - mean) ** 2)))


@provokes
def prediction_of_another_shape(place):
    _loss(_points(denoise=lambda z_t, t: model.Prediction(z_t[:, :1], {})))


@provokes
def plain_array(place):
    _loss(_points(denoise=lambda z_t, t: z_t))


@provokes
def t_from_zero(place):
    forward = process.Process(process.cosine_schedule(5))
    process.marginal(forward, jnp.array([0]), jnp.ones((1, 2)), {})


@provokes
def missing_weights(place):
    forward = process.Process(process.cosine_schedule(5))
    process.marginal(forward, jnp.array([1]), jnp.ones((1, 2)), {"label": jnp.ones((1, 2))})


@provokes
def order_without_showing(place):
    functions = model.ModelFunctions(
        lambda z_t, t: None, dict.fromkeys(("x", "y"), _points().model.modalities["point"]), "x"
    )
    sampling.stages_of(functions, [], ["x", "y"])
