"""What an update would do to those who use what is deployed, and whether to let it happen."""

import dataclasses
import functools
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from mmdiffusion_jax import data, errors, objective
from mmdiffusion_jax.graceful.bundle import Bundle
from mmdiffusion_jax.graceful.decisions import Flips, flips
from mmdiffusion_jax.graceful.deployed import deployed_terms, with_encoders
from mmdiffusion_jax.graceful.options import UpdateOptions
from mmdiffusion_jax.graceful.retrieval import Cells, Retrieval, migration_curve, retrieve
from mmdiffusion_jax.graceful.successor import check_successor, decided_by
from mmdiffusion_jax.modalities import Label
from mmdiffusion_jax.process import ModelFunctions

_SHOWN = 20


class UpdateRefused(ValueError):
    """An update that would harm those who use what is deployed."""


@dataclasses.dataclass(frozen=True)
class Limits:
    """What an update may cost; shares in [0, 1].

    Attributes:
        negative_flips: greatest share of decisions that were right and become wrong, by modality.
        error_increase: greatest rise of the share of wrong decisions, by modality.
        denoiser_ratio: greatest squared error of the deployed denoiser on the new latents, over
            that on the stored ones.
        retrieval_loss: by how much M(new, old) may lie below M(old, old), in mAP.
    """

    negative_flips: float = 0.01
    error_increase: float = 0.0
    denoiser_ratio: float = 1.1
    retrieval_loss: float = 0.01


@dataclasses.dataclass(frozen=True)
class Denoising:
    """Mean squared errors of the noise, by denoiser and by whose latents it reads.

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
        """Of the deployed denoiser's error on new latents to that on stored ones."""
        return self.deployed_on_new / self.deployed


@dataclasses.dataclass(frozen=True)
class Search:
    """What new encodings find among stored ones, and the other way round.

    Attributes:
        precision: M by mean average precision.
        top_1: M by the nearest item's label.
        items: flips of the label of the nearest stored item.
        migration: (share encoded anew, figures) along a migration of the index.
    """

    precision: Cells
    top_1: Cells
    items: Flips
    migration: tuple[tuple[float, Retrieval], ...]


@dataclasses.dataclass(frozen=True)
class Report:
    """A deployed model and its successor, side by side on the same examples and noise.

    Attributes:
        num_examples: how many were compared.
        compatible: {modality: whether the fingerprints say that both encoders go together}.
        decisions: {modality: flips of what is read of the primary}.
        denoising: errors of both denoisers on both sets of latents.
        search: {modality: retrieval across the encoders}, where the encoder is another one and the
            examples have labels.
    """

    num_examples: int
    compatible: Mapping[str, bool]
    decisions: Mapping[str, Flips]
    denoising: Denoising
    search: Mapping[str, Search]

    def problems(self, limits: Limits | None = None) -> list[str]:
        """What speaks against the update, one sentence each; none is none.

        Args:
            limits: what it may cost.
        """
        limits = limits or Limits()
        found = [
            f"the encoder of {name!r} is neither the deployed one nor trained to go with it"
            for name, fits in self.compatible.items()
            if not fits
        ]
        for name, flip in self.decisions.items():
            if flip.negative > limits.negative_flips:
                found.append(
                    f"{flip.negative:.4f} of the decisions on {name!r} were right and become "
                    f"wrong, more than {limits.negative_flips:g}: {_listed(flip.broken)}"
                )
            if flip.new_error - flip.old_error > limits.error_increase:
                found.append(
                    f"{flip.new_error:.4f} of the decisions on {name!r} are wrong, "
                    f"{flip.old_error:.4f} as deployed"
                )
        # A ratio that is no number fails as well.
        if not self.denoising.ratio <= limits.denoiser_ratio:
            found.append(
                f"the deployed denoiser's error on the new latents is {self.denoising.ratio:.3f} "
                f"times that on the stored ones, more than {limits.denoiser_ratio:g}"
            )
        for name, search in self.search.items():
            cells = search.precision
            if not cells.new_old >= cells.old_old - limits.retrieval_loss:
                found.append(
                    f"new queries of {name!r} find {cells.new_old:.4f} mAP in the stored index, "
                    f"old ones {cells.old_old:.4f}: {_listed(search.items.broken)}"
                )
        return found

    def require(self, limits: Limits | None = None) -> None:
        """Refuses an update that costs more than it may.

        Args:
            limits: what it may cost.

        Raises:
            UpdateRefused: it lists what speaks against it, with the examples that break.
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
        lines = [f"| {self.num_examples} examples | |", "|---|---:|"]
        lines += [f"| {what} | {x:.4f} |" for what, x in rows]
        lines += [
            f"| {name}: encoder goes with what is stored | {'yes' if fits else 'no'} |"
            for name, fits in self.compatible.items()
        ]
        return "\n".join(lines)

    def to_dict(self) -> dict[str, Any]:
        """The report in JSON's types, with the examples that break."""
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
) -> Report:
    """Compares a successor with what is deployed, on examples that neither was trained on.

    Decisions of both models are drawn with the same keys, and errors of the noise are measured at
    the same t and noise, so that what differs is the models.

    Args:
        deployed: from `freeze`.
        successor: from `freeze`.
        source: held-out examples with all modalities.
        num_examples: the first ones are compared.
        repeats: draws of t and noise an example, for the errors of the noise.
        seed: of all draws.

    Raises:
        ValueError: a successor that cannot take the place of what is deployed.
    """
    check_successor(deployed, successor.built, UpdateOptions())
    count = min(num_examples, len(source))
    columns = source.take(np.arange(count))
    key = jax.random.key(seed)
    return Report(
        num_examples=count,
        compatible={
            name: successor.encoders[name].goes_with(encoder)
            for name, encoder in deployed.encoders.items()
        },
        decisions=_decisions(key, deployed, successor, columns, count),
        denoising=_denoising(key, deployed, successor, columns, repeats),
        search=_search(deployed, successor, columns),
    )


