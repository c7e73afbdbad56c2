"""Our side: forward, sampler step and train step, as a config builds them."""

from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from benchmarks.speed import sizes
from benchmarks.speed.flops import forward_flops
from benchmarks.speed.worker import Arms
from mmdiffusion_jax import experiment, sampling, training
from mmdiffusion_jax.model import Diffusion, all_carried


def config_of(size: Mapping[str, Any], secondaries: Mapping[str, Any] | None = None) -> ConfigDict:
    """The experiment of a size, with light modalities beside the image if so wished."""
    fields = {name: value for name, value in size.items() if name not in ("latent", "batch")}
    if fields["kind"] == "dit":
        fields |= {"frequencies": 256, "positions": "sincos"}
    config = experiment.default_config()
    config.latent = tuple(size["latent"])
    config.modalities = ConfigDict({"image": {"kind": "latent_image"}, **(secondaries or {})})
    config.process.num_steps = sizes.NUM_STEPS
    config.process.schedule = "linear"
    config.process.weights = ConfigDict(
        {name: {"rule": "bump", "scale": 1.0} for name in secondaries or {}}
    )
    config.loss.scales = ConfigDict({"image": sizes.IMAGE_SCALE})
    config.backbone = ConfigDict(
        {name: tuple(x) if isinstance(x, list) else x for name, x in fields.items()}
    )
    config.training.batch_size = size["batch"]
    config.training.learning_rate = sizes.LEARNING_RATE
    config.training.warmup_steps = sizes.WARMUP_STEPS
    config.training.num_steps = sizes.TRAINING_STEPS
    config.training.weight_decay = sizes.WEIGHT_DECAY
    config.training.gradient_clip = sizes.GRADIENT_CLIP
    config.training.ema_decay = sizes.EMA_DECAY
    return config


def arms(size: Mapping[str, Any]) -> Arms:
    """Forward of a batch, a walk of `SAMPLER_STEPS` DDIM steps, and the train step."""
    built = experiment.build(config_of(size))
    stepper = TrainStep(built, random_batch(built))
    shape = (size["batch"], *size["latent"])
    params = jax.tree.map(jnp.copy, stepper.state.params)
    z, t = jnp.ones(shape), jnp.full(shape[:1], sizes.NUM_STEPS // 2)
    forward, walk = jax.jit(forward_of(built)), jax.jit(walk_of(built, shape))
    key = jax.random.key(0)

    def take_forward(count: int) -> None:
        for _ in range(count):
            jax.block_until_ready(forward(params, z, t))

    def take_walk(count: int) -> None:
        for _ in range(count):
            jax.block_until_ready(walk(params, key, z))

    return {
        "forward": take_forward,
        "sampler": take_walk,
        "train": stepper,
        "memory": lambda _: stepper.temporaries(),
        "peak": lambda _: (jax.devices()[0].memory_stats() or {}).get("peak_bytes_in_use", 0),
        "device": lambda _: jax.devices()[0].device_kind,
        "flops": lambda _: size["batch"] * forward_flops(built.model.backbone),
    }


def counted(size: Mapping[str, Any]) -> Arms:
    """Operations of one forward pass of a batch: as compiled, and by the formula."""
    built = experiment.build(config_of(size))
    shape = (size["batch"], *size["latent"])
    params = jax.eval_shape(built.init, jax.random.key(0))
    states = jax.ShapeDtypeStruct(shape, jnp.float32), jax.ShapeDtypeStruct(shape[:1], jnp.int32)

    def compiled(count: int) -> float:
        del count
        program = jax.jit(forward_of(built)).lower(params, *states).compile()
        return float((program.cost_analysis() or {})["flops"])

    return {
        "compiled": compiled,
        "analytic": lambda _: size["batch"] * forward_flops(built.model.backbone),
    }


def with_modalities(size: Mapping[str, Any], counts: Sequence[int]) -> Arms:
    """The train step with so many light modalities beside the image, an arm each."""
    steps = {}
    for count in counts:
        built = experiment.build(config_of(size, light_modalities(count)))
        steps[str(count)] = TrainStep(built, random_batch(built))
    return steps


def light_modalities(count: int) -> dict[str, dict[str, Any]]:
    """Labels of 10 and of 100 classes and embeddings of 64 and of 128 dimensions, in turns."""
    kinds = (
        {"kind": "label", "num_classes": 10},
        {"kind": "embedding", "dims": 64},
        {"kind": "label", "num_classes": 100},
        {"kind": "embedding", "dims": 128, "head_kind": "cosine"},
    )
    return {f"light_{index}": dict(kinds[index % len(kinds)]) for index in range(count)}


def forward_of(built: experiment.Experiment) -> Any:
    """(parameters, z_t, t) → the backbone's prediction."""

    def forward(params: Any, z: jax.Array, t: jax.Array) -> jax.Array:
        return built.model.functions(params).predict(z, t).value

    return forward


def walk_of(built: experiment.Experiment, shape: tuple[int, ...]) -> Any:
    """(parameters, key, z_T) → the state after `SAMPLER_STEPS` steps of DDIM."""
    times = sampling.uniform_grid(built.process.schedule, sizes.SAMPLER_STEPS + 1)
    route = sampling.plan(built.process, times)

    def walk(params: Any, key: jax.Array, start: jax.Array) -> jax.Array:
        diffusion = Diffusion(built.process, built.model.functions(params))
        query = sampling.Query(diffusion, {}, {})
        denoiser = sampling.with_given(sampling.plain_denoiser(query), query)
        keys, roles = jax.random.split(key, shape[0]), all_carried(built.model.modalities, shape[0])
        return sampling.run_stepper(denoiser, sampling.Method("ddim"), route, start, keys, roles)

    return walk


class TrainStep:
    """The compiled step of an experiment on one batch that stays on the devices."""

    def __init__(self, built: experiment.Experiment, batch: Mapping[str, np.ndarray]) -> None:
        mesh = training.make_mesh()
        layout = training.batch_sharding(mesh, built.training.batch_size)
        self.step, self.state = experiment.make_step_and_state(built, mesh)
        self.batch = jax.device_put(dict(batch), layout)

    def __call__(self, count: int) -> None:
        """Takes so many steps."""
        for _ in range(count):
            self.state, _ = self.step(self.state, self.batch)
        jax.block_until_ready(self.state)

    def temporaries(self) -> int:
        """Bytes that the compiled step holds beside its state and its batch."""
        lowered = self.step.lower(self.state, self.batch)  # type: ignore[attr-defined]
        return int(lowered.compile().memory_analysis().temp_size_in_bytes)


def random_batch(built: experiment.Experiment) -> dict[str, np.ndarray]:
    """One batch of every modality, of the shapes and kinds that it asks for."""
    draws = np.random.default_rng(0)
    batch = {}
    for name, modality in built.model.modalities.items():
        shape, kind = modality.columns
        full = (built.training.batch_size, *shape)
        batch[name] = (
            draws.integers(0, 2, full).astype(np.int32)
            if kind == "integer"
            else draws.normal(size=full).astype(np.float32)
        )
    return batch
