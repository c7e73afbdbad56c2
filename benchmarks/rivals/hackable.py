"""A joint model of image and label by hackable-diffusion, with a time of its own for each.

The image has its Gaussian process with the cosine schedule and the prediction of v, the label its
masking process; losses, time samplers, time schedules and steppers are the library's, nested by
modality. The network is our backbone, which sees the noisy image, the image's time, the label, if
it is not masked, and the label's time; our head of labels gives the logits. Optimiser, schedule of
its rate and moving average are those of our run.

What is given keeps its value, as its time stands at "clean" all along.
"""

import dataclasses
import importlib
import sys
from collections.abc import Mapping
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.rivals.job import (
    GIVEN,
    IMAGE,
    JOINT,
    LABEL,
    LABEL_GIVEN_IMAGE,
    Job,
    arms_of,
    job_of,
    versions_of,
)
from benchmarks.speed.worker import Arms, Unavailable
from mmdiffusion_jax import data, experiment, training
from mmdiffusion_jax.model import Shown
from mmdiffusion_jax.networks.embeddings import time_embedding

_LIBRARY = "hackable_diffusion.hd"
# Times of training keep away from the ends by the first, those of sampling by the second, as in
# the library's tutorial of two modalities and its default.
_TRAIN_MARGIN, _CLEAN = 1e-3, 1e-6
_TIME_WIDTH = 32
# Rows and columns of the label's code in what conditions the network, as in our model.
_COARSE = 4
# Of the label's loss beside the image's.
_LABEL_WEIGHT = 0.1
# With it the sampler's draw of a label is the most likely one, as ours is.
_MOST_LIKELY = 1e-3


class Network(nn.Module):
    """Our backbone behind the library's interface of a conditional backbone.

    Attributes:
        backbone: a `model.Backbone`.
        label: our modality, whose codes the backbone is shown and whose head gives the logits.
    """

    backbone: nn.Module
    label: nn.Module

    @nn.compact
    def __call__(
        self, x: Mapping[str, jax.Array], conditioning_embeddings: Any, is_training: bool
    ) -> dict[str, jax.Array]:
        """Noisy image and label → the image's v and the label's logits (batch, num_classes)."""
        del is_training
        image, label = x[IMAGE], x[LABEL][:, 0]
        times = {name: t.reshape(len(image)) for name, t in conditioning_embeddings.items()}
        codes = self.label.class_codes()
        is_seen = (label < len(codes)).astype(image.dtype)
        code = codes[jnp.minimum(label, len(codes) - 1)] * is_seen[:, None, None, None]
        rows, columns = (min(side, _COARSE) for side in code.shape[1:3])
        coarse = jax.image.resize(code, (len(code), rows, columns, code.shape[-1]), "linear")
        summary = jnp.concatenate([is_seen[:, None], coarse.reshape(len(code), -1)], axis=-1)
        features, value = self.backbone(
            image,
            times[IMAGE] * self.backbone.num_steps,
            time_embedding(times[LABEL], 1, _TIME_WIDTH),
            Shown(code, summary),
        )
        return {IMAGE: value, LABEL: self.label.head(features)}


class Times(nn.Module):
    """An encoder of the conditioning that passes the times on, which the backbone embeds."""

    def __call__(self, time: Any, conditioning: Any, is_training: bool) -> Any:
        """The times of the modalities as they are."""
        del conditioning, is_training
        return time


@dataclasses.dataclass(frozen=True)
class Parts:
    """What the library is asked for.

    Attributes:
        process: of image and label.
        losses: of image and label.
        times: draws a time for each modality.
        network: the library's network around ours.
        projection: keeps estimates of images within the range of pixels.
    """

    process: Any
    losses: Any
    times: Any
    network: Any
    projection: Any


