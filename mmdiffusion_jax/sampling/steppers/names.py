"""The steppers by name."""

import functools
from collections.abc import Callable, Mapping

from mmdiffusion_jax import errors
from mmdiffusion_jax.process.checks import described, expect_name
from mmdiffusion_jax.sampling.steppers.ancestral import Ancestral
from mmdiffusion_jax.sampling.steppers.ddim import DDIM
from mmdiffusion_jax.sampling.steppers.dpm_solver_pp import DPMSolverPP
from mmdiffusion_jax.sampling.steppers.heun import Heun
from mmdiffusion_jax.sampling.steppers.multistep import Stepper

SAMPLERS: Mapping[str, Callable[..., Stepper]] = {
    "ancestral": Ancestral,
    "ddim": DDIM,
    "dpm_solver_pp_1": functools.partial(DPMSolverPP, order=1),
    "dpm_solver_pp": DPMSolverPP,
    "dpm_solver_pp_3m": functools.partial(DPMSolverPP, order=3),
    "dpm_solver_pp_2m_sde": functools.partial(DPMSolverPP, sde=True),
    "heun": Heun,
}
"""The steppers by their names in configs and commands."""


def as_stepper(stepper: Stepper | str | None) -> Stepper:
    """A stepper, or the one of that name in `SAMPLERS`; `Ancestral()` for None.

    Raises:
        ValueError: an unknown name, or anything that is no stepper.

    Example:
        >>> as_stepper("ddim")
        DDIM(eta=0.0)
    """
    if stepper is None:
        return Ancestral()
    if isinstance(stepper, str):
        expect_name("stepper", stepper, SAMPLERS)
        return SAMPLERS[stepper]()
    expected = "a stepper, or a name of sampling.SAMPLERS"
    if isinstance(stepper, type):
        name = stepper.__name__
        raise errors.invalid("stepper", f"the class {name}", expected, f"pass {name}()")
    if not all(hasattr(stepper, part) for part in ("order", "stochastic", "init", "step")):
        mend = "pass one such as sampling.DDIM()"
        raise errors.invalid("stepper", described(stepper), expected, mend)
    return stepper
