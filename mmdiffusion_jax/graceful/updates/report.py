"""Compares a successor with the deployed model, and refuses updates beyond given limits."""

import dataclasses
import math
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from mmdiffusion_jax import data, errors, ranges
from mmdiffusion_jax.graceful.methods.decisions import Flips, flips
from mmdiffusion_jax.graceful.methods.retrieval import (
    Cells,
    Retrieval,
    migration_curve,
    nearest,
    retrieve,
)
from mmdiffusion_jax.graceful.updates.bundle import Bundle
from mmdiffusion_jax.graceful.updates.deployed import deployed_terms, with_encoders
from mmdiffusion_jax.graceful.updates.options import UpdateOptions
from mmdiffusion_jax.graceful.updates.successor import check_embedder, check_successor, decided_by
from mmdiffusion_jax.model import Diffusion, ModelFunctions, split_presence

_SHOWN = 20


class UpdateRefused(ValueError):
    """An update beyond its limits."""


@dataclasses.dataclass(frozen=True)
class Limits:
    """Limits of an update; shares in [0, 1], and ∞ for no limit.

    Attributes:
        negative_flips: greatest share of decisions that were right and become wrong, by modality.
        error_increase: greatest increase of the share of wrong decisions, by modality.
        denoiser_ratio: greatest squared error of the deployed denoiser on the new latents, over
            that on the stored ones.
        retrieval_loss: by how much M(new, old) may lie below M(old, old), in mAP.
    """

    negative_flips: float = 0.01
    error_increase: float = 0.0
    denoiser_ratio: float = 1.1
    retrieval_loss: float = 0.01

    def __post_init__(self) -> None:
        # Below 0 a limit asks for fewer errors than before.
        for field in dataclasses.fields(self):
            if getattr(self, field.name) != math.inf:
                ranges.check_real(field.name, getattr(self, field.name))


@dataclasses.dataclass(frozen=True)
class Denoising:
    """Mean squared errors of the predicted noise, by denoiser and latents.

    Where known modalities are shown to the deployed model, all are measured in the tasks, by the
    weighting and at the t of its loss, else with all modalities in the state, without weights and
    at uniform t. A successor that is not shown all that the deployed model is shown is given none
    of it, and then its errors do not compare with the deployed model's.

    Attributes:
        deployed: the deployed denoiser on stored latents.
        deployed_on_new: the deployed denoiser on the successor's.
        successor_on_stored: the successor's denoiser on stored latents.
        successor: the successor's denoiser on its own latents.
    """

    deployed: float
    deployed_on_new: float
    successor_on_stored: float
    successor: float

    @property
    def ratio(self) -> float:
        """The error of the deployed denoiser on new latents over that on stored ones."""
        return self.deployed_on_new / self.deployed


@dataclasses.dataclass(frozen=True)
class Search:
    """Retrieval with new queries in the stored index, and the other way round.

    Attributes:
        precision: M by mean average precision.
        top_1: M by the nearest item's label.
        items: flips of the label of the nearest stored item.
        migration: (share encoded anew, figures) while the index is encoded anew.
        num_examples: the number of items, and of queries.
    """

    precision: Cells
    top_1: Cells
    items: Flips
    migration: tuple[tuple[float, Retrieval], ...]
    num_examples: int


