"""Generating in batches with a trained model, and showing what came out."""

import dataclasses
import functools
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from absl import logging
from PIL import Image as PillowImage
from PIL import ImageDraw

from mmdiffusion_jax import errors, process, sampling
from mmdiffusion_jax.networks import MultiModalModel

_TILE, _CAPTION = 48, 14


@dataclasses.dataclass(frozen=True)
class SamplingOptions:
    """How samples are drawn.

    Attributes:
        estimate: of an unknown modality's encoding, "mean" or "draw".
        clip: keep ẑ_0 within [−1, 1].
        unknown: with a known primary, whether the states leave the others out ("absent") or carry
            their current estimates ("estimated").
        batch_size: how many are drawn at once; bounds the memory.

    Raises:
        ValueError: a batch size below 1 or an unknown estimate.
    """

    estimate: str = "mean"
    clip: bool = True
    unknown: str = "absent"
    batch_size: int = 250

    def __post_init__(self) -> None:
        if self.batch_size < 1:
            raise ValueError(
                errors.message("sampling.batch_size", self.batch_size, "1 or more", "raise it")
            )
        if self.estimate not in sampling.ESTIMATES:
            raise ValueError(errors.unknown("sampling.estimate", self.estimate, sampling.ESTIMATES))
        if self.unknown not in sampling.UNKNOWNS:
            raise ValueError(errors.unknown("sampling.unknown", self.unknown, sampling.UNKNOWNS))


class Generator:
    """Generates with one model; compiled once for each set of known modalities and batch size.

    Args:
        schedule: the noise schedule.
        weights: the modality weights.
        model: the Flax model.
        options: how samples are drawn.
    """

    def __init__(
        self,
        schedule: process.Schedule,
        weights: process.ModalityWeights,
        model: MultiModalModel,
        options: SamplingOptions,
    ) -> None:
        self._weights, self._model, self._options = weights, model, options
        latent = model.modalities[model.primary].latent

        @functools.partial(jax.jit, static_argnums=3)
        def run(
            key: jax.Array, params: Any, known: Mapping[str, jax.Array], size: int
        ) -> dict[str, jax.Array]:
            return sampling.sample(
                key,
                schedule,
                weights,
                model.functions(params),
                (size, *latent),
                given=known,
                estimate=options.estimate,
                clip=(-1.0, 1.0) if options.clip else None,
                unknown=options.unknown,
            )

        self._run = run

    def __call__(
        self,
        key: jax.Array,
        params: Any,
        num_samples: int,
        given: Mapping[str, np.ndarray] | None = None,
    ) -> dict[str, np.ndarray]:
        """Generates every modality that is not given, in batches of one compiled shape.

        Warns when all is to be generated from pure noise although the process does not end there.

        Args:
            key: a typed key; batch b uses `fold_in(key, b)`.
            params: the model's parameters.
            num_samples: how many.
            given: {name: x (num_samples, …)} in data units.

        Returns:
            {name: (num_samples, …)} in data units, the given ones as they came.

        Raises:
            ValueError: `num_samples` below 1; an unknown modality, a given value of the wrong
                shape, kind or range, or nothing left to generate.
        """
        given = {name: np.asarray(x) for name, x in (given or {}).items()}
        if num_samples < 1:
            raise ValueError(errors.message("num_samples", num_samples, "1 or more", "raise it"))
        for name, x in given.items():
            _check_given(self._model, name, x, num_samples)
        if self._model.primary not in given:
            _warn_of_the_prior(self._model, self._weights, given)
        size = min(self._options.batch_size, num_samples)
        parts: list[dict[str, np.ndarray]] = []
        for index, start in enumerate(range(0, num_samples, size)):
            # The last batch is filled up with repeats, so that one compiled shape serves all.
            rows = np.minimum(np.arange(start, start + size), num_samples - 1)
            known = {name: jnp.asarray(x[rows]) for name, x in given.items()}
            part = self._run(jax.random.fold_in(key, index), params, known, size)
            parts.append(jax.device_get(part))
        joined = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
        return {name: given.get(name, x[:num_samples]) for name, x in joined.items()}


def contact_sheet(
    model: MultiModalModel, samples: Mapping[str, np.ndarray], columns: int = 10
) -> np.ndarray:
    """Lays samples out in a grid: pictures enlarged to whole pixels, captions under them.

    Args:
        model: knows how each modality is shown.
        samples: {name: (num_samples, …)} in data units.
        columns: samples a row.

    Returns:
        (height, width, 3) uint8.
    """
    shown = {name: model.modalities[name].show(x) for name, x in samples.items()}
    pictures = [name for name in shown if not isinstance(shown[name][0], str)]
    captions = [name for name in shown if isinstance(shown[name][0], str)]
    count = len(next(iter(shown.values())))
    scale = {name: max(1, round(_TILE / shown[name][0].shape[0])) for name in pictures}  # type: ignore[union-attr]
    sizes = {
        name: tuple(scale[name] * side for side in shown[name][0].shape[:2])  # type: ignore[union-attr]
        for name in pictures
    }
    cell_height = sum(height for height, _ in sizes.values()) + (_CAPTION if captions else 0) + 4
    cell_width = max([width for _, width in sizes.values()] or [_TILE]) + 4
    rows = -(-count // columns)
    sheet = PillowImage.new("RGB", (columns * cell_width, rows * cell_height), "white")
    draw = ImageDraw.Draw(sheet)
    for index in range(count):
        left, top = (index % columns) * cell_width + 2, (index // columns) * cell_height + 2
        for name in pictures:
            height, width = sizes[name]
            tile = PillowImage.fromarray(np.ascontiguousarray(shown[name][index]))
            sheet.paste(tile.resize((width, height), PillowImage.Resampling.NEAREST), (left, top))
            top += height
        text = " ".join(str(shown[name][index]) for name in captions)
        draw.text((left + cell_width // 2 - 2, top), text, fill="black", anchor="ma")
    return np.asarray(sheet)


def _check_given(model: MultiModalModel, name: str, x: np.ndarray, num_samples: int) -> None:
    if name not in model.modalities:
        raise ValueError(errors.unknown("given", name, model.modalities))
    shape, kind = model.modalities[name].columns
    if x.shape != (num_samples, *shape) or not np.issubdtype(x.dtype, getattr(np, kind)):
        raise ValueError(
            errors.message(
                f"given {name}",
                f"shape {x.shape} and dtype {x.dtype}",
                f"shape {(num_samples, *shape)} and {kind} values",
                "give one value in data units for each sample",
            )
        )
    model.modalities[name].validate(f"given {name}", x)


def _warn_of_the_prior(
    model: MultiModalModel, weights: process.ModalityWeights, given: Mapping[str, np.ndarray]
) -> None:
    """L0's drift part, ½ w̄_T² ‖E‖² with ‖E‖² = dims, for the modalities that are generated too."""
    dims = int(np.prod(model.modalities[model.primary].latent))
    for name, table in weights.marginal.items():
        nats = 0.5 * dims * float(table[-1]) ** 2
        if name not in given and nats > 1:
            logging.warning(
                "The weights of %r leave about %.1f nats in the last state (L0): generating it "
                "from pure noise will be poor. Let its marginal weight fall to 0 at t = T "
                "(rule 'bump' or 'decay').",
                name,
                nats,
            )
