"""Kills at writes that nobody chose, in buckets: `make campaign`."""

import collections
import random

import pytest

from mmdiffusion_jax import files
from tests.cloud import lives
from tests.faults import outcomes

pytestmark = pytest.mark.campaign


@pytest.mark.parametrize("scheme", ["gs", "s3"])
def test_twenty_kills_in_a_bucket_lose_nothing(unharmed, stores, tmp_path, scheme):
    store, draw, killed = stores[scheme], random.Random(scheme), collections.Counter()
    while killed.total() < 20:
        place = store.place(f"campaign/{len(killed)}")
        killed[place] = lives.harass(store, place, tmp_path / "log", draw, 8)
        assert outcomes.differences(lives.outcome(place), unharmed) == []
        assert not files.to_path(f"{place}/lock").exists()
    print(f"{scheme}: {killed.total()} kills in {len(killed)} runs")
