"""Images and masked images in one model: it generates images and fills in black squares.

Published form: masked-image pretraining at the scale of ImageNet 64 × 64 with the U-Net of ADM, on
a cluster (ADM's own run: 540,000 steps of 2,048 images). It was never run by us.

Form `small`: Fashion-MNIST at 32 × 32, two cores, minutes a run; docs/results.md has what came out.

    python launch/train.py --config=configs/masked_image.py:small --config.data.path=DATA \
        --workdir=W

Form `long`: the same for half an hour and more. Form `cifar`: CIFAR-10 at 32 × 32, half an hour on
a core. Form `cifar_gpu`: the same with a larger network, for one GPU.
"""

from ml_collections import ConfigDict

from configs import common


def get_config(form: str = "published") -> ConfigDict:
    forms = {"published": _published, "small": _small}
    forms |= {"cifar": _cifar, "cifar_gpu": _cifar_gpu}
    forms["long"] = lambda: common.long(_small(), 80_000)
    return common.choose(forms, form)


def _published() -> ConfigDict:
    config = common.published()
    config.data.folder = "data/imagenet_resized/64x64/0.1.0"
    config.data.test = "validation"
    _add_modalities(config, num_squares=4, square_size=16)
    return config


def _small() -> ConfigDict:
    config = common.small_fashion(32)
    _add_modalities(config, num_squares=3, square_size=10)
    return config


def _cifar() -> ConfigDict:
    config = common.small_cifar(num_steps=12_000)
    config.data.mirrored = ("image",)
    _add_modalities(config, num_squares=3, square_size=10)
    return config


def _cifar_gpu() -> ConfigDict:
    config = common.gpu_cifar()
    _add_modalities(config, num_squares=3, square_size=10)
    return config


def _add_modalities(config: ConfigDict, num_squares: int, square_size: int) -> None:
    config.modalities = ConfigDict(
        {
            "image": {"kind": "image"},
            "masked_image": {
                "kind": "masked_image",
                "num_squares": num_squares,
                "square_size": square_size,
            },
        }
    )
    common.weigh_secondaries(config)
    # Where heads guide, as in the formulation that shows nothing, their gradients overshoot.
    config.sampling.guidance_limit = 0.2
    # A restoration by one call, `--num_steps=1`, is a mean; it is learned where nothing but noise
    # is left of the image.
    config.loss.pure_noise = 0.3
