"""Street scenes and their segmentation masks, generated jointly and from each other.

Published form: Cityscapes at 64 × 128, its 34 classes, unlabelled among them, with the U-Net
of ADM on a cluster. It was never run by us. Prepare the data with

    python launch/prepare.py --dataset=cityscapes/semantic_segmentation --size=64,128 \
        --images=image:image_left --masks=mask:segmentation_label --out=data

Form `small`: CamVid at 48 × 64, two cores, minutes a run, tested on the frames of a sequence that
is not in the training split; docs/results.md has what came out.

    python launch/train.py --config=configs/image_segmentation.py:small --config.data.path=DATA \
        --workdir=W

Form `long`: the same for half an hour and more.

Form `few`: the same with the masks of 37 of the 367 training frames alone, against a segmenter of
the same frames, with as many operations:

    python launch/compare.py --config=configs/image_segmentation.py:few --config.data.path=DATA \
        --workdir=W --arms=multi,predict --budgets=flops
"""

from ml_collections import ConfigDict

from configs import common


def get_config(form: str = "published") -> ConfigDict:
    forms = {"published": _published, "small": _small, "few": _few}
    forms["long"] = lambda: common.long(_small(), 100_000)
    return common.choose(forms, form)


def _published() -> ConfigDict:
    config = common.published()
    config.data.folder = "data/cityscapes_64x128/1.0.0"
    config.data.test = "validation"
    config.latent = (64, 128, 3)
    config.training.num_steps = 100_000
    config.training.batch_size = 256
    config.evaluation.num_samples = 5000
    _add_modalities(config, {"num_classes": 34})
    return config


def _small() -> ConfigDict:
    config = common.small_camvid()
    _add_modalities(config, {"num_classes": 11, "void": 11, "palette": "camvid"})
    return config


def _few() -> ConfigDict:
    config = _small()
    common.keep_few(config, "mask", 37)
    common.learn_from_few(config, "mask", rate=5.0)
    return config


def _add_modalities(config: ConfigDict, mask: dict) -> None:
    config.modalities = ConfigDict(
        {"image": {"kind": "image"}, "mask": {"kind": "segmentation", **mask}}
    )
    common.weigh_secondaries(config, scale=0.3)
    # Segmenting needs as many examples as generating; with the default mix the mean IoU of masks
    # of given images was 0.27 in place of 0.30 in the small form, by AdamW.
    config.loss.tasks = ConfigDict({"image, mask": 0.1, "image | mask": 0.4, "mask | image": 0.5})
