"""A diffusion model of the image alone, by diffusers: its U-Net, its noise and its samplers.

The noise of training has the cosine schedule of 1,000 steps, and the network predicts v, as ours
does. Samples come from the multistep solver in the form that ours has, stochastic and of second
order, with estimates kept within the range of pixels. The times are uniform, as by default: Karras'
grid would spend half of the calls on the last two of the 1,000 steps, whose noise levels the cosine
schedule drives to 640 and 20,000.
"""

import importlib
from typing import Any

import numpy as np

from benchmarks.rivals.job import IMAGE, JOINT, Job, arms_of, job_of, versions_of
from benchmarks.speed.worker import Arms, Unavailable
from mmdiffusion_jax import data

_TRAIN_STEPS = 1000
_GROUPS = 4
_WIDEST = 512


class Ddpm:
    """A U-Net with its scheduler, optimiser and moving average.

    Raises:
        Unavailable: diffusers or PyTorch is not installed.
    """

    directions = (JOINT,)

    def __init__(self, job: Job) -> None:
        diffusers, torch, average = (
            _import(name) for name in ("diffusers", "torch", "diffusers.training_utils")
        )
        built = job.experiment()
        self._torch, self._diffusers = torch, diffusers
        self._options, self._seed = built.training, built.evaluation.seed
        self._latent, self._levels = built.model.backbone.latent, _levels(built)
        self._chunk = built.sampling.batch_size
        torch.manual_seed(built.seed)
        self._net = diffusers.UNet2DModel(**_fields(diffusers, torch, built, job.num_parameters))
        self._noise = diffusers.DDPMScheduler(
            num_train_timesteps=_TRAIN_STEPS,
            beta_schedule="squaredcos_cap_v2",
            prediction_type="v_prediction",
        )
        self._average = average.EMAModel(self._net.parameters(), decay=self._options.ema_decay)
        self._average_net: Any = None
        self._set_optimiser(torch)
        source = data.ArraySource({IMAGE: job.columns()[IMAGE]})
        size = self._options.batch_size
        self._batches = data.train_batches(source, batch_size=size, seed=built.seed)

    def _set_optimiser(self, torch: Any) -> None:
        """AdamW with a decay of matrices alone, a linear warm-up and a cosine, as ours."""
        options, parameters = self._options, list(self._net.parameters())
        groups = [
            {"params": [x for x in parameters if x.ndim > 1], "weight_decay": options.weight_decay},
            {"params": [x for x in parameters if x.ndim <= 1], "weight_decay": 0.0},
        ]
        self._optimiser = torch.optim.AdamW(groups, lr=options.learning_rate)
        # The first step of a schedule by optax has the rate of step 0, which is 0 of a warm-up.
        self._rates = torch.optim.lr_scheduler.LambdaLR(
            self._optimiser, lambda step: rate_of(step, options.warmup_steps, options.num_steps)
        )

    @property
    def num_parameters(self) -> int:
        """How many parameters it trains."""
        return sum(x.numel() for x in self._net.parameters())

    @property
    def versions(self) -> str:
        """Its libraries with their versions."""
        return versions_of("diffusers", "torch")

    def train(self, count: int) -> None:
        """Takes so many steps."""
        torch, self._average_net = self._torch, None
        self._net.train()
        for _ in range(count):
            images = torch.from_numpy(next(self._batches)[IMAGE]).permute(0, 3, 1, 2)
            x = images.float() / 127.5 - 1
            noise = torch.randn_like(x)
            t = torch.randint(0, _TRAIN_STEPS, (len(x),))
            target = self._noise.get_velocity(x, noise, t)
            estimate = self._net(self._noise.add_noise(x, noise, t), t).sample
            loss = torch.nn.functional.mse_loss(estimate, target)
            self._optimiser.zero_grad(set_to_none=True)
            loss.backward()
            torch.nn.utils.clip_grad_norm_(self._net.parameters(), self._options.gradient_clip)
            self._optimiser.step()
            self._rates.step()
            self._average.step(self._net.parameters())

    def draw(self, direction: str, calls: int, given: dict[str, np.ndarray], count: int) -> Any:
        """Images of the averaged parameters; nothing can be given."""
        del direction, given
        torch = self._torch
        net = self._averaged()
        solver = self._diffusers.DPMSolverMultistepScheduler.from_config(
            self._noise.config,
            algorithm_type="sde-dpmsolver++",
            solver_order=2,
            thresholding=True,
            dynamic_thresholding_ratio=1.0,
            sample_max_value=1.0,
        )
        generator = torch.Generator().manual_seed(self._seed)
        height, width, channels = self._latent
        parts = []
        for start in range(0, count, self._chunk):
            shape = (min(self._chunk, count - start), channels, height, width)
            solver.set_timesteps(calls)
            x = torch.randn(shape, generator=generator) * solver.init_noise_sigma
            with torch.no_grad():
                for t in solver.timesteps:
                    estimate = net(solver.scale_model_input(x, t), t).sample
                    x = solver.step(estimate, t, x, generator=generator).prev_sample
            parts.append(x.permute(0, 2, 3, 1).numpy())
        return {IMAGE: pixels_of(np.concatenate(parts), self._levels)}

    def _averaged(self) -> Any:
        if self._average_net is None:
            self._average_net = self._diffusers.UNet2DModel.from_config(self._net.config)
            self._average.copy_to(self._average_net.parameters())
            self._average_net.eval()
        return self._average_net