@dataclasses.dataclass(frozen=True)
class Report:
    """A deployed model and its successor, side by side on the same examples and noise.

    Attributes:
        num_examples: how many were compared, all of which have the primary.
        compatible: {modality: whether both encoders are compatible by their fingerprints}.
        decisions: {modality: flips of its values, predicted from the primary}.
        denoising: errors of both denoisers on both sets of latents.
        search: {modality: retrieval across the encoders}, where the encoders differ and the
            examples have labels.
        left_out: {modality: why its decisions could not be compared}.
        distances: {modality: root mean square of E_new − E_old, over the examples that have it},
            where the encoders differ.
        not_searched: {modality: why `search` lacks it}, where the encoders differ.
    """

    num_examples: int
    compatible: Mapping[str, bool]
    decisions: Mapping[str, Flips]
    denoising: Denoising
    search: Mapping[str, Search]
    left_out: Mapping[str, str] = dataclasses.field(default_factory=dict)
    distances: Mapping[str, float] = dataclasses.field(default_factory=dict)
    not_searched: Mapping[str, str] = dataclasses.field(default_factory=dict)

    def problems(self, limits: Limits | None = None) -> list[str]:
        """The reasons against the update, one sentence each; an empty list allows it.

        A `retrieval_loss` of 1 asks nothing of retrieval, not even that it can be measured.
        """
        limits = limits or Limits()
        reasons = [
            f"the encoder of {name!r} is neither the deployed one nor trained to go with it"
            for name, fits in self.compatible.items()
            if not fits
        ]
        reasons += [
            f"the decisions on {name!r} could not be compared: {reason}"
            for name, reason in self.left_out.items()
        ]
        reasons += [
            f"retrieval by {name!r} could not be compared: {reason}"
            for name, reason in self.not_searched.items()
            if limits.retrieval_loss < 1
        ]
        for name, flip in self.decisions.items():
            if flip.negative > limits.negative_flips:
                reasons.append(
                    f"{flip.negative:.4f} of the decisions on {name!r} were right and become "
                    f"wrong, more than {limits.negative_flips:g}: {_listed(flip.broken)}"
                )
            if flip.new_error - flip.old_error > limits.error_increase:
                reasons.append(
                    f"{flip.new_error:.4f} of the decisions on {name!r} are wrong, "
                    f"{flip.old_error:.4f} as deployed"
                )
        # A ratio that is no number fails as well.
        if not self.denoising.ratio <= limits.denoiser_ratio:
            reasons.append(
                f"the deployed denoiser's error on the new latents is {self.denoising.ratio:.3f} "
                f"times that on the stored ones, more than {limits.denoiser_ratio:g}"
            )
        for name, search in self.search.items():
            cells = search.precision
            if not cells.new_old >= cells.old_old - limits.retrieval_loss:
                reasons.append(
                    f"new queries of {name!r} find {cells.new_old:.4f} mAP in the stored index, "
                    f"old ones {cells.old_old:.4f}: {_listed(search.items.broken)}"
                )
        return reasons

    def require(self, limits: Limits | None = None) -> None:
        """Refuses an update beyond its limits.

        Raises:
            UpdateRefused: it lists the reasons, with the examples that become wrong.
        """
        if problems := self.problems(limits):
            raise UpdateRefused(
                errors.message(
                    "successor",
                    "; ".join(problems),
                    "an update within its limits",
                    "train it with more weight on what breaks, or raise the limit on purpose",
                )
            )

    def table(self) -> str:
        """The report in Markdown."""
        rows = [
            ("deployed denoiser, stored latents: squared error", self.denoising.deployed),
            ("deployed denoiser, new latents", self.denoising.deployed_on_new),
            ("successor's denoiser, stored latents", self.denoising.successor_on_stored),
            ("successor's denoiser, new latents", self.denoising.successor),
        ]
        for name, flip in self.decisions.items():
            rows += [
                (f"{name}: wrong as deployed", flip.old_error),
                (f"{name}: wrong by the successor", flip.new_error),
                (f"{name}: right before, wrong now", flip.negative),
                (f"{name}: wrong before, right now", flip.positive),
                (
                    f"{name}: negative flips over those of independent errors",
                    flip.relative_negative,
                ),
            ]
        for name, search in self.search.items():
            for what, cells in (("mAP", search.precision), ("top 1", search.top_1)):
                rows += [
                    (f"{name}: {what}, old queries in the stored index", cells.old_old),
                    (f"{name}: {what}, new queries in the stored index", cells.new_old),
                    (f"{name}: {what}, old queries in a new index", cells.old_new),
                    (f"{name}: {what}, new queries in a new index", cells.new_new),
                ]
        rows += [
            (f"{name}: root mean square of new encodings less stored ones", distance)
            for name, distance in self.distances.items()
        ]
        lines = [f"| {self.num_examples} examples | |", "|---|---:|"]
        lines += [
            f"| {name}: decisions that are known | {flip.count:,} |"
            for name, flip in self.decisions.items()
        ]
        lines += [
            f"| {name}: examples in the index | {search.num_examples:,} |"
            for name, search in self.search.items()
        ]
        lines += [f"| {name}: decisions | {reason} |" for name, reason in self.left_out.items()]
        lines += [f"| {name}: retrieval | {reason} |" for name, reason in self.not_searched.items()]
        lines += [f"| {what} | {x:.4f} |" for what, x in rows]
        lines += [
            f"| {name}: encoder goes with what is stored | {'yes' if fits else 'no'} |"
            for name, fits in self.compatible.items()
        ]
        return "\n".join(lines)

    def to_dict(self) -> dict[str, Any]:
        """The report in JSON's types, with the examples that become wrong."""
        plain = dataclasses.asdict(self)
        for flip, kept in (
            *((self.decisions[name], plain["decisions"][name]) for name in self.decisions),
            *((self.search[name].items, plain["search"][name]["items"]) for name in self.search),
        ):
            kept["relative_negative"] = flip.relative_negative
            kept["broken"] = flip.broken.tolist()
        return plain


