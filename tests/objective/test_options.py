"""Options of the training loss without an effect, or with another than meant, are refused."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mmdiffusion_jax import model, objective
from mmdiffusion_jax.objective import losses
from tests import plain_model
from tests.shown_world import ShownWorld

KEY = jax.random.key(0)
WORLD = ShownWorld(1, 6)
BATCH, _ = WORLD.draw(8)


def loss(functions, **options):
    diffusion = WORLD.diffusion(functions)
    return objective.simple_loss(
        KEY, diffusion, BATCH, options=objective.LossOptions(**options)
    )[0]  # fmt: skip


@pytest.mark.parametrize(
    ("task", "shows", "name"),
    [
        ("p | x0", (), "x0"),
        ("p | x0", ("p",), "x0"),
        ("x0 | p", ("x0",), "p"),  # the primary too: no state carries what is known
        ("p, x0 | p", ("x0",), "p"),  # what is viewed as well
    ],
)
def test_what_tasks_know_has_to_be_shown(task, shows, name):
    """Else the network could not tell it from what it is not, and learn p(asked) alone."""
    functions = WORLD.model()
    blind = model.ModelFunctions(
        functions.denoise, functions.modalities, "p", sees_roles=True, shows=shows
    )
    words = rf"`tasks`: got '.*', which knows '{name}', expected .*; set .*shows="
    with pytest.raises(ValueError, match=words.replace("|", r"\|")):
        loss(blind, tasks={task: 1.0, "p, x0": 1.0})
    # A rate of 0 draws no example.
    assert jnp.isfinite(loss(blind, tasks={task: 0.0, "p, x0": 1.0}))
    assert jnp.isfinite(loss(functions, tasks={task: 1.0, "p, x0": 1.0}))


def test_a_network_that_sees_no_roles_knows_nothing():
    diffusion = model.Diffusion(plain_model.PROCESS, plain_model.shared())
    options = objective.LossOptions(tasks={"x | y": 1.0})
    with pytest.raises(ValueError, match=r"`tasks`: got 'x \| y', which knows 'y', .*sees_roles"):
        objective.simple_loss(KEY, diffusion, plain_model.batch(), options=options)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"believed": ("x0",)}, r"`believed`: got \('x0',\), expected nothing, .*; set tasks"),
        ({"pure_noise": 0.5}, "`pure_noise`: got 0.5, expected nothing, .*; set tasks"),
        ({"shown_noise": {"x0": 0.5}}, "`shown_noise`: got {'x0': 0.5}, expected nothing, .*"),
    ],
)
def test_without_tasks_nothing_is_known(options, words):
    with pytest.raises(ValueError, match=words):
        loss(WORLD.model(), **options)
    assert jnp.isfinite(loss(WORLD.model(), tasks={"p | x0": 1.0}, **options))


@pytest.mark.parametrize("name", ["simple_loss", "bound_loss"])
def test_a_model_that_shows_and_is_never_shown_anything_is_warned_of_once(name, caplog):
    """Its samples show what is given, which no step of such a training has taught it to read."""
    losses._warn_of_unread.cache_clear()
    shown, blind = WORLD.model(), dataclasses.replace(WORLD.model(), shows=())
    tasks = objective.LossOptions(tasks={"p | x0": 1.0})

    def calls(functions, *options):
        loss, diffusion = getattr(objective, name), WORLD.diffusion(functions)
        for key in jax.random.split(KEY, 3):
            jax.jit(lambda key: loss(key, diffusion, BATCH, None, *options)[0])(key)
            loss(key, diffusion, BATCH, None, *options)

    calls(blind)
    getattr(objective, f"{name}_terms")(KEY, WORLD.diffusion(shown), BATCH)
    if name == "simple_loss":
        calls(shown, tasks)
    assert not caplog.text
    calls(shown)
    if name == "simple_loss":
        calls(shown, objective.LossOptions(dropout={"x0": 0.1}))
    (only,) = [record.getMessage() for record in caplog.records]
    assert only.startswith(f"{name} trains without tasks a model that shows 'p', 'x0'")
    assert "LossOptions(tasks=…)" in only
    assert "`default_tasks`" in only


def test_one_modality_has_no_tasks():
    tasks = model.default_tasks(["p"], "p")
    with pytest.raises(ValueError, match=r"`tasks`: got no task, expected .*; leave `tasks` out"):
        loss(WORLD.model(), tasks=tasks)
    assert jnp.isfinite(loss(WORLD.model(), tasks=tasks or None))


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"shown_noise": 0.5}, "`shown_noise`: got 0.5, expected a dictionary"),
        ({"dropout": 0.5}, "`dropout`: got 0.5, expected a dictionary"),
        ({"modality_scales": 0.5}, "`modality_scales`: got 0.5, expected a dictionary"),
        ({"tasks": ["p | x0"]}, r"`tasks`: got \['p \| x0'\], expected a dictionary"),
        ({"logit_normal": 0.5}, r"`logit_normal`: got 0.5, expected \(mean, standard deviation\)"),
        ({"logit_normal": (0.0, 1.0, 2.0)}, r"`logit_normal`: got \(0.0, 1.0, 2.0\), expected"),
        ({"logit_normal": (0.0, 0.0)}, r"`logit_normal\[1\]`: got 0.0, expected a number above 0"),
        ({"logit_normal": ("a", 1.0)}, r"`logit_normal\[0\]`: got 'a', expected a finite number"),
    ],
)
def test_options_of_another_kind(options, words):
    with pytest.raises(ValueError, match=words):
        objective.LossOptions(**options)


@pytest.mark.parametrize("pair", [[0.0, 1.0], np.array([0.0, 1.0]), jnp.array([0.0, 1.0])])
def test_two_numbers_are_a_pair_however_they_come(pair):
    plain = loss(WORLD.model(), logit_normal=(0.0, 1.0))
    np.testing.assert_allclose(loss(WORLD.model(), logit_normal=pair), plain, rtol=1e-6)


@pytest.mark.parametrize("name", [n for n in objective.__all__ if n.endswith("_weighting")])
def test_a_weighting_has_to_be_called(name):
    factory = getattr(objective, name)
    if name == "no_weighting":
        objective.LossOptions(weighting=factory)
        return
    with pytest.raises(ValueError, match=rf"`weighting`: got {name} itself, .*; write {name}\(\)"):
        objective.LossOptions(weighting=factory)
    objective.LossOptions(weighting=factory())
