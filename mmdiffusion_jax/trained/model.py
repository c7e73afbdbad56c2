"""A model with its parameters: what the launch scripts do with it, as methods on arrays."""

import functools
from collections.abc import Callable, Collection, Mapping
from typing import Any, Self

import jax
import numpy as np
from ml_collections import ConfigDict
from PIL import Image

from mmdiffusion_jax import apps, data, errors, evaluation, experiment, objective, ranges, sampling
from mmdiffusion_jax.apps.requests import check_autoguidance
from mmdiffusion_jax.modalities import Modality
from mmdiffusion_jax.model import split_presence
from mmdiffusion_jax.trained.values import given_arrays, numbers


class Model:
    """A model with parameters, from `load`.

    All arrays are NumPy's, in data units: what a modality's data hold, such as uint8 pixels. A
    method compiles once for each shape of its arguments, and computes where the parameters are.

    Args:
        config: the experiment's.
        built: what it describes.
        params: of the model.

    Attributes:
        experiment: settings, process, networks and formulation, for all that this class lacks.
        params: of the model, a tree of arrays.

    Example:
        >>> import mmdiffusion_jax as mm
        >>> model = mm.untrained("smoke")
        >>> model
        Model(image: (8, 8, 1) integer, the primary; label: () integer)
    """

    def __init__(self, config: ConfigDict, built: experiment.Experiment, params: Any) -> None:
        self._config, self.experiment, self.params = config, built, params
        self._generators: dict[tuple[Any, str], experiment.Generator] = {}
        self._bounds: dict[tuple[str, ...], evaluation.BoundOf] = {}

    def __repr__(self) -> str:
        words = []
        for name, modality in self.modalities.items():
            shape, kind = modality.columns
            is_primary = name == self.experiment.model.primary
            words.append(f"{name}: {shape} {kind}{', the primary' * is_primary}")
        return f"Model({'; '.join(words)})"

    @property
    def config(self) -> ConfigDict:
        """The config that the model was trained with, a copy.

        Example:
            >>> import mmdiffusion_jax as mm
            >>> mm.untrained("smoke").config.latent
            (8, 8, 1)
        """
        return self._config.copy_and_resolve_references()

    @property
    def modalities(self) -> Mapping[str, Modality]:
        """{name: modality}; `columns` of each says shape and kind of one value.

        Example:
            >>> import mmdiffusion_jax as mm
            >>> modalities = mm.untrained("smoke").modalities
            >>> modalities["image"].columns, modalities["label"].num_labels
            (((8, 8, 1), 'integer'), 10)
        """
        return self.experiment.model.modalities

    def sample(
        self,
        num_samples: int | None = None,
        given: Mapping[str, Any] | None = None,
        seed: int = 0,
        keep: Mapping[str, sampling.Fixed] | None = None,
        begin: Mapping[str, sampling.Noised] | None = None,
        weaker: Self | None = None,
        **options: Any,
    ) -> dict[str, np.ndarray]:
        """Generates what is not given: the samples of `mmdiffusion sample` with the same request.

        Sample k depends on the seed, on its given values and on k, not on the number of samples or
        on how many are drawn at once, but for rounding.

        Args:
            num_samples: how many; left out, as many as the given arrays hold, or 100.
            given: {name: one value for all samples, or an array with one for each}.
            seed: of the draws.
            keep: {name: `mm.pure.Fixed(values, mask)`}, true where samples keep the values.
            begin: {name: `mm.pure.Noised(values, level)`}, from which samples begin in the place of
                noise, at a level of noise in (0, 1].
            weaker: the model of `autoguidance`, whose scale is then other than 1.
            **options: fields of `experiment.SamplingOptions` in place of the config's, such as
                `sampler="ddim"`, `num_steps=20`, `guidance={"label": 1.5}`.

        Returns:
            {name: (num_samples, …)} of all modalities, the given ones as they came. Jointly, those
            that are drawn "never" are left out.

        Raises:
            ValueError: an unknown modality or option, a value of another shape, kind or range,
                nothing left to generate, or `weaker` and a scale of `autoguidance` one without the
                other; nothing is drawn then.

        Example:
            >>> import mmdiffusion_jax as mm
            >>> model = mm.untrained("smoke")
            >>> samples = model.sample(2, given={"label": 3}, seed=0, num_steps=2)
            >>> samples["image"].shape, samples["image"].dtype, samples["label"].tolist()
            ((2, 8, 8, 1), dtype('uint8'), [3, 3])
        """
        apps.check_decoder_guidance(options, given or {})
        check_autoguidance(options, weaker is not None)
        parts: list[Any] = [*(keep or {}).values(), *(begin or {}).values()]
        lengths = tuple(len(part.values) for part in parts)
        arrays, count = given_arrays(self.modalities, given or {}, num_samples, lengths)
        generate = self._generator(weaker, options)
        key = jax.random.key(seed)
        return generate(key, self.params, count, arrays, fixed=keep, begin=begin)

    def bound(self, batch: Mapping[str, Any], given: Collection[str] = ()) -> objective.BoundTerms:
        """The bound on −log p of examples, or of some modalities given others, in nats.

        `mmdiffusion evaluate` prints its means over test examples. The noise depends on
        `evaluation.seed` in the config and on an example's place in the batch.

        Args:
            batch: {name: (examples, …)} of every modality, and where a data set has them, masks
                `<name>_present` of ones.
            given: the names of those that are given.

        Returns:
            The four terms `prior`, `posterior`, `recovery` and `reconstruction` and their sum
            `total`, arrays (examples,); `bits_per_dim(num_dims)` of them, see `num_dims`.

        Raises:
            ValueError: a model without one diffusion space, a modality that is missing or not
                known, values of another shape, kind or range, or given names that the network is
                not shown.

        Example:
            >>> import mmdiffusion_jax as mm
            >>> model = mm.untrained("smoke")
            >>> batch = {"image": np.zeros((2, 8, 8, 1), np.uint8), "label": [3, 5]}
            >>> terms = model.bound(batch, given=["label"])
            >>> terms.total.shape, bool((terms.posterior > 0).all())
            ((2,), True)
        """
        values, presence = split_presence(batch)
        for name, mask in presence.items():
            if name in self.modalities and not np.asarray(mask, bool).all():
                raise errors.invalid(
                    f"batch['{name}_present']",
                    f"{np.sum(~np.asarray(mask, bool))} examples without it",
                    "examples that have every modality",
                    "leave the others out",
                )
        arrays = {}
        for name in self.modalities:
            if name not in values:
                raise errors.invalid(
                    "batch",
                    f"nothing for {name!r} among {sorted(batch)}",
                    f"an array for each of {sorted(self.modalities)}",
                    "give it, or leave the example out",
                )
            arrays[name] = self._checked("batch", name, values[name])
        return self._bound_of(given)(self.params, data.ArraySource(arrays, "batch"))

    def num_dims(self, given: Collection[str] = ()) -> int:
        """How many dimensions the modalities have whose `bound` it is.

        Example:
            >>> import mmdiffusion_jax as mm
            >>> model = mm.untrained("smoke")
            >>> model.num_dims(), model.num_dims(given=["label"])
            (65, 64)
        """
        return self._bound_of(given).num_dims

    def encode(self, name: str, x: Any) -> np.ndarray:
        """Encodes values of one modality into the shared space, E(x).

        Args:
            name: of the modality.
            x: (examples, …) in data units.

        Returns:
            (examples, height, width, channels), as `config.latent` says.

        Raises:
            ValueError: an unknown modality, or values of another shape, kind or range.

        Example:
            >>> import mmdiffusion_jax as mm
            >>> model = mm.untrained("smoke")
            >>> model.encode("label", [3, 5]).shape
            (2, 8, 8, 1)
        """
        ranges.check_one_of("name", name, self.modalities)
        encode = self._encoders[name]
        return np.asarray(encode(self.params, self._checked("x", name, x)))

    def show(self, samples: Mapping[str, Any], columns: int = 10) -> Image.Image:
        """Lays samples out as one picture: images, masks and spectrograms, with captions below.

        Args:
            samples: {name: (samples, …)} in data units, of some modalities or all.
            columns: samples a row.

        Returns:
            A picture of Pillow, in RGB: a notebook shows it, `.save("samples.png")` writes it, and
            `np.asarray` gives its pixels (height, width, 3) as uint8.

        Raises:
            ValueError: an unknown modality, values of another shape, kind or range, or not as many
                of each; fewer than one column.

        Example:
            >>> import mmdiffusion_jax as mm
            >>> model = mm.untrained("smoke")
            >>> blank = {"image": np.zeros((4, 8, 8, 1), np.uint8), "label": [3, 1, 4, 1]}
            >>> model.show(blank, columns=2).mode
            'RGB'
        """
        ranges.check_whole("columns", columns, 1)
        arrays = {}
        for name in samples:
            ranges.check_one_of("samples", name, self.modalities)
            arrays[name] = self._checked("samples", name, samples[name])
        counts = {name: len(x) for name, x in arrays.items()}
        if len(set(counts.values())) != 1:
            raise errors.invalid(
                "samples", f"{counts or 'nothing'}", "as many of each modality", "mend it"
            )
        return Image.fromarray(evaluation.contact_sheet(self.experiment.model, arrays, columns))

    def _checked(self, argument: str, name: str, values: Any) -> np.ndarray:
        array = numbers(f"{argument} {name}", values)
        count = len(array) if array.ndim else 0
        experiment.check_values(self.modalities, argument, name, array, count)
        return array

    def _generator(self, weaker: Self | None, options: Mapping[str, Any]) -> experiment.Generator:
        if weaker is None and not options:
            return self.experiment.generate
        key = (weaker, repr(sorted(options.items())))
        if key not in self._generators:
            built = experiment.build(apps.with_sampling(self._config, options))
            other = None if weaker is None else (weaker.experiment, weaker.params)
            self._generators[key] = built.generator(built.sampling, other)
        return self._generators[key]

    def _bound_of(self, given: Collection[str]) -> evaluation.BoundOf:
        if isinstance(given, str):
            raise errors.invalid("given", repr(given), "a list of names", f"write [{given!r}]")
        for name in given:
            ranges.check_one_of("given", name, self.modalities)
        if not self.experiment.formulation.has_bound:
            raise errors.invalid(
                "model",
                f"one of the formulation {self.experiment.settings.formulation!r}",
                "one of 'shared', which has one diffusion space and its bound",
                "compare models by their samples",
            )
        names = tuple(sorted(set(given)))
        if names not in self._bounds:
            self._bounds[names] = evaluation.BoundOf(self.experiment, names)
        return self._bounds[names]

    @functools.cached_property
    def _encoders(self) -> dict[str, Callable[[Any, np.ndarray], jax.Array]]:
        """{name: (parameters, x) → E(x)}, compiled for each shape."""

        def encoder(name: str) -> Callable[[Any, np.ndarray], jax.Array]:
            functions = self.experiment.model.functions
            return jax.jit(lambda params, x: functions(params).modalities[name].encode(x))

        return {name: encoder(name) for name in self.modalities}
