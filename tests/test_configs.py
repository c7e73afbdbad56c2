"""Every config in every form is built, the loss of small ones is traced, and each trains."""

import importlib
import os

import jax
import numpy as np
import pytest

from mmdiffusion_jax import apps, baselines, data, experiment, graceful, sampling, training

SETTINGS = ("image_segmentation", "masked_image", "image_label", "image_embedding", "everything")
SMALL = [(name, "small") for name in SETTINGS] + [
    ("everything", "small_scenes"),
    ("image_label", "small_labels"),
    ("image_label", "few_50"),
    ("image_segmentation", "few"),
    ("everything", "few"),
    ("image_embedding", "cifar"),
    ("image_label", "cifar"),
    ("masked_image", "cifar"),
]
FEW = {
    ("digits", "few_labels"): {"label": 50},
    ("image_label", "few_5"): {"label": 50},
    ("image_label", "few_50"): {"label": 500},
    ("image_label", "few_500"): {"label": 5000},
    ("image_segmentation", "few"): {"mask": 37},
    ("everything", "few"): {"audio": 270},
}


LONG = {(name, "long"): (name, "small") for name in SETTINGS} | {
    ("image_label", "long"): ("image_label", "small_labels"),
    ("everything", "long_scenes"): ("everything", "small_scenes"),
}


def get_config(name, *form):
    return importlib.import_module(f"configs.{name}").get_config(*form)


def batch_of(built, size):
    """Random examples of every modality."""
    rng = np.random.default_rng(0)
    columns = {}
    for name, modality in built.model.modalities.items():
        shape, kind = modality.columns
        origin = modality.derived_from
        if origin is not None:
            columns[name] = modality.derive(rng, columns[origin])
        elif kind == "integer":
            high = getattr(modality, "num_classes", 256)
            columns[name] = rng.integers(0, high, (size, *shape)).astype(np.int32)
        else:
            columns[name] = rng.uniform(-1, 1, (size, *shape)).astype(np.float32)
        modality.validate(name, columns[name])
    return columns


@pytest.mark.parametrize(("long", "small"), LONG.items())
def test_long_forms_are_the_small_ones_with_more_steps(long, small):
    config, of_minutes = get_config(*long), get_config(*small)
    assert config.training.num_steps > 3 * of_minutes.training.num_steps
    config.training = of_minutes.training
    assert config.to_dict() == of_minutes.to_dict()


@pytest.mark.parametrize(
    ("name", "form"),
    [(name, "published") for name in SETTINGS]
    + SMALL
    + [("digits", None), ("recipe", "fashion"), ("recipe", "cifar"), ("recipe", "cifar_unet")],
)
def test_shapes(name, form):
    built = experiment.build(get_config(name, *([form] if form else [])))
    params = jax.eval_shape(built.init, jax.random.key(0))
    count = sum(int(np.prod(leaf.shape)) for leaf in jax.tree.leaves(params))
    # The U-Net of ADM with the condition, the heads and the encoders beside it.
    assert 290e6 < count < 400e6 if form == "published" else 1e4 < count < 1e6
    modalities = built.model.modalities
    assert all(len(modality.latent) == 3 for modality in modalities.values())


@pytest.mark.parametrize(
    ("name", "form"),
    # Where few examples have it, it is drawn last instead.
    sorted({*((name, "published") for name in SETTINGS), *SMALL, ("digits", "")} - set(FEW)),
)
def test_what_joint_samples_draw_first_is_learned_alone(name, form):
    """Its head answers a state of zeros then, beside which nothing is shown."""
    built = experiment.build(get_config(name, *([form] if form else [])))
    first = sampling.stages_of(built.model, (), None)[0]
    tasks = {str(task): share for task, share in built.settings.loss.tasks.items()}
    heads = set(first) - {built.model.primary}
    assert heads == ({"label"} if "label" in built.model.modalities else set())
    assert all(tasks[name] / sum(tasks.values()) > 0.025 for name in heads)


