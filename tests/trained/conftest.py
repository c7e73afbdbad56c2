"""The finished run of the launch scripts' tests, opened from Python."""

import pytest

import mmdiffusion_jax as mm
from tests.apps.conftest import finished

__all__ = ["finished", "model"]


@pytest.fixture(scope="session")
def model(finished):
    return mm.load(finished)
