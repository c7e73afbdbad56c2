"""What the configs of the five settings have in common; no config itself."""

from collections.abc import Callable, Mapping

from ml_collections import ConfigDict

from mmdiffusion_jax import errors, experiment
from mmdiffusion_jax.networks import ADM_IMAGENET_64


def choose(forms: Mapping[str, Callable[[], ConfigDict]], form: str) -> ConfigDict:
    """The config of one form, as `--config=configs/NAME.py:FORM` names it.

    Raises:
        ValueError: an unknown form.
    """
    if form not in forms:
        raise errors.unknown("config form", form, forms)
    return forms[form]()


def published() -> ConfigDict:
    """64 × 64 colour images and the U-Net of ADM, for a cluster."""
    config = experiment.default_config()
    config.data.source = "tfds"
    config.latent = (64, 64, 3)
    config.process.num_steps = 1000
    config.process.variance = "learned"
    config.backbone = ConfigDict(
        {"kind": "unet", **ADM_IMAGENET_64, "dtype": "bfloat16", "remat": "none"}
    )
    config.training.num_steps = 540_000
    # ADM's own run had Adam; Muon paid in the small forms (docs/results.md).
    config.training.optimiser = "muon"
    config.training.batch_size = 2048
    config.training.learning_rate = 3e-4
    config.training.warmup_steps = 5000
    config.training.weight_decay = 0.0
    config.training.ema_decay = 0.9999
    config.training.eval_every = config.training.sample_every = 10_000
    config.training.checkpoint_every = 10_000
    config.sampling.sampler = "dpm_solver_pp_2m_sde"
    config.sampling.num_steps = 50
    config.sampling.batch_size = 256
    config.evaluation.num_samples = 50_000
    config.evaluation.num_scored = 0
    config.evaluation.features = "efficientnet"
    return config


def small(latent: tuple[int, int, int], num_steps: int) -> ConfigDict:
    """A run of minutes on two cores, with a small U-Net: it learns more in them than transformers.

    Args:
        latent: of the images; above 16 rows the network sees patches of 2 × 2 pixels. Its highest
            level then has twice the channels, as each place has four times the values.
        num_steps: of training.
    """
    has_patches = latent[0] > 16
    config = experiment.default_config()
    config.latent = latent
    config.process.num_steps = 100
    config.process.target = "v"
    config.backbone = ConfigDict(
        {
            "kind": "unet",
            "patch_size": 2 if has_patches else 1,
            "width": 32 if has_patches else 16,
            "channel_mults": (1, 1, 1) if has_patches else (1, 2, 2),
            "skip_filters": 4 if has_patches else 0,
            "num_res_blocks": 1,
            "attention_resolutions": (8,),
            "num_head_channels": 32,
            "num_groups": 8,
        }
    )
    config.training.num_steps = num_steps
    config.training.optimiser = "muon"
    config.training.batch_size = 32
    config.training.warmup_steps = 100
    config.training.log_every = 50
    config.training.eval_every = config.training.sample_every = 0
    config.training.checkpoint_every = 500
    config.sampling.sampler = "dpm_solver_pp_2m_sde"
    config.sampling.num_steps = 20
    config.evaluation.num_samples = 1000
    config.evaluation.num_scored = 0
    config.evaluation.features = "classifier"
    return config


def long(small_config: ConfigDict, num_steps: int) -> ConfigDict:
    """The same model and data for half an hour and more on two cores, in place of minutes."""
    small_config.training.num_steps = num_steps
    small_config.training.warmup_steps = 1000
    small_config.training.log_every = 500
    small_config.training.checkpoint_every = 5000
    return small_config


def small_fashion(side: int) -> ConfigDict:
    """Fashion-MNIST at `side` × `side`, from the folder `data.path`."""
    num_steps, batch_size = (3500, 16) if side > 16 else (1500, 32)
    config = small((side, side, 1), num_steps)
    config.data.source = "fashion_mnist"
    config.data.size = (side, side)
    config.training.batch_size = batch_size
    return config


