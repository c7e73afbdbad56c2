"""Images and an embedding of them, generated jointly and from each other.

Published form: 64 × 64 images with their CLIP embeddings of 512 numbers, with the U-Net of ADM on a
cluster. It was never run by us. The data are `train.npz` and `test.npz` with arrays `image` and
`embedding`; docs/data.md says how to write them.

Form `small`: Fashion-MNIST at 16 × 16 with the 128 features of a small classifier as the embedding,
two cores, minutes a run; docs/results.md has what came out.

    python launch/fit_features.py --data=fashion_mnist --path=DATA --size=16,16 \
        --out=embedder.safetensors
    python launch/train.py --config=configs/image_embedding.py:small --config.data.path=DATA \
        --config.data.embedder=embedder.safetensors --workdir=W

Form `long`: the same for half an hour and more.

Form `cifar`: CIFAR-10 at 32 × 32 with the 1,280 features of EfficientNet, a network of natural
images as CLIP is. The first run computes them, some 15 minutes for its 30,000 images, and keeps
them in `data/embeddings`.

    python launch/train.py --config=configs/image_embedding.py:cifar --config.data.path=DATA \
        --workdir=W
"""

from ml_collections import ConfigDict

from configs import common


def get_config(form: str = "published") -> ConfigDict:
    forms = {"published": _published, "small": _small, "cifar": _cifar}
    forms["long"] = lambda: common.long(_small(), 50_000)
    return common.choose(forms, form)


def _published() -> ConfigDict:
    config = common.published()
    config.data.source = "npz"
    config.data.train, config.data.test = "train.npz", "test.npz"
    _add_modalities(config, dims=512, grid=(8, 8))
    return config


def _small() -> ConfigDict:
    config = common.small_fashion(16)
    config.data.embedder = "embedder.safetensors"
    _add_modalities(config, dims=128, grid=(4, 4))
    return config


def _cifar() -> ConfigDict:
    config = common.small_cifar(num_steps=4000)
    config.data.embedder = "efficientnet"
    # No projection to fewer numbers: the encoder learns one, and the cosine is of any number.
    _add_modalities(config, dims=1280, grid=(8, 8))
    return config


def _add_modalities(config: ConfigDict, dims: int, grid: tuple[int, int]) -> None:
    """Images are drawn before embeddings: an embedding from its own marginal is of no image.

    By AdamW, joint samples of the form `small` had a Fréchet distance of 12.2 ± 3.1 in this order
    and of 92.3 ± 12.1 in the other, and cosines of 0.92 and 0.61 (three seeds).
    """
    embedding = {"kind": "embedding", "dims": dims, "head_kind": "cosine", "grid": grid}
    config.modalities = ConfigDict({"image": {"kind": "image"}, "embedding": embedding})
    common.weigh_secondaries(config)
    # None; above 1 it is amplified.
    config.sampling.guidance = ConfigDict({"embedding": 1.0})
    # Where heads guide, as in the formulation that shows nothing, their gradients overshoot.
    config.sampling.guidance_limit = 0.3
