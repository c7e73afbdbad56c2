"""Generating in batches with a trained model, and showing what came out."""

import dataclasses
from collections.abc import Iterable, Mapping
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


THRESHOLDS = ("none", "static", "dynamic")
"""How ẑ_0 is kept within [−1, 1]."""


@dataclasses.dataclass(frozen=True)
class SamplingOptions:
    """How samples are drawn; the terms are those of `sampling.sample`.

    Attributes:
        sampler: a name of `sampling.SAMPLERS`.
        num_steps: how many states are visited; None visits every t.
        grid: which ones, a name of `sampling.GRIDS`.
        eta: of the sampler "ddim", in [0, 1].
        guidance: {secondary: scale}, classifier-free; 1 is none.
        decoder_guidance: {given secondary: scale}, by the model's own heads; 0 is none.
        guidance_interval: (low, high) in σ; empty for all noise levels.
        guidance_rescale: φ in [0, 1].
        threshold: of ẑ_0, "none", "static" (to [−1, 1]) or "dynamic".
        estimate: of an unknown modality's encoding, "mean", "draw" or "moments".
        unknown: what states carry of unknown modalities, "auto", "absent" or "estimated".
        read: the "most_likely" values in the end, or a "draw".
        corrections: Langevin steps at each state.
        batch_size: how many are drawn at once; bounds the memory.

    Raises:
        ValueError: an unknown name, or a number out of its range.
    """

    sampler: str = "ancestral"
    num_steps: int | None = None
    grid: str = "uniform"
    eta: float = 0.0
    guidance: Mapping[str, float] = dataclasses.field(default_factory=dict)
    decoder_guidance: Mapping[str, float] = dataclasses.field(default_factory=dict)
    guidance_interval: tuple[float, ...] = ()
    guidance_rescale: float = 0.0
    threshold: str = "static"
    estimate: str = "mean"
    unknown: str = "auto"
    read: str = "most_likely"
    corrections: int = 0
    batch_size: int = 500

    def __post_init__(self) -> None:
        choices: tuple[tuple[str, Iterable[str]], ...] = (
            ("sampler", sampling.SAMPLERS),
            ("grid", sampling.GRIDS),
            ("threshold", THRESHOLDS),
            ("estimate", sampling.ESTIMATES),
            ("unknown", sampling.UNKNOWNS),
            ("read", sampling.READS),
        )
        for name, known in choices:
            if getattr(self, name) not in known:
                raise ValueError(errors.unknown(f"sampling.{name}", getattr(self, name), known))
        for name, least in (("num_steps", 1), ("batch_size", 1), ("corrections", 0)):
            value = getattr(self, name)
            if value is not None and value < least:
                raise ValueError(
                    errors.message(f"sampling.{name}", value, f"{least} or more", "raise it")
                )
        if len(self.guidance_interval) not in (0, 2):
            raise ValueError(
                errors.message(
                    "sampling.guidance_interval",
                    self.guidance_interval,
                    "(low, high), or empty for all noise levels",
                    "give two numbers",
                )
            )
        if self.eta and self.sampler != "ddim":
            raise ValueError(
                errors.message(
                    "sampling.eta",
                    f"{self.eta} with the sampler {self.sampler!r}",
                    "0, as only 'ddim' has it",
                    "leave it out, or choose 'ddim'",
                )
            )
        self.stepper()
        self.decorators()

    def stepper(self) -> sampling.Stepper:
        """The stepper these options name."""
        options = {"eta": self.eta} if self.sampler == "ddim" else {}
        return sampling.SAMPLERS[self.sampler](**options)

    def times(self, schedule: process.Schedule) -> np.ndarray:
        """The grid these options name.

        Raises:
            ValueError: more steps than the schedule has.
        """
        count = schedule.num_steps if self.num_steps is None else self.num_steps
        return sampling.GRIDS[self.grid](schedule, count)

    def decorators(self) -> list[sampling.Decorator]:
        """Guidance and thresholding, innermost first."""
        low, high = self.guidance_interval or sampling.EVERYWHERE
        limits = (low, high), self.guidance_rescale
        found = [
            sampling.classifier_free_guidance(name, scale, *limits)
            for name, scale in sorted(self.guidance.items())
        ]
        if self.decoder_guidance:
            found.append(sampling.decoder_guidance(self.decoder_guidance, *limits))
        if self.threshold != "none":
            static = self.threshold == "static"
            found.append(sampling.static_threshold() if static else sampling.dynamic_threshold())
        return found


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
        times = options.times(schedule)

        @jax.jit
        def run(
            key: jax.Array, params: Any, known: Mapping[str, jax.Array], rows: jax.Array
        ) -> dict[str, jax.Array]:
            return sampling.sample(
                jax.vmap(lambda row: jax.random.fold_in(key, row))(rows),
                schedule,
                weights,
                model.functions(params),
                (rows.shape[0], *latent),
                given=known,
                stepper=options.stepper(),
                times=times,
                decorators=options.decorators(),
                estimate=options.estimate,
                unknown=options.unknown,
                read=options.read,
                corrections=options.corrections,
            )

        self._run = run

    def __call__(
        self,
        key: jax.Array,
        params: Any,
        num_samples: int,
        given: Mapping[str, np.ndarray] | None = None,
        first: int = 0,
    ) -> dict[str, np.ndarray]:
        """Generates every modality that is not given, in batches of one compiled shape.

        Warns when all is to be generated from pure noise although the process does not end there,
        and when guidance has nothing to guide because the primary is given.

        Args:
            key: a typed key; example k uses `fold_in(key, first + k)`, so that it is the same
                whatever the batch size and however a run is split.
            params: the model's parameters.
            num_samples: how many.
            given: {name: x (num_samples, …)} in data units.
            first: the number of the first example.

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
        elif self._options.guidance or self._options.decoder_guidance:
            logging.warning(
                "Guidance has nothing to do: %r is given, so no state is denoised and the other "
                "modalities are read by their heads.",
                self._model.primary,
            )
        size = min(self._options.batch_size, num_samples)
        parts: list[dict[str, np.ndarray]] = []
        for start in range(0, num_samples, size):
            # The last batch is filled up with repeats, so that one compiled shape serves all.
            rows = np.minimum(np.arange(start, start + size), num_samples - 1)
            known = {name: jnp.asarray(x[rows]) for name, x in given.items()}
            part = self._run(key, params, known, jnp.asarray(first + rows, jnp.uint32))
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
