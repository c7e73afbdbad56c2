"""Images and their class labels, generated jointly and from each other.

Published form: ImageNet 64 × 64 with the U-Net of ADM, on a cluster (ADM's own run: 540,000 steps
of 2,048 images). It was never run by us.

Form `small`: Fashion-MNIST at 16 × 16, two cores, minutes a run; docs/results.md has what came out.

    python launch/train.py --config=configs/image_label.py:small --config.data.path=DATA \
        --workdir=W

Form `small_labels`: the same with more of the examples for labels of given images, and more weight.

Form `cifar`: the same on CIFAR-10 at 32 × 32. Form `cifar_gpu`: with a larger network, for one GPU.

Form `long`: `small_labels` for half an hour and more.

Forms `few_5`, `few_50` and `few_500`: the labels of so many images a class alone, 3,000 steps,
against a classifier of the same images, with as many operations:

    python launch/compare.py --config=configs/image_label.py:few_50 --config.data.path=DATA \
        --workdir=W --arms=multi,predict --budgets=flops
"""

import functools

from ml_collections import ConfigDict

from configs import common


def get_config(form: str = "published") -> ConfigDict:
    few = {f"few_{count}": functools.partial(_few, count) for count in (5, 50, 500)}
    forms = {"published": _published, "small": _small, "small_labels": _small_labels}
    forms |= {"cifar": _cifar, "cifar_gpu": _cifar_gpu}
    forms["long"] = lambda: common.long(_small_labels(), 50_000)
    return common.choose({**forms, **few}, form)


def _published() -> ConfigDict:
    config = common.published()
    config.data.folder = "data/imagenet_resized/64x64/0.1.0"
    config.data.test = "validation"
    _add_modalities(config, num_classes=1000, grid=(8, 8))
    return config


def _small() -> ConfigDict:
    config = common.small_fashion(16)
    _add_modalities(config, num_classes=10, grid=(4, 4))
    return config


def _cifar() -> ConfigDict:
    config = common.small_cifar(num_steps=6000)
    _add_modalities(config, num_classes=10, grid=(4, 4))
    return config


def _cifar_gpu() -> ConfigDict:
    config = common.gpu_cifar()
    _add_modalities(config, num_classes=10, grid=(8, 8))
    return config


def _small_labels() -> ConfigDict:
    config = _small()
    config.loss.tasks = ConfigDict(
        {"image, label": 0.05, "label": 0.05, "image | label": 0.45, "label | image": 0.5}
    )
    config.loss.scales.label = 0.2
    return config


def _few(count: int) -> ConfigDict:
    config = _small()
    common.keep_few(config, "label", 10 * count)
    # Most examples ask for both: the head reads the label off states of every noise level, by
    # layers that all images have taught to tell what is in them. Few labels are overfitted where
    # they are asked for as often, and weigh as much, as many.
    shares, scale = ((0.35, 0.15, 0.5), 0.1) if count > 100 else ((0.45, 0.35, 0.2), 0.01)
    tasks = ("image, label", "image | label", "label | image")
    config.loss.tasks = ConfigDict(dict(zip(tasks, shares, strict=True)))
    config.loss.scales.label = scale
    config.training.num_steps = 3000
    return config


def _add_modalities(config: ConfigDict, num_classes: int, grid: tuple[int, int]) -> None:
    """Labels are drawn before images: the other way about, images come from no label.

    By AdamW and without `primary_as_state`, joint samples of the form `small` had a Fréchet
    distance of 5.1 and an agreement of 0.808 in this order, 15.1 and 0.664 in the other (one seed,
    1,500 steps).
    """
    label = {"kind": "label", "num_classes": num_classes, "grid": grid}
    config.modalities = ConfigDict({"image": {"kind": "image"}, "label": label})
    common.weigh_secondaries(config)
    # Of the labels of given images 0.816 were right in place of 0.799, three seeds of `small`.
    config.primary_as_state = True
    # None; 1.5 makes images that are of their label more surely and vary less, see docs/results.md.
    config.sampling.guidance = ConfigDict({"label": 1.0})