def compare(
    deployed: Bundle,
    successor: Bundle,
    source: data.Source,
    num_examples: int = 1000,
    repeats: int = 8,
    seed: int = 0,
    options: UpdateOptions | None = None,
) -> Report:
    """Compares a successor with what is deployed, on examples that neither was trained on.

    Both models draw their decisions with the same keys, and their errors are measured at the same t
    and noise.

    Args:
        deployed: from `freeze`.
        successor: from `freeze`.
        source: held-out examples; a figure counts those that have the modalities it needs.
        num_examples: the first ones that have the primary are compared.
        repeats: draws of t and noise an example, for the denoisers' errors.
        seed: of all draws.
        options: that the successor was trained with; left out, the defaults.

    Raises:
        ValueError: a successor that cannot take the place of what is deployed.
    """
    check_successor(deployed, successor.built, options or UpdateOptions())
    check_embedder(deployed, successor.embedder)
    primary = deployed.built.model.primary
    ranges.check_whole("num_examples", num_examples, 1)
    rows = data.rows_with(source, [primary], num_examples)
    if not len(rows):
        raise errors.invalid(
            "source", f"no example with {primary!r}", "one or more", "compare on other data"
        )
    columns = source.take(rows)
    key = jax.random.key(seed)
    decisions, left_out = _decisions(key, deployed, successor, columns, rows)
    distances, search, not_searched = _search(deployed, successor, columns, rows)
    return Report(
        num_examples=len(rows),
        compatible={
            name: successor.encoders[name].goes_with(encoder)
            for name, encoder in deployed.encoders.items()
        },
        decisions=decisions,
        denoising=_denoising(key, deployed, successor, columns, repeats),
        search=search,
        left_out=left_out,
        distances=distances,
        not_searched=not_searched,
    )


def _decisions(
    key: jax.Array,
    deployed: Bundle,
    successor: Bundle,
    columns: Mapping[str, Any],
    rows: np.ndarray,
) -> tuple[dict[str, Flips], dict[str, str]]:
    """Flips by modality, and the reasons why other modalities have none."""
    names = decided_by(deployed)
    if not names:
        return {}, {}
    primary = deployed.built.model.primary
    given = {primary: columns[primary]}
    was, now = (x.built.generate(key, x.params, len(rows), given) for x in (deployed, successor))
    decisions, left_out = {}, {}
    for name in names:
        modality = deployed.built.model.modalities[name]
        x = jnp.asarray(columns[name])
        known, truth = (np.asarray(part) for part in modality.split_unknown(x))
        present = data.present(columns, [name]).reshape(-1, *[1] * (known.ndim - 1))
        # The successor may call unknown what is no class to the deployed model.
        theirs = successor.built.model.modalities[name].split_unknown(x)[0]
        known = known & present & np.asarray(theirs)
        if not known.any():
            left_out[name] = "no example says what is right"
            continue
        flipped = flips(was[name], now[name], truth, known)
        # The first axis counts the compared examples; it becomes that of the source.
        broken = np.concatenate([rows[flipped.broken[:, :1]], flipped.broken[:, 1:]], axis=1)
        decisions[name] = dataclasses.replace(flipped, broken=broken)
    return decisions, left_out


def _denoising(
    key: jax.Array,
    deployed: Bundle,
    successor: Bundle,
    columns: Mapping[str, np.ndarray],
    repeats: int,
) -> Denoising:
    values, masks = split_presence({n: jnp.asarray(x) for n, x in columns.items()})
    # Both see the same examples: those without classes that the deployed model lacks.
    theirs = deployed.known_batch(values, masks)
    ours = tuple({**new, **old} for old, new in zip(theirs, successor.known_batch(values, masks)))

    # What is shown tells on an error only in the tasks that show it.
    settings = deployed.built.settings
    options = settings.loss.of_simple_loss() if settings.shows else None

    def error(
        reader: Bundle,
        batch: Any,
        model: Callable[[ModelFunctions, ModelFunctions], ModelFunctions],
    ) -> float:
        # A reader that is not shown as much has no such tasks.
        fits = set(settings.shows) <= set(reader.built.settings.shows)
        asked = options if fits else None

        @jax.jit
        def part(key: jax.Array, params: Any, rows: Any) -> jax.Array:
            old, new = (
                x.built.model.functions(p)
                for x, p in zip((deployed, successor), params, strict=True)
            )
            diffusion = Diffusion(reader.built.process, model(old, new))
            term = lambda key: deployed_terms(key, diffusion, rows[0], rows[1], asked)[0]  # noqa: E731
            return jnp.mean(jax.lax.map(term, jax.random.split(key, repeats)))

        size = reader.built.evaluation.batch_size
        count = len(batch[0][reader.built.model.primary])
        total = 0.0
        for start in range(0, count, size):
            rows = jax.tree.map(lambda x, start=start: x[start : start + size], batch)
            params = deployed.params, successor.params
            mean = part(jax.random.fold_in(key, start), params, rows)
            total += min(size, count - start) * float(mean)
        return total / count

    def on_stored(old: ModelFunctions, new: ModelFunctions) -> ModelFunctions:
        encoders = dataclasses.replace(old, modalities={**new.modalities, **old.modalities})
        return with_encoders(new, encoders)

    return Denoising(
        deployed=error(deployed, theirs, lambda old, new: old),
        deployed_on_new=error(deployed, theirs, with_encoders),
        successor_on_stored=error(successor, ours, on_stored),
        successor=error(successor, ours, lambda old, new: new),
    )


