"""What is logged of several steps, and what a checkpoint keeps of those that are not logged yet."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mmdiffusion_jax.means import Mean, Worst, join, values
from mmdiffusion_jax.training.guard import Verdict
from mmdiffusion_jax.training.report import StepReport, summarise


def report(skipped=0, **scalars):
    verdict = Verdict(np.int32(skipped), np.int32(skipped), np.int32(0))
    return StepReport.of({"loss": np.float32(1), **scalars}, verdict, {"x": np.bool_(True)})


def labels(*losses):
    return Mean(np.float32(sum(losses)), np.float32(len(losses)))


def test_means_over_steps_are_those_of_the_examples_that_count():
    """Three batches with 3, 0 and 1 labels: the mean is that of the four labels."""
    steps = [report(label=x, mask=labels()) for x in (labels(1, 2, 3), labels(), labels(10))]
    means = summarise(steps)
    assert means["label"] == pytest.approx(np.mean([1, 2, 3, 10]))
    assert set(means) == {"loss", "label", "skipped_steps", "loss_spikes"}


def test_steps_that_were_left_out_do_not_count_unless_all_were():
    bad = report(skipped=1, label=Mean(np.float32(np.nan), np.float32(2)))
    means = summarise([report(label=labels(4)), bad])
    assert (means["label"], means["skipped_steps"]) == (4, 1)
    assert np.isnan(summarise([bad])["label"])


def test_reports_of_an_earlier_version_with_other_scalars_do_not_count():
    """Two come out of a checkpoint as a version wrote them that had no label."""
    old = [StepReport.from_json(report(loss=np.float32(9)).to_json()) for _ in range(2)]
    means = summarise([*old, report(label=labels(4)), report(label=labels(6))])
    assert (means["loss"], means["label"]) == (1, 5)


def test_parts_of_a_batch_are_joined_as_if_they_were_one():
    """The worst example of all is the worst of the parts'; one that is not finite is worse."""
    rng = np.random.default_rng(0)
    losses, times = rng.normal(size=(3, 5)).astype(np.float32), rng.integers(1, 9, (3, 5))
    parts = {
        "label": Mean(losses.sum(1), np.full(3, 5, np.float32)),
        "worst_t": Worst(losses.max(1), times[np.arange(3), losses.argmax(1)]),
    }
    for array in (np.asarray, jnp.asarray):
        whole = values(join(jax.tree.map(array, parts)))
        np.testing.assert_allclose(whole["label"], losses.mean(), rtol=1e-6)
        assert int(whole["worst_t"]) == times.ravel()[losses.argmax()]
    parts["worst_t"].score[1] = np.inf
    assert int(join(parts)["worst_t"].value) == parts["worst_t"].value[1]


def test_a_report_comes_back_from_json_to_the_last_digit():
    one = report(label=Mean(np.float32(0.1), np.float32(3)), bad=np.float32(np.nan))
    back = StepReport.from_json(json.loads(json.dumps(one.to_json())))
    jax.tree.map(np.testing.assert_array_equal, jax.device_get(one), back)


def test_a_report_is_one_array_whatever_its_scalars_are():
    """Also where JAX is told to refuse mixed dtypes."""
    verdict = Verdict(jnp.int32(1), jnp.int32(2), jnp.int32(0))
    scalars = {"loss": jnp.bfloat16(0.5), "label": Mean(jnp.float32(6), jnp.float32(3))}
    with jax.numpy_dtype_promotion("strict"):
        one = jax.jit(StepReport.of)(scalars, verdict, {"x": jnp.bool_(True)})
    assert [leaf.shape for leaf in jax.tree.leaves(one)] == [(7,)]
    assert float(one.scalars["loss"]) == 0.5
    assert (float(one.scalars["label"].value), float(one.verdict.in_row)) == (2, 2)
    assert bool(one.finite["x"])
