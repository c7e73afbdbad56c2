"""Tasks of training: which modalities an example asks for, which it knows, and its roles."""

import dataclasses
import itertools
import math
from collections.abc import Collection, Iterable, Mapping, Sequence

import jax
import jax.numpy as jnp
import numpy as np

from mmdiffusion_jax import errors
from mmdiffusion_jax.model.batches import Batch, Presence, presence_masks
from mmdiffusion_jax.model.functions import Modal, expect_modal
from mmdiffusion_jax.model.roles import Role, Roles
from mmdiffusion_jax.process.checks import (
    as_key,
    described,
    expect,
    expect_name,
    expect_names,
    expect_number,
)


@dataclasses.dataclass(frozen=True)
class Task:
    """p(asked | known), as in "image, label | audio"; modalities in neither are left out.

    A modality in both is asked for, and the network views it under noise: a task such as
    "image | image" trains what is shown on every image, where few examples have something to know.

    Attributes:
        asked: the names of the modalities that the loss counts.
        known: the names of those whose values the network sees.

    Example:
        >>> task = parse_task("label, image | audio")
        >>> task.asked, task.known, str(task), task.name
        (('image', 'label'), ('audio',), 'image, label | audio', 'image+label_given_audio')
    """

    asked: tuple[str, ...]
    known: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """The name of its line in the metrics, such as "image+label_given_audio"."""
        return "_given_".join("+".join(part) for part in (self.asked, self.known) if part)

    @property
    def viewed(self) -> tuple[str, ...]:
        """The names of what is asked for and viewed under noise."""
        return tuple(name for name in self.known if name in self.asked)

    def __str__(self) -> str:
        parts = [", ".join(self.asked), ", ".join(self.known)]
        return " | ".join(part for part in parts if part)


def parse_task(text: str) -> Task:
    """The task that "asked, … | known, …" says, with its names sorted.

    Raises:
        ValueError: no text, a task that asks for nothing, or one that names a modality twice on
            one side.
    """
    expected = '"asked, … | known, …", such as "image | label"'
    parts = expect("task", text, str).split("|")
    names = [[name.strip() for name in part.split(",") if name.strip()] for part in parts]
    if len(parts) > 2 or not names[0]:
        raise errors.invalid("tasks", repr(text), expected, "name what it asks for first")
    for first, second in itertools.chain(*(itertools.pairwise(sorted(part)) for part in names)):
        if first == second:
            raise errors.invalid("tasks", f"{first!r} twice in {text!r}", expected, "name it once")
    return Task(*(tuple(sorted(part)) for part in names))


def parse_tasks(tasks: Mapping[str, float], names: Iterable[str]) -> dict[Task, float]:
    """{task: its share of the examples}, sorted, the shares summing to one, without rates of 0.

    Args:
        tasks: {"asked, … | known, …": rate}; rates are relative.
        names: of all modalities.

    Raises:
        ValueError: an unknown modality, a task that asks for nothing, the same task twice, a rate
            that is negative, or none above 0.

    Example:
        >>> tasks = parse_tasks({"image, label": 3, "image | label": 1}, ["image", "label"])
        >>> {str(task): share for task, share in tasks.items()}
        {'image | label': 0.25, 'image, label': 0.75}
    """
    rates: dict[Task, float] = {}
    is_list = isinstance(names, Iterable) and not isinstance(names, str | jax.Array | np.ndarray)
    if not is_list:
        raise errors.invalid("names", described(names), "the names of modalities", "pass a list")
    names = tuple(names)
    for text, rate in expect_names("tasks", tasks, "rate").items():
        task = parse_task(text)
        for name in (*task.asked, *task.known):
            expect_name("tasks", name, names, f"it is in {text!r}", none="there are no modalities")
        if task in rates:
            raise errors.invalid("tasks", f"{text!r} twice", "each task once", "leave one out")
        expect_number(f"tasks[{text!r}]", rate, "0 or more", lambda x: 0 <= x < math.inf)
        rates[task] = float(rate)
    if not rates:
        raise errors.invalid(
            "tasks",
            "no task",
            "a rate above 0",
            "leave `tasks` out, and all modalities are asked for together, as where there is one",
        )
    total = sum(rates.values())
    if not total > 0:
        raise errors.invalid("tasks", described(dict(tasks)), "a rate above 0", "raise one")
    # Sorted, as a dictionary that has been through a file has another order.
    return {task: rates[task] / total for task in sorted(rates, key=str) if rates[task] > 0}


