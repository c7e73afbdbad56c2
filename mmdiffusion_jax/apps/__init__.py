"""What the launch scripts run: train, sweep, sample, evaluate, compare, update, report, export."""

from mmdiffusion_jax.apps.compare_arms import compare_arms
from mmdiffusion_jax.apps.compare_samplers import compare_samplers
from mmdiffusion_jax.apps.distributed import define_distributed_flags, join
from mmdiffusion_jax.apps.evaluate import evaluate
from mmdiffusion_jax.apps.export import export, load_export
from mmdiffusion_jax.apps.features import LabelledImages, fit_features
from mmdiffusion_jax.apps.judge_by_use import judge_by_use
from mmdiffusion_jax.apps.options import (
    define_checkpoint_flag,
    define_data_flags,
    define_sampling_flags,
    parse_window,
)
from mmdiffusion_jax.apps.pictures import write_pictures
from mmdiffusion_jax.apps.plan import Plan, plan
from mmdiffusion_jax.apps.prepare import check_prepare_flags, parse_size, prepare
from mmdiffusion_jax.apps.prepare_folder import parse_palette, prepare_folder
from mmdiffusion_jax.apps.report import report
from mmdiffusion_jax.apps.requests import Request, check_decoder_guidance
from mmdiffusion_jax.apps.sample import sample
from mmdiffusion_jax.apps.start import RESTART_CODE, quiet, start
from mmdiffusion_jax.apps.sweep import (
    collect_sweep,
    expand_sweep,
    sweep_commands,
    train_sweep,
    write_array,
)
from mmdiffusion_jax.apps.train import load, train, with_sampling
from mmdiffusion_jax.apps.update import compare_update, freeze, split_config, update
from mmdiffusion_jax.apps.wandb import define_wandb_flag

__all__ = [
    "RESTART_CODE",
    "LabelledImages",
    "Plan",
    "Request",
    "check_decoder_guidance",
    "check_prepare_flags",
    "collect_sweep",
    "compare_arms",
    "compare_samplers",
    "compare_update",
    "define_checkpoint_flag",
    "define_data_flags",
    "define_distributed_flags",
    "define_sampling_flags",
    "define_wandb_flag",
    "evaluate",
    "expand_sweep",
    "export",
    "fit_features",
    "freeze",
    "join",
    "judge_by_use",
    "load",
    "load_export",
    "parse_palette",
    "parse_size",
    "parse_window",
    "plan",
    "prepare",
    "prepare_folder",
    "quiet",
    "report",
    "sample",
    "split_config",
    "start",
    "sweep_commands",
    "train",
    "train_sweep",
    "update",
    "with_sampling",
    "write_array",
    "write_pictures",
]