def small_cifar(num_steps: int) -> ConfigDict:
    """CIFAR-10 at 32 × 32."""
    config = small((32, 32, 3), num_steps)
    config.data.source = "cifar10"
    config.data.size = (32, 32)
    config.evaluation.features = "efficientnet"
    return config


def gpu_cifar() -> ConfigDict:
    """CIFAR-10 at 32 × 32 with a U-Net of the size of DDPM's, for minutes on one GPU.

    `benchmarks/gpu.sh` trains it for the time that is left and sets the number of steps.
    """
    config = small_cifar(num_steps=12_000)
    config.backbone = ConfigDict(
        {
            "kind": "unet",
            "width": 128,
            "channel_mults": (1, 2, 2),
            "num_res_blocks": 2,
            "attention_resolutions": (16,),
            "num_head_channels": 64,
            "num_groups": 32,
            "dtype": "bfloat16",
        }
    )
    config.data.mirrored = ("image",)
    config.training.batch_size = 256
    config.training.learning_rate = 1e-3
    config.training.warmup_steps = 500
    config.training.ema_decay = 0.9995
    config.training.checkpoint_every = 5000
    config.sampling.batch_size = 500
    config.evaluation.num_samples = 2000
    return config


def small_camvid() -> ConfigDict:
    """CamVid at 48 × 64, tested on a sequence that training does not see."""
    config = small((48, 64, 3), num_steps=4000)
    config.data.source = "camvid"
    config.data.size = (48, 64)
    config.data.test = "test_unseen"
    config.data.mirrored = ("image", "mask")
    # In the middle alone: maps of 24 and of 12 rows have many places.
    config.backbone.attention_resolutions = ()
    config.training.batch_size = 4
    config.evaluation.num_samples = config.sampling.batch_size = 171
    config.evaluation.features = "efficientnet"
    config.sampling.read_noise = 0.3
    return config


def weigh_secondaries(config: ConfigDict, scale: float = 0.03, dropout: float = 0.2) -> None:
    """Gives every secondary modality its weight in the states, its λ and its dropout.

    Where there are labels or embeddings, their heads also read the smallest map of the U-Net. The
    numbers were chosen on one seed; docs/results.md has the figures of others.

    Args:
        config: with its modalities; changed in place.
        scale: λ of every secondary.
        dropout: the share of examples whose state leaves it out, or in which it is hidden though
            known.
    """
    others = [name for name in config.modalities if name != config.primary]
    config.process.weights = ConfigDict({n: {"rule": "bump", "scale": 0.5} for n in others})
    config.loss.scales = ConfigDict({config.primary: 0.001, **dict.fromkeys(others, scale)})
    config.loss.dropout = ConfigDict(dict.fromkeys(others, dropout))
    kinds = {modality.kind for modality in config.modalities.values()}
    config.backbone.bottleneck_features = not kinds.isdisjoint({"label", "embedding"})


def keep_few(config: ConfigDict, name: str, count: int) -> None:
    """Only `count` training examples keep a secondary, and four in ten of a batch have it.

    Without `data.portions` a batch would hold hardly any of them, where a specialist, which trains
    on nothing else, has its batches full of them.
    """
    config.data.kept = ConfigDict({name: count})
    config.data.portions = ConfigDict({name: 0.4})


def learn_from_few(config: ConfigDict, name: str, rate: float) -> None:
    """What is learned of a secondary that few examples have, without overfitting these.

    Few images alone would teach the network what is shown; as noisy views of what is asked for, all
    of them do. Images without the secondary learn with the one that the model draws itself.

    Args:
        config: with its modalities; changed in place.
        name: of the secondary.
        rate: of the task that asks for it, beside 0.55 of those that ask for the image. Examples
            without it draw none but these.
    """
    image = config.primary
    config.loss.tasks = ConfigDict(
        {f"{image} | {image}": 0.2, f"{image} | {name}": 0.35, f"{name} | {image}": rate}
    )
    config.loss.believed = (name,)
