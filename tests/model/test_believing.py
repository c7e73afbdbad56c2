"""What the network is shown beside what is known: noisy views of what is asked for, and beliefs."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from mmdiffusion_jax import model, objective
from mmdiffusion_jax.model.believing import with_beliefs
from mmdiffusion_jax.model.showing import shown_at_random
from tests.linear_world import DIMS
from tests.shown_world import ShownWorld

WORLD = ShownWorld(2, 16)
NUM = 4000
BATCH, _ = WORLD.draw(NUM)
LACKING = jnp.arange(NUM) % 4 > 0


def roles_of(tasks, believed=()):
    functions = WORLD.model()
    roles = model.training_roles(
        functions, BATCH, {"x0": ~LACKING}, key=jax.random.key(0), tasks=tasks, believed=believed
    )
    return functions, *model.encode(functions, BATCH, roles)


def law_of(batch, name, given):
    """The mean (batch, DIMS) and the covariance of a modality given others, exactly."""
    here, places = (
        [DIMS * WORLD.everyone.index(each) + i for each in names for i in range(DIMS)]
        for names in ([name], given)
    )
    cross = WORLD.covariance[np.ix_(here, places)]
    gain = np.linalg.solve(WORLD.covariance[np.ix_(places, places)], cross.T).T
    values = np.concatenate([np.asarray(batch[each]) for each in given], axis=1)
    mean = WORLD.mean[here] + (values - WORLD.mean[places]) @ gain.T
    return mean, WORLD.covariance[np.ix_(here, here)] - gain @ cross.T


def test_a_belief_is_a_draw_from_what_the_example_has():
    """x̂_0 ~ p(x_0 | p, x_1) where p is asked for and x_1 known; what is known stays."""
    functions, _, roles = roles_of({"p | x0, x1": 1.0}, ("x0",))
    np.testing.assert_array_equal(roles.believed("x0"), LACKING)
    assert not roles.known("x0")[LACKING].any()
    shown = with_beliefs(jax.random.key(1), WORLD.diffusion(functions), roles, ("x0",))
    assert shown.known("x0").all()
    codes = np.asarray(shown.encodings["x0"]) @ np.linalg.inv(WORLD.codes["x0"]).T
    np.testing.assert_allclose(codes[~LACKING], BATCH["x0"][~LACKING], atol=1e-5)
    mean, left = law_of(BATCH, "x0", ["p", "x1"])
    white = np.linalg.solve(np.linalg.cholesky(left), (codes - mean)[LACKING].T)
    assert min(stats.kstest(row, "norm").pvalue for row in white) > 0.001
    # What is asked for and counted is what it was.
    np.testing.assert_array_equal(shown.asked("p"), roles.asked("p"))
    assert not shown.asked("x0").any()


def test_a_belief_sees_what_is_asked_for_without_a_state():
    """x̂_0 ~ p(x_0 | x_1): the task has no state that could carry x_1."""
    functions, _, roles = roles_of({"x1 | x0": 1.0}, ("x0",))
    assert not roles.carries_any().any()
    shown = with_beliefs(jax.random.key(1), WORLD.diffusion(functions), roles, ("x0",))
    codes = np.asarray(shown.encodings["x0"]) @ np.linalg.inv(WORLD.codes["x0"]).T
    mean, left = law_of(BATCH, "x0", ["x1"])
    white = np.linalg.solve(np.linalg.cholesky(left), (codes - mean)[LACKING].T)
    assert min(stats.kstest(row, "norm").pvalue for row in white) > 0.001


@pytest.mark.parametrize(
    ("task", "shows", "drawn_from", "mend"),
    [
        ("p | x0", ("x0",), "'p'", "'x0 | p'"),
        ("p, x1 | x0", ("p", "x0"), "'p', 'x1'", "'x0 | p, x1'"),
        ("p | x0, x1", ("x0", "x1"), "'p', 'x1'", "'x0 | p, x1'"),
        ("x1 | x0", ("p", "x0"), "'x1'", "'x0 | x1'"),
    ],
)
def test_a_belief_is_drawn_from_what_is_shown(task, shows, drawn_from, mend):
    """Else it would be independent of what p(asked | x0) is to be learned from."""

    def loss(shows, **options):
        diffusion = WORLD.diffusion(dataclasses.replace(WORLD.model(), shows=shows))
        options = objective.LossOptions(tasks={task: 1.0, "p, x0": 1.0}, **options)
        return objective.simple_loss(
            jax.random.key(0), diffusion, BATCH, {"x0": ~LACKING}, options
        )[0]  # fmt: skip

    words = f"`believed`: got 'x0', which the task '{task}' has drawn from {drawn_from}, .*{mend}"
    with pytest.raises(ValueError, match=words.replace("|", r"\|")):
        loss(shows, believed=("x0",))
    assert jnp.isfinite(loss(shows))
    assert jnp.isfinite(loss(WORLD.everyone, believed=("x0",)))


def test_nothing_is_believed_unless_it_is_named():
    _, _, roles = roles_of({"p | x0, x1": 1.0})
    assert not roles.believed("x0").any()
    np.testing.assert_array_equal(roles.known("x0"), ~LACKING)


def test_no_gradient_goes_through_a_belief():
    """The head that draws has none; the encoder, which is trained as of known values, has."""
    functions, _, roles = roles_of({"p | x0": 1.0}, ("x0",))

    def shown_with(head_shift, code_factor):
        def denoise(z_t, t, roles):
            prediction = functions.denoise(z_t, t, roles)
            mean, covariance = prediction.heads["x0"]
            heads = {**prediction.heads, "x0": (mean + head_shift, covariance)}
            return dataclasses.replace(prediction, heads=heads)

        each = functions.modalities["x0"]
        scaled = dataclasses.replace(each, encode=lambda x: code_factor * each.encode(x))
        changed = dataclasses.replace(
            functions, denoise=denoise, modalities={**functions.modalities, "x0": scaled}
        )
        believed = with_beliefs(jax.random.key(1), WORLD.diffusion(changed), roles, ("x0",))
        return (believed.encodings["x0"] ** 2).sum()

    head, code = jax.grad(shown_with, argnums=(0, 1))(0.0, 1.0)
    assert head == 0
    assert code > 1


def test_a_view_is_noisy_and_asked_for():
    functions, clean, roles = roles_of({"p | p, x1": 1.0})
    assert functions.shows
    for said in (roles.asked("p"), roles.carried("p"), roles.viewed("p"), roles.known("x1")):
        assert said.all()
    assert not roles.known("p").any()
    noisy = shown_at_random(jax.random.key(2), WORLD.schedule, roles, {}, ("p",))
    levels = 1 - np.asarray(noisy.clarity("p"))
    assert set(np.round(levels * 16)) == set(range(1, 16))
    bar = np.asarray(WORLD.schedule.alpha_bar)[np.round(levels * 16).astype(int)][:, None]
    noise = (np.asarray(noisy.shown("p", clean.z_0)) - bar**0.5 * clean.z_0) / (1 - bar) ** 0.5
    assert stats.kstest(noise.ravel(), "norm").pvalue > 0.001
    assert (np.asarray(noisy.clarity("x1")) == 1).all()


def test_the_loss_counts_what_is_viewed_and_what_is_known_by_belief():
    options = objective.LossOptions(
        tasks={"p | p": 1.0, "p | x0": 1.0, "x0 | p": 1.0}, believed=("x0",)
    )
    _, scalars = objective.simple_loss(
        jax.random.key(0), WORLD.diffusion(), BATCH, {"x0": ~LACKING}, options
    )
    counts = {name: float(scalars[f"tasks/{name}"].count) for name in
              ("p_given_p", "p_given_x0", "x0_given_p")}  # fmt: skip
    assert float(scalars["p/squared_error"].count) == counts["p_given_p"] + counts["p_given_x0"]
    # Only examples that have x_0 are asked for it.
    assert counts["x0_given_p"] == float(scalars["x0/loss"].count)
    assert 200 < counts["x0_given_p"] < NUM / 4
    assert abs(counts["p_given_p"] - counts["p_given_x0"]) < 6 * (NUM / 2) ** 0.5


@pytest.mark.parametrize("text", ["p, p | x0", "p | x0, x0"])
def test_a_name_stands_once_on_each_side(text):
    with pytest.raises(ValueError, match="twice"):
        model.parse_tasks({text: 1.0}, WORLD.everyone)


def test_what_no_task_knows_cannot_be_believed():
    options = objective.LossOptions(tasks={"p | x1": 1.0}, believed=("x9",))
    with pytest.raises(ValueError, match="`believed`: got 'x9'"):
        objective.simple_loss(jax.random.key(0), WORLD.diffusion(), BATCH, None, options)