class Hackable:
    """The library's processes, losses and samplers around our backbone.

    Raises:
        Unavailable: the library is not installed in this interpreter.
    """

    directions = (JOINT, *GIVEN)

    def __init__(self, job: Job) -> None:
        try:
            self._hd = importlib.import_module(_LIBRARY)
        except ImportError as error:
            raise Unavailable(f"{sys.executable} has no hackable-diffusion ({error})") from error
        self._built = job.experiment()
        self._parts = parts_of(self._hd, self._built)
        options = self._built.training
        optimiser = training.make_optimiser(options)
        device = jax.sharding.SingleDeviceSharding(jax.devices()[0])
        source = data.ArraySource(job.columns())
        batches = data.train_batches(source, batch_size=options.batch_size, seed=self._built.seed)
        self._batches = data.to_device(batches, device, options.batch_size)
        key = jax.random.key(self._built.seed)
        params = self._init(jax.random.fold_in(key, 0))
        self._state = (params, params, optimiser.init(params), jax.random.fold_in(key, 1), 0)

        @jax.jit
        def step(state: Any, batch: Mapping[str, jax.Array]) -> Any:
            params, ema, moments, key, number = state
            gradient = jax.grad(self._loss)(params, jax.random.fold_in(key, number), batch)
            updates, moments = optimiser.update(gradient, moments, params)
            params = jax.tree.map(jnp.add, params, updates)
            decay = jnp.minimum(options.ema_decay, (1 + number) / (10 + number))
            ema = jax.tree.map(lambda old, new: decay * old + (1 - decay) * new, ema, params)
            return params, ema, moments, key, number + 1

        self._step = step
        self._samplers = {
            (direction, calls): jax.jit(self._sampler(direction, calls))
            for direction in self.directions
            for calls in job.calls
        }

    def _init(self, key: jax.Array) -> Any:
        shape = {IMAGE: (1, *self._built.model.backbone.latent), LABEL: (1, 1)}
        variables = self._parts.network.initialize_variables(
            input_shape=shape, conditioning_shape={}, key=key
        )
        return variables["params"]

    def _loss(self, params: Any, key: jax.Array, batch: Mapping[str, jax.Array]) -> jax.Array:
        parts = self._parts
        x = {
            IMAGE: batch[IMAGE].astype(jnp.float32) / 127.5 - 1,
            LABEL: batch[LABEL].astype(jnp.int32)[:, None],
        }
        time_key, noise_key = jax.random.split(key)
        time = parts.times(key=time_key, data_spec=x)
        noisy, targets = parts.process.corrupt(key=noise_key, x0=x, time=time)
        estimates = parts.network.apply(
            {"params": params}, time=time, xt=noisy, conditioning=None, is_training=True
        )
        losses = parts.losses(preds=estimates, targets=targets, time=time)
        return losses[IMAGE].mean() + _LABEL_WEIGHT * losses[LABEL].mean()

    @property
    def num_parameters(self) -> int:
        """How many parameters it trains."""
        return sum(leaf.size for leaf in jax.tree.leaves(self._state[0]))

    @property
    def versions(self) -> str:
        """Its libraries with their versions."""
        return versions_of("hackable-diffusion", "jax", "flax")

    def train(self, count: int) -> None:
        """Takes so many steps."""
        for _ in range(count):
            self._state = self._step(self._state, next(self._batches))
        jax.block_until_ready(self._state)

    def draw(self, direction: str, calls: int, given: dict[str, np.ndarray], count: int) -> Any:
        """Samples of the averaged parameters, in batches of one compiled shape."""
        size = min(self._built.sampling.batch_size, count)
        key = jax.random.key(self._built.evaluation.seed)
        key = jax.random.fold_in(key, self.directions.index(direction))
        parts = []
        for start in range(0, count, size):
            rows = np.minimum(np.arange(start, start + size), count - 1)
            known = {name: jnp.asarray(x[rows]) for name, x in given.items()}
            numbered = jax.random.fold_in(key, start)
            blank = jnp.zeros(size)
            sampler = self._samplers[direction, calls]
            parts.append(jax.device_get(sampler(self._state[1], numbered, known, blank)))
        image = self._built.model.modalities[IMAGE]
        joined = {name: np.concatenate([x[name] for x in parts])[:count] for name in parts[0]}
        samples = {
            IMAGE: np.asarray(image.in_data_units(jnp.asarray(joined[IMAGE]))),
            LABEL: joined[LABEL][:, 0].astype(np.int32),
        }
        return {**samples, **given}

    def _sampler(self, direction: str, calls: int) -> Any:
        hd, parts = self._hd, self._parts
        loop = hd.sampling.sampling.DiffusionSampler(
            time_schedule=_schedule(hd, direction),
            stepper=_stepper(hd, parts.process, direction),
            num_steps=calls + 1,  # of states; the library calls the network between two of them
            store_trajectory=False,
        )

        def sample(params: Any, key: jax.Array, given: Any, blank: jax.Array) -> Any:
            spec = {
                IMAGE: jnp.zeros((len(blank), *self._built.model.backbone.latent)),
                LABEL: jnp.zeros((len(blank), 1), jnp.int32),
            }
            noise_key, loop_key = jax.random.split(key)
            first = parts.process.sample_from_invariant(noise_key, data_spec=spec)
            if IMAGE in given:
                first[IMAGE] = given[IMAGE].astype(jnp.float32) / 127.5 - 1
            if LABEL in given:
                first[LABEL] = given[LABEL].astype(jnp.int32)[:, None]

            def infer(time: Any, xt: Any, conditioning: Any) -> Any:
                del conditioning
                outputs = parts.network.apply(
                    {"params": params}, time=time, xt=xt, conditioning=None, is_training=False
                )
                return parts.projection(xt=xt, conditioning={}, time=time, outputs=outputs)

            last, _ = loop(inference_fn=infer, rng=loop_key, initial_noise=first)
            return {name: last[name].xt for name in (IMAGE, LABEL)}

        return sample


