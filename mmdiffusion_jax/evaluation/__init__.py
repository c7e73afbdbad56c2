"""Evaluates a trained model on the test split: likelihoods, labels, samples, samplers."""

from mmdiffusion_jax.evaluation.conditional import conditional_figures
from mmdiffusion_jax.evaluation.embedded import Drawn, embedding_figures
from mmdiffusion_jax.evaluation.evaluate import evaluate
from mmdiffusion_jax.evaluation.figure import HIGHER_IS_BETTER, Figure, counts_of, values_of
from mmdiffusion_jax.evaluation.joint import image_figures, joint_figures, judge_figures
from mmdiffusion_jax.evaluation.likelihood import (
    BoundOf,
    bound_on,
    flow_on,
    labels_by_scoring,
    likelihood_figures,
    loss_names,
    loss_on,
)
from mmdiffusion_jax.evaluation.monitor import monitor
from mmdiffusion_jax.evaluation.outsider import SvmAccuracy, labels_by_svm
from mmdiffusion_jax.evaluation.real import CLASSIFIER, RealData
from mmdiffusion_jax.evaluation.samplers import compare_samplers, plot_samplers, sampler_table
from mmdiffusion_jax.evaluation.shams import ShamTest, sham_figures, sham_test
from mmdiffusion_jax.evaluation.sheet import contact_sheet

__all__ = [
    "CLASSIFIER",
    "HIGHER_IS_BETTER",
    "BoundOf",
    "Drawn",
    "Figure",
    "RealData",
    "ShamTest",
    "SvmAccuracy",
    "bound_on",
    "compare_samplers",
    "conditional_figures",
    "contact_sheet",
    "counts_of",
    "embedding_figures",
    "evaluate",
    "flow_on",
    "image_figures",
    "joint_figures",
    "judge_figures",
    "labels_by_scoring",
    "labels_by_svm",
    "likelihood_figures",
    "loss_names",
    "loss_on",
    "monitor",
    "plot_samplers",
    "sampler_table",
    "sham_figures",
    "sham_test",
    "values_of",
]