@pytest.mark.parametrize("form", FEW, ids=":".join)
def test_few_examples_keep_it_and_a_specialist_has_the_same(form):
    """The specialist has the same data, backbone and training, and nothing of the other tasks."""
    config = get_config(*form)
    ((name, count),) = config.data.kept.items()
    assert FEW[form] == {name: count}
    part = baselines.make_arm(config, "predict")[f"predict_{name}"]
    built = experiment.build(part)
    assert built.formulation.needs == ("image", name)
    assert (part.data, part.backbone, part.training) == (
        config.data,
        config.backbone,
        config.training,
    )


@pytest.mark.skipif("MMDIFFUSION_DATA" not in os.environ, reason="it names the data's folder")
@pytest.mark.parametrize("form", [form for form in FEW if form[0] != "digits"], ids=":".join)
def test_of_the_real_data_so_many_keep_it(form):
    config = get_config(*form)
    config.data.path = os.environ["MMDIFFUSION_DATA"]
    train, test = experiment.open_data(config)
    totals = {"image_label": (60_000, 10_000), "image_segmentation": (367, 171)}
    assert (len(train), len(test)) == totals.get(form[0], (2700, 300))
    assert data.count_present(train, FEW[form]) == FEW[form]
    ((name, count),) = FEW[form].items()
    assert data.count_present(test, [name]) == {name: len(test)}
    if name == "label":
        labels = data.having(train, [name]).take(np.arange(count))["label"]
        assert np.bincount(labels).tolist() == [count // 10] * 10


# The first seven are of transformers.
@pytest.mark.parametrize(("form", "first"), [("fashion", 0), ("cifar", 0), ("fashion_unet", 7)])
def test_every_variant_of_the_recipe_is_another_model_or_training(form, first):
    config = get_config("recipe", form)
    settings = experiment.check_config(config)
    variants = importlib.import_module("configs.recipe").get_variants()
    for name, changes in [*variants.items()][first:]:
        assert experiment.check_config(baselines.make_variant(config, name, changes)) != settings


@pytest.mark.parametrize(
    ("form", "deployed"),
    [
        ("successor", "deployed"),
        ("small", "deployed"),
        ("fashion", "fashion_deployed"),
        ("shown", "shown_deployed"),
    ],
)
def test_successors_can_take_the_place_of_what_is_deployed(form, deployed):
    old = experiment.build(get_config("graceful_update", deployed))
    shapes = jax.eval_shape(old.init, jax.random.key(0))
    bundle = graceful.freeze(old, jax.tree.map(lambda x: np.zeros(x.shape, x.dtype), shapes))
    config, options = apps.split_config(get_config("graceful_update", form))
    graceful.constraint([bundle], experiment.build(config), options)


@pytest.mark.parametrize(("name", "form"), SMALL)
def test_a_loss_and_its_gradient(name, form):
    """Traced, as it takes long to compile what is counted here alone."""
    built = experiment.build(get_config(name, form))
    params = jax.eval_shape(built.init, jax.random.key(0))
    (loss, scalars), gradient = jax.eval_shape(
        jax.value_and_grad(built.loss, has_aux=True), params, jax.random.key(0), batch_of(built, 2)
    )
    assert loss.shape == ()
    tasks = built.settings.loss.tasks
    assert len([name for name in scalars if name.startswith("tasks/")]) == len(tasks) > 1
    assert jax.tree.map(np.shape, gradient) == jax.tree.map(np.shape, params)


@pytest.mark.long
@pytest.mark.parametrize(("name", "form"), SMALL)
def test_two_steps(name, form):
    config = get_config(name, form)
    config.training.batch_size = 2
    # Levels are all alike, and take long to compile.
    config.backbone.channel_mults = (1,)
    config.backbone.num_head_channels = 8
    built = experiment.build(config)
    step, state = experiment.make_step_and_state(built, training.make_mesh())
    before = jax.device_get(state.params)
    losses = []
    for _ in range(2):
        state, report = step(state, jax.device_put(batch_of(built, 2)))
        losses.append(float(report.scalars["loss"]))
    assert np.isfinite(losses).all()
    assert int(state.step) == 2
    moved = jax.tree.map(lambda a, b: float(np.abs(a - b).max()), before, state.params)
    assert max(jax.tree.leaves(moved)) > 0


def test_unknown_forms():
    with pytest.raises(ValueError, match=r"`config form`: got 'smal'.*did you mean 'small'"):
        get_config("image_label", "smal")
