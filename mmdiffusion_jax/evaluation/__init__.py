"""Judging a trained model on the test split: likelihoods, labels, samples, samplers."""

from mmdiffusion_jax.evaluation.comparison import compare_samplers, plot_samplers, sampler_table
from mmdiffusion_jax.evaluation.figures import evaluate, table
from mmdiffusion_jax.evaluation.likelihood import bound_on, flow_on, labels_by_scoring, loss_on
from mmdiffusion_jax.evaluation.options import EvaluationOptions
from mmdiffusion_jax.evaluation.samples import RealData

__all__ = [
    "EvaluationOptions",
    "RealData",
    "bound_on",
    "compare_samplers",
    "evaluate",
    "flow_on",
    "labels_by_scoring",
    "loss_on",
    "plot_samplers",
    "sampler_table",
    "table",
]