def default_tasks(
    modalities: Iterable[str],
    primary: str,
    never: Iterable[str] = (),
    diffused: Iterable[str] = (),
    before: Iterable[str] = (),
) -> dict[str, float]:
    """A mix of tasks for samples in order and for every modality from the others.

    A tenth of the examples ask for all together, as the bound does. Of the rest 0.7 ask for the
    primary and 0.2 for another modality, given all the others or each of them in turn. Secondaries
    that are diffused share the 0.7 with the primary. What joint samples draw first, of nothing, is
    also asked for alone: else its marginal is learned from hardly any example.

    Args:
        modalities: the names of all.
        primary: the one that is diffused.
        never: those that are not generated, and only known.
        diffused: the secondaries that are diffused where they are asked for without the primary.
        before: those that joint samples draw before the primary (`ModalityFunctions.drawn`).

    Returns:
        {task: rate}; empty where there is nothing to condition on, where a loss goes without tasks:
        `LossOptions(tasks=default_tasks(…) or None)`.

    Example:
        >>> default_tasks(["image", "label"], "image", before=["label"])
        {'image, label': 0.1, 'label': 0.05, 'image | label': 0.7, 'label | image': 0.2}
    """
    names, never = sorted(modalities), set(never)
    others = [name for name in names if name != primary]
    if not others:
        return {}
    generated = [name for name in others if name not in never]
    rates = {str(Task(tuple(sorted([primary, *generated])))): 0.1}
    rates |= {str(Task((name,))): 0.05 for name in sorted(before)}

    def add(name: str, rate: float) -> None:
        everyone = tuple(other for other in names if other != name)
        conditions = dict.fromkeys([everyone, *((source,) for source in everyone)])
        for condition in conditions:
            rates[str(Task((name,), condition))] = round(rate / len(conditions), 4)

    states = [primary, *sorted(diffused)]
    answers = [name for name in generated if name not in states]
    for name in states:
        add(name, (0.7 if answers else 0.9) / len(states))
    for name in answers:
        add(name, 0.2 / len(answers))
    return rates


def training_roles(
    model: Modal,
    batch: Batch,
    presence: Presence | None = None,
    dropout: Mapping[str, float] | None = None,
    key: jax.Array | None = None,
    tasks: Mapping[str, float] | None = None,
    believed: Collection[str] = (),
) -> Roles:
    """The roles of a training batch, by presence, tasks and dropout.

    Without tasks the states carry what is present, unless it is dropped. With tasks each example
    draws one among those that ask for something it has. What its task knows, the network sees; what
    the task asks for is carried, if that holds the primary, whose state it then is; and what it
    does not name is absent. Where it holds no primary but a secondary that the model diffuses, the
    state is of that one, the first by name.

    A modality that is dropped from a state, at random, stays in the loss: so the heads learn to
    predict x_i from a state that does not carry it, and the denoiser learns the branch without
    modality i that classifier-free guidance needs. A known modality that is dropped is absent. With
    tasks the primary is dropped only where it is known: a state without it is a task of its own.

    Args:
        model: whose modalities play them, and which of these is the primary.
        batch: {name: x (batch, …)}; every modality must be there.
        presence: {name: (batch,) bool or 0/1}; a name left out is present everywhere.
        dropout: {name: probability of being dropped}; left out, nothing is dropped.
        key: a typed key; needed where anything is dropped or tasks are drawn.
        tasks: {task: rate}, see `parse_tasks`; left out, all are asked for and nothing is known.
        believed: the names of what examples that lack it are to see as the model itself draws it,
            where their tasks know it.

    Raises:
        ValueError: a modality missing from the batch, a batch without examples, modalities of
            different batch sizes; a mask that is a column of the batch, for an unknown modality, of
            the wrong shape or with other values than 0 and 1 (outside jit); a rate for an unknown
            modality, or outside [0, 1]; tasks that `parse_tasks` rejects.

    Example:
        >>> import types
        >>> batch = {"image": jnp.zeros((2, 3)), "label": jnp.zeros(2)}
        >>> model = types.SimpleNamespace(modalities=batch, primary="image")
        >>> roles = training_roles(model, batch, {"label": jnp.array([1, 0])})
        >>> roles.carried("image").tolist(), roles.carried("label").tolist()
        ([True, True], [True, False])
        >>> key, tasks = jax.random.key(0), {"image | label": 1}
        >>> given = training_roles(model, batch, key=key, tasks=tasks)
        >>> given.asked("image").tolist(), given.known("label").tolist()
        ([True, True], [True, True])
    """
    masks = presence_masks(tuple(expect_modal(model).modalities), batch, presence)
    if isinstance(believed, str) or not isinstance(believed, Collection):
        raise errors.invalid(
            "believed", described(believed), "the names of modalities", "pass a tuple of them"
        )
    for name in believed:
        expect_name("believed", name, masks, none="there are no modalities")
    rates = expect_names("dropout", {} if dropout is None else dropout, "probability")
    for name, rate in rates.items():
        expect_name("dropout", name, masks, none="there are no modalities")
        expected = "a probability in [0, 1]"
        expect_number(f"dropout[{name!r}]", rate, expected, lambda x: 0 <= x <= 1)
    roles = Roles({name: _bits(present=mask, carried=mask) for name, mask in masks.items()})
    if tasks is not None:
        shares = parse_tasks(tasks, masks)
        task_key = jax.random.fold_in(as_key("key", key), len(masks))
        drawn = _draw_tasks(task_key, roles, shares)
        roles = _with_tasks(roles, tuple(shares), drawn, model, believed)
        roles = dataclasses.replace(roles, task=drawn)
    values = dict(roles.values)
    for index, name in enumerate(sorted(rates)):
        drop_key = jax.random.fold_in(as_key("key", key), index)
        stays = jax.random.bernoulli(drop_key, 1 - rates[name], masks[name].shape)
        given = roles.known(name) | roles.believed(name)
        dropped = Role.VIEWED if tasks and name == model.primary else Role.CARRIED | Role.VIEWED
        left = jnp.where(given, 0, values[name] & ~int(dropped))
        left = jnp.where(roles.diffused(name), values[name], left)
        values[name] = jnp.where(stays, values[name], left)
    return dataclasses.replace(roles, values=values)


