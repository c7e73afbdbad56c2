"""Emulated stores, one of each kind for a process of tests."""

import contextlib
import itertools
import os

import pytest

from tests.apps.conftest import finished
from tests.cloud.stores import Store
from tests.faults.conftest import unharmed

__all__ = ["finished", "unharmed"]

pytest.importorskip("gcsfs")
pytest.importorskip("s3fs")
pytest.importorskip("moto")
pytest.importorskip("gcp_storage_emulator")

_NAMES = itertools.count()


@pytest.fixture(scope="session")
def stores():
    """{scheme: a store}."""
    with contextlib.ExitStack() as stack:
        opened = {}
        for scheme in ("gs", "s3"):
            opened[scheme] = stack.enter_context(contextlib.closing(Store(scheme)))
            # For the libraries in this process, which read it when they are first used.
            os.environ.update(opened[scheme].environment)
        yield opened


@pytest.fixture(params=["gs", "s3"])
def store(request, stores):
    return stores[request.param]


@pytest.fixture
def place(store):
    """A folder in the bucket that nothing else uses."""
    return store.place(f"tests/{next(_NAMES)}")
