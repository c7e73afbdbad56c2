"""A diffusion model: the forward process and the model that reverses it, in one value."""

import dataclasses

import jax

from mmdiffusion_jax import errors
from mmdiffusion_jax.model.functions import ModelFunctions, Prediction
from mmdiffusion_jax.model.roles import Roles
from mmdiffusion_jax.process import Process
from mmdiffusion_jax.process.checks import expect, expect_name


@dataclasses.dataclass(frozen=True, eq=False)
class Diffusion:
    """A forward process and the model of its reversal: what losses, bounds and samplers take.

    Attributes:
        process: the forward process.
        model: the model as plain functions.

    Raises:
        ValueError: anything but a process and a model; a secondary modality without weights, or
            weights of another name.

    Example:
        >>> from mmdiffusion_jax import model, process
        >>> image = model.ModalityFunctions(encode=lambda x: x, log_prob=lambda mean, x: mean[:, 0])
        >>> functions = model.ModelFunctions(
        ...     lambda z_t, t: model.Prediction(0 * z_t, {}), {"image": image}, "image"
        ... )
        >>> Diffusion(process.Process(process.cosine_schedule(100)), functions).num_steps
        100
    """

    process: Process
    model: ModelFunctions

    def __post_init__(self) -> None:
        expect("process", self.process, Process, "make it by process.Process(schedule, weights)")
        expect("model", self.model, ModelFunctions)
        for name in self.process.names:
            expect_name(
                "weights",
                name,
                self.model.secondaries,
                "weights go with the secondary modalities",
                none="the model has no secondary modality",
            )
        for name in self.model.secondaries:
            if name not in self.process.names:
                raise errors.invalid(
                    "weights",
                    f"nothing for {name!r}",
                    "weights for each secondary modality",
                    "add them; all zeros switch its drift off",
                )

    @property
    def num_steps(self) -> int:
        """T, the number of steps."""
        return self.process.num_steps

    def of(self, name: str) -> "Diffusion":
        """The same network where z_0 encodes this modality: itself for the primary.

        The primary of this diffusion is then only known, or absent: no state carries it. A
        modality's parameters are read from ẑ_0 and its head by its `reconstruct`.

        Raises:
            ValueError: a secondary that the model has not learned to diffuse.
        """
        model = self.model
        if name == model.primary:
            return self
        expect_name("diffused", name, model.diffusable, none="the model diffuses the primary alone")

        def denoise(z_t: jax.Array, t: jax.Array, roles: Roles) -> Prediction:
            return model.predict(z_t, t, roles.with_diffused(name))

        return Diffusion(
            self.process.without(name),
            dataclasses.replace(
                model,
                denoise=denoise,
                # What is certain of the primary says nothing of this modality.
                modalities={
                    each: dataclasses.replace(functions, certain=None)
                    for each, functions in model.modalities.items()
                },
                primary=name,
                diffusable=(),
                only_known=(*model.only_known, model.primary),
            ),
        )


def expect_diffusion(diffusion: Diffusion) -> Diffusion:
    """The argument itself, checked to be a diffusion model.

    Raises:
        ValueError: it is none.
    """
    return expect("diffusion", diffusion, Diffusion, "make it by model.Diffusion(process, model)")
