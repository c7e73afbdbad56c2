"""What a model believes of values that training examples lack."""

import dataclasses
import functools
from collections.abc import Collection, Iterable

import jax
import jax.numpy as jnp

from mmdiffusion_jax import errors
from mmdiffusion_jax.model.absence import choose_rows
from mmdiffusion_jax.model.calls import call_modality, draw, head_of
from mmdiffusion_jax.model.diffusion import Diffusion
from mmdiffusion_jax.model.roles import Role, Roles
from mmdiffusion_jax.model.tasks import Task
from mmdiffusion_jax.process.checks import expect_name


def check_beliefs(believed: Collection[str], tasks: Iterable[Task], shows: Collection[str]) -> None:
    """Checks that a belief is drawn from what the network is shown.

    Where a task knows x_i, x̂_i is drawn from all else that the task names. The call that draws it
    has no state, and so sees no more of these modalities than it is shown: of one that is never
    shown x̂_i would be independent, and p(x_asked | x̂_i) be learned from pairs that say nothing.

    Args:
        believed: the names of what examples that lack it are to believe.
        tasks: the tasks of training.
        shows: the names of what the network is shown.

    Raises:
        ValueError: a believed name that a task knows beside a modality that is not shown.

    Example:
        >>> from mmdiffusion_jax.model import parse_tasks
        >>> tasks = parse_tasks({"image | label": 1.0}, ["image", "label"])
        >>> check_beliefs(["label"], tasks, shows=["image", "label"])
        >>> check_beliefs(["label"], tasks, shows=["label"])
        Traceback (most recent call last):
        ValueError: `believed`: got 'label', which the task 'image | label' has drawn from 'image',
        expected ...; add a task that shows it, such as 'label | image', or leave 'label' out.
    """
    for task in tasks:
        for name in sorted(set(believed) & set(task.known) - set(task.asked)):
            sources = sorted({*task.asked, *task.known} - {name})
            if hidden := sorted(set(sources) - set(shows)):
                raise errors.invalid(
                    "believed",
                    f"{name!r}, which the task {str(task)!r} has drawn from "
                    f"{', '.join(map(repr, sources))}",
                    f"that the network is shown {', '.join(map(repr, hidden))}, as a draw that "
                    "does not see it is independent of it",
                    f"add a task that shows it, such as {str(Task((name,), tuple(sources)))!r}, or "
                    f"leave {name!r} out",
                )


def with_beliefs(
    key: jax.Array, diffusion: Diffusion, roles: Roles, names: Collection[str]
) -> Roles:
    """The roles with what is believed drawn and shown, x̂_i ~ p_θ(x_i | what the example has).

    The heads answer one call that sees, without noise, all else that the example's task has. No
    gradient goes through it. It is the expectation step of a Monte Carlo EM algorithm (Wei &
    Tanner 1990), whose maximisation step is the training of p(x_asked | x̂_i, …).

    Args:
        key: a typed key.
        diffusion: the process and the model.
        roles: with encodings, and with marks of what is to be believed.
        names: of what some examples are to believe.

    Raises:
        ValueError: a name that the network is not shown.
    """
    for name in names:
        expect_name("believed", name, roles.encodings, none="the network is shown nothing")
    for index, name in enumerate(sorted(names)):
        rows, known = roles.believed(name), roles.encodings[name]
        believe = functools.partial(
            _drawn, jax.random.fold_in(key, index), diffusion, roles, name, known
        )
        # Batches whose examples all have it need no call.
        drawn = jax.lax.cond(rows.any(), believe, functools.partial(jnp.zeros_like, known))
        value = jnp.where(rows, roles.values[name] | int(Role.KNOWN), roles.values[name])
        roles = dataclasses.replace(
            roles,
            values={**roles.values, name: value},
            encodings={**roles.encodings, name: choose_rows(rows, drawn, known)},
        )
    return roles


def _drawn(
    key: jax.Array, diffusion: Diffusion, roles: Roles, name: str, like: jax.Array
) -> jax.Array:
    """The encodings (batch, *latent) of what the head draws in one call, without its gradient."""
    model = diffusion.model
    last = jnp.full(like.shape[:1], diffusion.num_steps, jnp.int32)
    prediction = model.predict(jnp.zeros_like(like), last, _as_known(roles, name))
    head = jax.lax.stop_gradient(head_of(prediction, name))
    x = draw(model, name, jax.random.split(key, len(like)), head)
    return call_modality(model, name, "encode", x, shape=like.shape, dtype=like.dtype)


def _as_known(roles: Roles, name: str) -> Roles:
    """The roles that know all that the task has but this modality, and carry nothing.

    What is asked for counts where no state carries it too, as in a task without one.
    """
    values = {}
    for other in roles.values:
        has = roles.present(other) | roles.known(other)
        value = jnp.where(has, int(Role.PRESENT | Role.KNOWN), 0)
        values[other] = jnp.zeros_like(value) if other == name else value
    return dataclasses.replace(roles, values=values)