def _search(
    deployed: Bundle, successor: Bundle, columns: Mapping[str, np.ndarray], rows: np.ndarray
) -> tuple[dict[str, float], dict[str, Search], dict[str, str]]:
    """Distances, retrieval, and the reasons against it, by modality whose encoders differ."""
    labels = next(
        (name for name, kind in deployed.built.model.modalities.items() if kind.num_labels), "label"
    )
    has_labels = labels in columns and np.ndim(columns[labels]) == 1
    distances, searches, reasons = {}, {}, {}
    for name, encoder in deployed.encoders.items():
        if successor.encoders[name].fingerprint == encoder.fingerprint:
            continue
        x, fits = deployed.built.model.modalities[name].readable(jnp.asarray(columns[name]))
        kept = np.flatnonzero(data.present(columns, [name]) & np.asarray(fits))
        if not len(kept):
            reasons[name] = "no example has it"
            continue
        old, new = (_encodings(bundle, name, x[kept]) for bundle in (deployed, successor))
        distances[name] = float(np.sqrt(np.mean((new - old) ** 2)))
        if not has_labels:
            reasons[name] = "the examples have no labels, one each"
            continue
        # An encoding of zeros, such as that of silence, has no direction to be found by.
        there = data.present(columns, [labels])[kept] & old.any(axis=1)
        if not new[there].any(axis=1).all():
            reasons[name] = "encodings that had a direction are zeros now"
            continue
        old, new, kept = old[there], new[there], kept[there]
        truth = np.asarray(columns[labels])[kept]
        if len(truth) == len(np.unique(truth)):
            reasons[name] = "no two of the examples that can be searched have the same label"
            continue
        searches[name] = _searched(old, new, truth, rows[kept])
    return distances, searches, reasons


def _searched(old: np.ndarray, new: np.ndarray, truth: np.ndarray, rows: np.ndarray) -> Search:
    """Retrieval of labelled examples (n,), in these rows of the data, by encodings (n, d)."""
    pairs = {
        "old_old": (old, old),
        "new_old": (new, old),
        "old_new": (old, new),
        "new_new": (new, new),
    }
    figures = {
        cell: retrieve(queries, truth, gallery, truth, same_examples=True)
        for cell, (queries, gallery) in pairs.items()
    }
    was, now = (truth[nearest(queries, old, same_examples=True)] for queries in (old, new))
    items = flips(was, now, truth)
    return Search(
        precision=Cells(**{cell: x.mean_average_precision for cell, x in figures.items()}),
        top_1=Cells(**{cell: x.top_1 for cell, x in figures.items()}),
        items=dataclasses.replace(items, broken=rows[items.broken]),
        migration=tuple(migration_curve(new, truth, old, new, truth, same_examples=True)),
        num_examples=len(rows),
    )


def _encodings(bundle: Bundle, name: str, x: jax.Array) -> np.ndarray:
    """Encodings, one row an example."""

    @jax.jit
    def encode(params: Any, x: jax.Array) -> jax.Array:
        return bundle.built.model.functions(params).modalities[name].encode(x)

    return np.asarray(encode(bundle.params, x)).reshape(len(x), -1)


def _listed(broken: np.ndarray) -> str:
    shown = ", ".join(
        str(row[0] if len(row) == 1 else tuple(row.tolist())) for row in broken[:_SHOWN]
    )
    rest = len(broken) - _SHOWN
    return (
        f"examples {shown}" + (f" and {rest} more" if rest > 0 else "") if shown else "no example"
    )
