"""In which order modalities are generated, each known to those after it."""

from collections.abc import Collection, Mapping, Sequence
from typing import Any, Protocol

from mmdiffusion_jax import errors
from mmdiffusion_jax.process.checks import described, expect, expect_name

Stage = tuple[str, ...]
"""The names of modalities that are generated together."""


class Ordered(Protocol):
    """What has modalities that are drawn in an order: `ModelFunctions`, or a network."""

    @property
    def modalities(self) -> Mapping[str, Any]:
        """{name: what has `drawn` and `num_dims`, which may be None}."""

    @property
    def primary(self) -> str:
        """The name of the modality that is diffused."""

    @property
    def shows(self) -> tuple[str, ...]:
        """The modalities that the network can be shown."""


def parse_order(order: Sequence[str]) -> list[Stage]:
    """The stages that an order names: "image, label" is one of two modalities.

    Raises:
        ValueError: no list of texts, a stage without a name, or a name twice.

    Example:
        >>> parse_order(["label", "image, depth"])
        [('label',), ('image', 'depth')]
    """
    if isinstance(order, str) or not isinstance(order, Sequence):
        raise errors.invalid(
            "order",
            described(order),
            "a list of names",
            'put them in one, such as ["label", "image"]',
        )
    stages: list[Stage] = []
    for text in order:
        names = [name.strip() for name in expect("order", text, str).split(",")]
        for name in names:
            if not name or any(name in stage for stage in stages) or names.count(name) > 1:
                raise errors.invalid("order", list(order), "each name once", "mend it")
        stages.append(tuple(names))
    return stages


def stages_of(model: Ordered, given: Collection[str], order: Sequence[str] | None) -> list[Stage]:
    """The stages in which what is not given is generated; with an order, what it names alone.

    Left out, the order is: modalities that are `drawn` "before" the primary, those of the fewest
    dimensions first, then the primary, then those drawn "after" it. One that leaves `num_dims` out
    counts as of 1. That needs a model that shows what is known; of any other, all are generated
    together. So is what is drawn "never", once all the rest is given.

    Raises:
        ValueError: an order that names an unknown modality, or nothing that is not given; or of
            several stages, of a model that does not show what the later ones have to know.

    Example:
        >>> from mmdiffusion_jax import model
        >>> point = model.ModalityFunctions(encode=lambda x: x, log_prob=lambda mean, x: x)
        >>> label = model.ModalityFunctions(
        ...     encode=lambda x: x, log_prob=lambda mean, x: x, drawn="before"
        ... )
        >>> functions = model.ModelFunctions(
        ...     lambda z_t, t, roles: None, {"point": point, "label": label}, "point",
        ...     sees_roles=True, shows=("point", "label"),
        ... )
        >>> stages_of(functions, given=[], order=None)
        [('label',), ('point',)]
        >>> stages_of(functions, given=["label"], order=None)
        [('point',)]
    """
    if order is None:
        stages = _default(model)
        if not _is_shown(model, given, stages) or not set().union(*stages) - set(given):
            stages = [tuple(sorted(model.modalities))]
    else:
        stages = parse_order(order)
        for name in (name for stage in stages for name in stage):
            expect_name("order", name, model.modalities)
    left = [tuple(name for name in stage if name not in given) for stage in stages]
    left = [stage for stage in left if stage]
    if not left:
        raise errors.invalid(
            "given",
            f"all of {sorted(given)}",
            "at least one modality left to generate",
            "leave one out, or name another in the order",
        )
    if len(left) > 1 and not _is_shown(model, (), left):
        raise errors.invalid(
            "order",
            list(order or ()),
            f"one stage, as the network shows only {sorted(model.shows)}",
            "put all names in one text, or train with tasks that know them",
        )
    return left


def _default(model: Ordered) -> list[Stage]:
    modalities = model.modalities
    secondaries = set(modalities) - {model.primary}
    names = sorted(secondaries, key=lambda name: (modalities[name].num_dims or 1, name))
    before, after = (
        [(name,) for name in names if modalities[name].drawn == when]
        for when in ("before", "after")
    )
    return [*before, (model.primary,), *after]


def _is_shown(model: Ordered, given: Collection[str], stages: Sequence[Stage]) -> bool:
    """Whether the network can be shown what each stage has to know."""
    known = set(given).union(*stages[:-1])
    return known <= set(model.shows)