def _import(name: str) -> Any:
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise Unavailable(f"{name} is not installed ({error})") from error


def pixels_of(values: np.ndarray, num_levels: int) -> np.ndarray:
    """Values in [−1, 1] → the nearest of the data's grey levels, uint8.

    Example:
        >>> pixels_of(np.array([-1.2, 0.0, 1.0]), 3).tolist()
        [0, 128, 255]
    """
    level = np.round(np.clip((values + 1) / 2, 0, 1) * (num_levels - 1))
    return np.round(level * (255 / (num_levels - 1))).astype(np.uint8)


def rate_of(step: int, warmup_steps: int, num_steps: int) -> float:
    """The learning rate of a step over its peak: linear from 0, then along a cosine to 0.

    Example:
        >>> [round(rate_of(step, 10, 110), 3) for step in (0, 5, 10, 60, 110)]
        [0.0, 0.5, 1.0, 0.5, 0.0]
    """
    warmup_steps = min(warmup_steps, num_steps - 1)
    if step < warmup_steps:
        return step / warmup_steps
    share = min(1.0, (step - warmup_steps) / (num_steps - warmup_steps))
    return float((1 + np.cos(np.pi * share)) / 2)


def _levels(built: Any) -> int:
    return built.settings.modalities[IMAGE]["num_levels"]


def _fields(diffusers: Any, torch: Any, built: Any, num_parameters: int) -> dict[str, Any]:
    """The fields of the U-Net that has about so many parameters.

    It has the levels of our backbone where that is a U-Net, else two.
    """
    ours = built.settings.backbone
    is_unet = ours["kind"] == "unet"
    mults = ours["channel_mults"] if is_unet else (1, 2)
    rows, _, channels = built.model.backbone.latent
    attending = ours["attention_resolutions"] if is_unet else (rows // 2,)
    attends = [rows >> level in attending for level in range(len(mults))]

    def fields(width: int) -> dict[str, Any]:
        return {
            "sample_size": tuple(built.model.backbone.latent[:2]),
            "in_channels": channels,
            "out_channels": channels,
            "layers_per_block": ours["num_res_blocks"] if is_unet else 1,
            "block_out_channels": tuple(int(mult * width) for mult in mults),
            "down_block_types": tuple("AttnDownBlock2D" if a else "DownBlock2D" for a in attends),
            "up_block_types": tuple("AttnUpBlock2D" if a else "UpBlock2D" for a in attends[::-1]),
            "norm_num_groups": _GROUPS,
        }

    def distance(width: int) -> int:
        with torch.device("meta"):
            net = diffusers.UNet2DModel(**fields(width))
        return abs(sum(x.numel() for x in net.parameters()) - num_parameters)

    best = nearest_width(distance)
    return fields(best)


def nearest_width(distance: Any) -> int:
    """The multiple of the groups whose distance is least; distances fall, then rise.

    Example:
        >>> nearest_width(lambda width: abs(width - 30.5))
        32
    """
    widths = range(_GROUPS, _WIDEST, _GROUPS)
    best, least = widths[0], distance(widths[0])
    for width in widths[1:]:
        away = distance(width)
        if away > least:
            break
        best, least = width, away
    return best


def arms(**options: Any) -> Arms:
    """The arms of the process of diffusers."""
    job = job_of(options)
    return arms_of(Ddpm(job), job)
