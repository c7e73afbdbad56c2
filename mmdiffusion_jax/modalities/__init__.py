"""The modalities, one file each: encoder, decoder head, likelihood and picture."""

from collections.abc import Mapping

from mmdiffusion_jax.modalities.base import Features, Modality
from mmdiffusion_jax.modalities.image import Image
from mmdiffusion_jax.modalities.label import Label

MODALITIES: Mapping[str, type[Modality]] = {"image": Image, "label": Label}
"""The kinds of modality by the names that configs know them by."""

__all__ = ["MODALITIES", "Features", "Image", "Label", "Modality"]