def _bits(present: jax.Array, carried: jax.Array, known: jax.Array | None = None) -> jax.Array:
    value = int(Role.PRESENT) * present.astype(jnp.int32)
    value = value + int(Role.CARRIED) * carried.astype(jnp.int32)
    return value if known is None else value + int(Role.KNOWN) * known.astype(jnp.int32)


def conditional_roles(
    model: Modal,
    batch: Batch,
    presence: Presence | None,
    given: Iterable[str],
    asked: Iterable[str] | None = None,
) -> Roles:
    """The roles in −log p(asked | given), of what is present; asked are by default all others.

    The other arguments are those of `training_roles`.

    Raises:
        ValueError: as `training_roles`; a given name that the model does not show, or all of them.
    """
    roles = training_roles(model, batch, presence)
    known = tuple(sorted(given))
    for name in known:
        expect_name("given", name, getattr(model, "shows", ()), none="the model shows none")
    asked = tuple(sorted(set(roles.values if asked is None else asked) - set(known)))
    if not asked:
        raise errors.invalid("given", f"all of {known}", "fewer", "leave out what is asked for")
    return _with_tasks(roles, [Task(asked, known)], 0, model)


def _draw_tasks(key: jax.Array, roles: Roles, tasks: Mapping[Task, float]) -> jax.Array:
    """The place of each example's task, (batch,): it asks for something that the example has."""
    fits = [
        jnp.any(jnp.stack([roles.present(name) for name in task.asked]), axis=0) for task in tasks
    ]
    rates = jnp.log(jnp.array(list(tasks.values())))
    # An example that has nothing that any task asks for draws one all the same.
    logits = jnp.where(jnp.stack(fits, axis=-1), rates, rates - 1e4)
    return jax.random.categorical(key, logits)


def diffused_of(model: Modal, asked: Iterable[str]) -> str | None:
    """The modality whose encoding z_0 is where these are asked for together; None for none."""
    names = set(asked)
    if model.primary in names:
        return model.primary
    return min(names & set(getattr(model, "diffusable", ())), default=None)


def _with_tasks(
    roles: Roles,
    tasks: Sequence[Task],
    place: jax.Array | int,
    model: Modal,
    believed: Collection[str] = (),
) -> Roles:
    """The roles by the place of each example's task, of roles that carry what is present."""
    diffused = [diffused_of(model, task.asked) for task in tasks]

    def drawn(by_task: Iterable[bool]) -> jax.Array:
        return jnp.array(list(by_task))[place]

    values = {}
    for name in roles.values:
        mask = roles.present(name)
        asked = mask & drawn(name in each.asked for each in tasks)
        given = drawn(name in each.known and name not in each.asked for each in tasks)
        known = mask & given
        carried = asked & drawn(each is not None for each in diffused)
        values[name] = _bits(asked | known, carried, known)
        viewed = asked & drawn(name in each.viewed for each in tasks)
        values[name] += int(Role.VIEWED) * viewed.astype(jnp.int32)
        if name in believed:
            values[name] += int(Role.BELIEVED) * (given & ~mask).astype(jnp.int32)
    roles = dataclasses.replace(roles, values=values)
    for name in sorted({name for name in diffused if name not in (None, model.primary)}, key=str):
        here = roles.with_diffused(name).values[name]
        mine = drawn(each == name for each in diffused)
        roles = dataclasses.replace(
            roles, values={**roles.values, name: jnp.where(mine, here, roles.values[name])}
        )
    return roles
