"""Multi-modal diffusion in JAX: one model for many kinds of data.

`load` opens a trained model, and `pure` has the processes, losses and samplers, which need nothing
but JAX. Importing the package loads neither, nor JAX: what is asked for is loaded then. All but the
pure side needs the packages of the extra `train`.

Example:
    >>> import mmdiffusion_jax as mm
    >>> mm.pure.cosine_schedule(100).num_steps
    100
"""

import importlib
from typing import TYPE_CHECKING, Any

from mmdiffusion_jax import errors

if TYPE_CHECKING:
    from mmdiffusion_jax import pure
    from mmdiffusion_jax.trained import Model, load, untrained

__version__ = "0.1.0"

__all__ = ["Model", "load", "pure", "untrained"]

_OF_TRAINED = ("Model", "load", "untrained")


def __getattr__(name: str) -> Any:
    if name in _OF_TRAINED:
        errors.check_installed(f"mmdiffusion_jax.{name}")
        return getattr(importlib.import_module("mmdiffusion_jax.trained"), name)
    if name == "pure":
        return importlib.import_module("mmdiffusion_jax.pure")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
