"""Tasks: how they are written, drawn, and become roles."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mmdiffusion_jax import model, objective
from mmdiffusion_jax.model.showing import shown_at_random
from tests import plain_model

NUM = 20_000
MODEL = plain_model.shared()
BATCH = {"x": jnp.zeros((NUM, 2)), "y": jnp.ones((NUM, 2))}
TASKS = {"x, y": 0.5, "x | y": 0.3, "y | x": 0.2}


@pytest.mark.parametrize(
    ("tasks", "words"),
    [
        ({"x | z": 1}, "`tasks`: got 'z', expected one of 'x', 'y'; .*it is in 'x | z'"),
        ({"| y": 1}, "`tasks`: got '| y', expected \"asked"),
        ({"": 1}, "`tasks`: got '', expected"),
        ({"x | y | x": 1}, "`tasks`: got 'x | y | x', expected"),
        ({"x, x": 1}, "`tasks`: got 'x' twice in 'x, x'"),
        ({"x, y": 1, "y,x": 1}, "`tasks`: got 'y,x' twice"),
        ({"x": -1}, r"`tasks\['x'\]`: got -1"),
        ({"x": 0}, "`tasks`: got .*, expected a rate above 0"),
        ({}, "`tasks`: got .*, expected a rate above 0"),
    ],
)
def test_tasks_that_are_none(tasks, words):
    with pytest.raises(ValueError, match=words.replace("|", r"\|")):
        model.parse_tasks(tasks, ("x", "y"))


def test_each_example_draws_a_task_and_plays_its_roles():
    roles = model.training_roles(MODEL, BATCH, key=jax.random.key(0), tasks=TASKS)
    names = [str(task) for task in model.parse_tasks(TASKS, BATCH)]
    of = {name: np.asarray(roles.task == place) for place, name in enumerate(names)}
    for name, share in TASKS.items():
        assert abs(of[name].mean() - share) < 4 * (share * (1 - share) / NUM) ** 0.5
    expected = {  # asked, known, carried of x and then of y
        "x, y": (True, False, True, True, False, True),
        "x | y": (True, False, True, False, True, False),
        "y | x": (False, True, False, True, False, False),
    }
    for name, want in expected.items():
        got = [
            np.asarray(has(each))[of[name]]
            for each in ("x", "y")
            for has in (roles.asked, roles.known, roles.carried)
        ]
        assert [(column == value).all() for column, value in zip(got, want, strict=True)] == [
            True
        ] * 6


def test_a_task_asks_for_something_that_the_example_has():
    """Where y is missing, "y | x" would be wasted; what is missing is neither known nor asked."""
    presence = {"y": jnp.zeros(NUM)}
    roles = model.training_roles(MODEL, BATCH, presence, key=jax.random.key(0), tasks=TASKS)
    assert np.asarray(roles.asked("x")).all()
    for has in (roles.present, roles.known, roles.carried):
        assert not np.asarray(has("y")).any()


def test_what_is_known_may_be_hidden():
    """Then it is absent: the branch without it, which asks for nothing more."""
    tasks, rates = {"x | y": 1.0}, {"y": 0.25}
    roles = model.training_roles(MODEL, BATCH, None, rates, jax.random.key(0), tasks)
    known, present = np.asarray(roles.known("y")), np.asarray(roles.present("y"))
    np.testing.assert_array_equal(known, present)
    assert abs(known.mean() - 0.75) < 4 * (0.25 * 0.75 / NUM) ** 0.5
    assert not np.asarray(roles.asked("y")).any()


def test_each_task_has_its_line_in_the_metrics():
    """Its mean is over the examples that drew it, and it adds nothing to the loss."""
    functions = plain_model.shared()
    diffusion = model.Diffusion(plain_model.PROCESS, functions)
    options = objective.LossOptions(tasks={"x, y": 1.0, "x": 1.0})
    key, batch = jax.random.key(0), plain_model.batch(200)
    terms = objective.simple_loss_terms(key, diffusion, batch, options=options)
    loss, scalars = terms.reduce()
    each = np.asarray(terms.per_example())
    counts = [float(scalars[f"tasks/{name}"].count) for name in ("x", "x+y")]
    assert sum(counts) == 200
    assert min(counts) > 60
    mean = sum(
        float(scalars[f"tasks/{name}"].value) * count
        for name, count in zip(("x", "x+y"), counts, strict=True)
    )
    np.testing.assert_allclose(mean / 200, each.mean(), rtol=1e-5)
    alone = sum(float(scalars[n].value) for n in ("x/squared_error", "y/loss"))
    np.testing.assert_allclose(loss, alone, rtol=1e-5)


def test_noise_on_what_is_shown_has_the_variance_of_its_level():
    roles = model.query_roles(["y"], NUM, ["y"], shown=["y"])
    roles = model.Roles(roles.values, {"y": jnp.ones((NUM, 1))})
    schedule = plain_model.SCHEDULE
    noisy = shown_at_random(jax.random.key(0), schedule, roles, {"y": 0.5})
    levels = np.round(np.asarray(noisy.levels["y"]) * schedule.num_steps).astype(int)
    assert abs((levels > 0).mean() - 0.5) < 4 * 0.5 / NUM**0.5
    seen = np.asarray(noisy.encodings["y"])[:, 0]
    assert (seen[levels == 0] == 1).all()
    for s in range(1, schedule.num_steps):
        at_s = seen[levels == s]
        bar = float(schedule.alpha_bar[s])
        assert len(at_s) > 1000
        assert abs(at_s.mean() - bar**0.5) < 5 * ((1 - bar) / len(at_s)) ** 0.5
        assert abs(at_s.var() / (1 - bar) - 1) < 5 * (2 / len(at_s)) ** 0.5


def test_what_is_drawn_first_is_asked_for_alone():
    """Such an example's state is zero, and nothing is shown beside it."""
    tasks = model.default_tasks(["x", "y"], "x", before=["y"])
    assert model.default_tasks(["x", "y"], "x") == {k: v for k, v in tasks.items() if k != "y"}
    roles = model.training_roles(MODEL, BATCH, key=jax.random.key(0), tasks={"y": tasks["y"]})
    assert roles.asked("y").all()
    assert not (roles.asked("x") | roles.knows_any() | roles.carries_any()).any()
