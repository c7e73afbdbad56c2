"""Experiments: the only readers of configs, what they build, and the folders that keep them."""

from mmdiffusion_jax.experiment.build import Experiment, build, check_config
from mmdiffusion_jax.experiment.checks import check_opened, check_source
from mmdiffusion_jax.experiment.config_file import call_in_file, import_root, read_config_file
from mmdiffusion_jax.experiment.contents import data_digests
from mmdiffusion_jax.experiment.fit import (
    Constraint,
    abstract_state,
    first_state,
    fit,
    make_step_and_state,
    share_batch,
)
from mmdiffusion_jax.experiment.formulation import Formulation, Shared
from mmdiffusion_jax.experiment.overrides import config_place, unknown_override
from mmdiffusion_jax.experiment.paths import local_paths
from mmdiffusion_jax.experiment.pretrained import (
    Pretrained,
    encoder_paths,
    open_pretrained,
    read_pretrained,
)
from mmdiffusion_jax.experiment.sampler import Generator, check_values, distinct
from mmdiffusion_jax.experiment.scarce import draw_scarce_last
from mmdiffusion_jax.experiment.sections import EvaluationOptions, SamplingOptions
from mmdiffusion_jax.experiment.sections.reading import read as read_section
from mmdiffusion_jax.experiment.settings import Settings, default_config, read_settings
from mmdiffusion_jax.experiment.sources import Splits, open_data, open_splits
from mmdiffusion_jax.experiment.workdir import (
    check_workdir,
    config_of,
    hold_workdir,
    of_this_version,
    read_config,
)

__all__ = [
    "Constraint",
    "EvaluationOptions",
    "Experiment",
    "Formulation",
    "Generator",
    "Pretrained",
    "SamplingOptions",
    "Settings",
    "Shared",
    "Splits",
    "abstract_state",
    "build",
    "call_in_file",
    "check_config",
    "check_opened",
    "check_source",
    "check_values",
    "check_workdir",
    "config_of",
    "config_place",
    "data_digests",
    "default_config",
    "distinct",
    "draw_scarce_last",
    "encoder_paths",
    "first_state",
    "fit",
    "hold_workdir",
    "import_root",
    "local_paths",
    "make_step_and_state",
    "of_this_version",
    "open_data",
    "open_pretrained",
    "open_splits",
    "read_config",
    "read_config_file",
    "read_pretrained",
    "read_section",
    "read_settings",
    "share_batch",
    "unknown_override",
]