def _decisions(
    key: jax.Array, deployed: Bundle, successor: Bundle, columns: Mapping[str, Any], count: int
) -> dict[str, Flips]:
    names = decided_by(deployed, successor.built)
    if not names:
        return {}
    primary = deployed.built.model.primary
    given = {primary: columns[primary]}
    was, now = (x.built.generate(key, x.params, count, given) for x in (deployed, successor))
    found = {}
    for name in names:
        modality = deployed.built.model.modalities[name]
        known, classes = modality.split_unknown(jnp.asarray(columns[name]))
        truth = np.asarray(classes)
        # What is not known is neither right nor wrong: both models are given the truth.
        old, new = (np.where(known, x[name], truth) for x in (was, now))
        found[name] = _over_known(flips(old, new, truth), float(np.mean(known)))
    return found


def _over_known(found: Flips, share: float) -> Flips:
    """Shares of all entries → shares of those that are known."""
    share = max(share, 1e-12)
    names = ("old_error", "new_error", "negative", "positive")
    return dataclasses.replace(found, **{name: getattr(found, name) / share for name in names})


def _denoising(
    key: jax.Array,
    deployed: Bundle,
    successor: Bundle,
    columns: Mapping[str, np.ndarray],
    repeats: int,
) -> Denoising:
    old, new = (x.built.model.functions(x.params) for x in (deployed, successor))

    def error(bundle: Bundle, model: ModelFunctions) -> float:
        batch = {name: jnp.asarray(columns[name]) for name in bundle.built.model.modalities}
        size = bundle.built.evaluation.batch_size

        @jax.jit
        def part(key: jax.Array, rows: Mapping[str, jax.Array]) -> jax.Array:
            values, masks = objective.split_presence(rows)
            keys = jax.random.split(key, repeats)
            schedule, weights = bundle.built.schedule, bundle.built.weights
            term = functools.partial(
                deployed_terms, schedule=schedule, weights=weights, model=model, batch=values
            )
            return jnp.mean(jax.lax.map(lambda k: term(k, presence=masks)[0], keys))

        total = 0.0
        count = len(next(iter(batch.values())))
        for start in range(0, count, size):
            rows = {name: x[start : start + size] for name, x in batch.items()}
            here = len(next(iter(rows.values())))
            total += here * float(part(jax.random.fold_in(key, start), rows))
        return total / count

    stored = dataclasses.replace(old, modalities={**new.modalities, **old.modalities})
    return Denoising(
        deployed=error(deployed, old),
        deployed_on_new=error(deployed, with_encoders(old, new)),
        successor_on_stored=error(successor, with_encoders(new, stored)),
        successor=error(successor, new),
    )


def _search(
    deployed: Bundle, successor: Bundle, columns: Mapping[str, np.ndarray]
) -> dict[str, Search]:
    labels = next(
        (n for n, kind in deployed.built.model.modalities.items() if isinstance(kind, Label)),
        "label",
    )
    if labels not in columns or np.ndim(columns[labels]) != 1:
        return {}
    truth, found = columns[labels], {}
    for name, encoder in deployed.encoders.items():
        if successor.encoders[name].fingerprint == encoder.fingerprint:
            continue
        old, new = (_encodings(x, name, columns[name]) for x in (deployed, successor))
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
        found[name] = Search(
            precision=Cells(**{cell: x.mean_average_precision for cell, x in figures.items()}),
            top_1=Cells(**{cell: x.top_1 for cell, x in figures.items()}),
            items=flips(truth[_nearest(old, old)], truth[_nearest(new, old)], np.asarray(truth)),
            migration=tuple(migration_curve(new, truth, old, new, truth)),
        )
    return found


def _encodings(bundle: Bundle, name: str, x: np.ndarray) -> np.ndarray:
    """Encodings, one row an example."""
    encode = bundle.built.model.functions(bundle.params).modalities[name].encode
    found = jax.jit(encode)(jnp.asarray(x))
    return np.asarray(found).reshape(len(x), -1)


def _nearest(queries: np.ndarray, gallery: np.ndarray) -> np.ndarray:
    """Of each query the nearest item by cosine, the query's own example left out."""
    lengths = [np.linalg.norm(x, axis=1, keepdims=True).clip(1e-12) for x in (queries, gallery)]
    cosines = (queries / lengths[0]) @ (gallery / lengths[1]).T
    np.fill_diagonal(cosines, -np.inf)
    return np.argmax(cosines, axis=1)


def _listed(broken: np.ndarray) -> str:
    shown = ", ".join(
        str(row[0] if len(row) == 1 else tuple(row.tolist())) for row in broken[:_SHOWN]
    )
    rest = len(broken) - _SHOWN
    return (
        f"examples {shown}" + (f" and {rest} more" if rest > 0 else "") if shown else "no example"
    )
