"""The modalities, one file each: encoder, decoder head, likelihood, picture and figures."""

from collections.abc import Mapping

from mmdiffusion_jax.modalities.audio import Audio
from mmdiffusion_jax.modalities.base import ColumnEncoder, Features, Modality
from mmdiffusion_jax.modalities.embedding import Embedding
from mmdiffusion_jax.modalities.image import Image
from mmdiffusion_jax.modalities.judging import FeatureNetwork, Measure, Networks
from mmdiffusion_jax.modalities.label import Label
from mmdiffusion_jax.modalities.latent_image import Autoencoder, LatentImage, load_autoencoder
from mmdiffusion_jax.modalities.masked_image import MaskedImage, random_squares, restored
from mmdiffusion_jax.modalities.segmentation import Segmentation
from mmdiffusion_jax.modalities.tokens import Tokens

MODALITIES: Mapping[str, type[Modality]] = {
    "image": Image,
    "label": Label,
    "latent_image": LatentImage,
    "masked_image": MaskedImage,
    "segmentation": Segmentation,
    "embedding": Embedding,
    "audio": Audio,
    "tokens": Tokens,
}
"""The kinds of modality by the names that configs know them by."""

__all__ = [
    "MODALITIES",
    "Audio",
    "Autoencoder",
    "ColumnEncoder",
    "Embedding",
    "FeatureNetwork",
    "Features",
    "Image",
    "Label",
    "LatentImage",
    "MaskedImage",
    "Measure",
    "Modality",
    "Networks",
    "Segmentation",
    "Tokens",
    "load_autoencoder",
    "random_squares",
    "restored",
]
