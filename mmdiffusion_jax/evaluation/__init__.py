"""Judging a trained model on the test split: likelihoods, labels, samples, samplers."""

from mmdiffusion_jax.evaluation.comparison import compare_samplers, plot_samplers, sampler_table
from mmdiffusion_jax.evaluation.directions import (
    HIGHER_IS_BETTER,
    conditional_figures,
    joint_figures,
)
from mmdiffusion_jax.evaluation.figures import evaluate, likelihood_figures, table
from mmdiffusion_jax.evaluation.likelihood import bound_on, flow_on, labels_by_scoring, loss_on
from mmdiffusion_jax.evaluation.options import EvaluationOptions
from mmdiffusion_jax.evaluation.real import RealData

__all__ = [
    "HIGHER_IS_BETTER",
    "EvaluationOptions",
    "RealData",
    "bound_on",
    "compare_samplers",
    "conditional_figures",
    "evaluate",
    "flow_on",
    "joint_figures",
    "labels_by_scoring",
    "likelihood_figures",
    "loss_on",
    "plot_samplers",
    "sampler_table",
    "table",
]