def parts_of(hd: Any, built: experiment.Experiment) -> Parts:
    """The library's parts for an experiment of image and label."""
    model, nested = built.model, hd.multimodal
    gaussian = hd.corruption.gaussian.GaussianProcess(
        schedule=hd.corruption.schedules.CosineSchedule()
    )
    masking = hd.corruption.discrete.CategoricalProcess.masking_process(
        schedule=hd.corruption.schedules.LinearDiscreteSchedule(),
        num_categories=model.modalities[LABEL].num_labels,
    )
    uniform = hd.training.time_sampling.UniformTimeSampler(
        span=hd.jax_helpers.SafeSpan(safety_epsilon=_TRAIN_MARGIN)
    )
    return Parts(
        process=nested.NestedProcess(processes={IMAGE: gaussian, LABEL: masking}),
        losses=nested.NestedDiffusionLoss(
            losses={
                IMAGE: hd.training.gaussian_loss.NoWeightGaussianLoss(),
                LABEL: hd.training.discrete_loss.NoWeightDiscreteLoss(),
            }
        ),
        times=nested.NestedTimeSampler(samplers={IMAGE: uniform, LABEL: uniform}),
        network=hd.diffusion_network.MultiModalDiffusionNetwork(
            backbone_network=Network(model.backbone, model.modalities[LABEL]),
            conditioning_encoder=Times(),
            prediction_type={IMAGE: "v", LABEL: "logits"},
            data_dtype={IMAGE: jnp.float32, LABEL: jnp.int32},
        ),
        projection=nested.NestedProjectionFn(
            projection_fns={
                IMAGE: hd.inference.projection.StaticThresholdProjectionFn(process=gaussian),
                LABEL: hd.inference.projection.IdentityProjectionFn(),
            }
        ),
    )


@dataclasses.dataclass(frozen=True)
class Early:
    """A time schedule by the library's contract that is over before others are.

    Attributes:
        schedule: whose steps and first times it takes.
        first: the number of the first state whose time is "clean", as are all after it.
    """

    schedule: Any
    first: int

    def all_step_infos(self, rng: jax.Array, num_steps: int, data_spec: jax.Array) -> Any:
        """The schedule's steps, with the time "clean" from state `first` on."""
        steps = self.schedule.all_step_infos(rng, num_steps, data_spec)
        return steps.replace(time=steps.time.at[self.first :].set(_CLEAN))


def _schedule(hd: Any, direction: str) -> Any:
    uniform = hd.sampling.time_scheduling.UniformTimeSchedule()
    schedules = {IMAGE: uniform, LABEL: uniform}
    if direction == JOINT:
        schedules[LABEL] = Early(uniform, first=1)
    else:
        schedules[GIVEN[direction]] = Early(uniform, first=0)
    return hd.multimodal.NestedTimeSchedule(time_schedules=schedules)


def _stepper(hd: Any, process: Any, direction: str) -> Any:
    steps, masking = hd.sampling.discrete_step_sampler, process.processes[LABEL]
    return hd.multimodal.NestedSamplerStep(
        sampler_steps={
            IMAGE: hd.sampling.gaussian_step_sampler.DDIMStep(
                corruption_process=process.processes[IMAGE], stoch_coeff=0.0
            ),
            LABEL: steps.UnMaskingStep(
                corruption_process=masking,
                corruption_mask_fn=steps.MaskValueCorruptedMaskFn(process=masking),
                temperature=_MOST_LIKELY if direction == LABEL_GIVEN_IMAGE else 1.0,
            ),
        }
    )


def arms(**options: Any) -> Arms:
    """The arms of the process of hackable-diffusion."""
    job = job_of(options)
    return arms_of(Hackable(job), job)
