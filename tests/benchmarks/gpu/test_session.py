"""What needs no GPU of a session on one: its order, its pages, and all of it at toy size."""

import dataclasses
import json
import subprocess
import time
from pathlib import Path

import pytest

from benchmarks.gpu import sections
from benchmarks.gpu import session as sessions
from benchmarks.speed import sizes
from benchmarks.speed.ours import config_of
from benchmarks.speed.worker import Unavailable
from mmdiffusion_jax import networks, training

ROOT = Path(__file__).parents[3]


@pytest.fixture
def session(tmp_path):
    return sections.Session(sections.TOY, time.monotonic() + 600, None, tmp_path)


@pytest.mark.parametrize(
    ("device", "peak"),
    [
        ("NVIDIA A100-SXM4-80GB", 312e12),
        ("NVIDIA H100 80GB HBM3", 989.4e12),
        ("NVIDIA H100 PCIe", 756e12),
        ("NVIDIA H200", 989.4e12),
        ("NVIDIA L40S", 362e12),
        ("NVIDIA L4", 121e12),
        ("NVIDIA GeForce RTX 4090", 165.2e12),
    ],
)
def test_the_peak_is_that_of_the_device_and_not_of_one_with_a_name_within_its_own(device, peak):
    assert training.peak_flops(device) == peak


def test_a_device_without_a_known_peak():
    assert training.peak_flops("NVIDIA L400") is None


@pytest.mark.parametrize(
    ("name", "published"),
    [
        ("DiT-L/2", networks.DIT_SIZES["L"]),
        ("DiT-XL/2", networks.DIT_SIZES["XL"]),
        ("U-ViT-L/2", networks.UVIT_SIZES["L"]),
        ("ADM-64", networks.ADM_IMAGENET_64),
    ],
)
def test_the_networks_are_the_published_ones(name, published):
    built = config_of(sizes.GPU[name]).backbone
    assert {field: built[field] for field in published} == dict(published)


def test_utilisation_is_one_at_the_peak():
    peak = training.peak_flops("NVIDIA A100-SXM4-40GB")
    assert sections.model_flops_utilisation(3 * peak, 3.0, peak) == 1
    assert sections.model_flops_utilisation(peak, 4.0, peak) == 0.25


def test_what_is_there_is_kept_when_a_section_breaks(session, monkeypatch, capsys):
    def counted(session):
        """Counts."""
        yield {"apples": 1, "pears": 0.123456}
        yield {"apples": 2, "pears": "none"}
        yield {"plums": 3}

    def breaks(session):
        """Breaks."""
        yield {"one": 1}
        raise RuntimeError("it broke:\nits last words")

    def refuses(session):
        """Refuses."""
        raise Unavailable("there is no moon")
        yield

    replaced = {"counted": counted, "breaks": breaks, "refuses": refuses}
    monkeypatch.setattr(sections, "SECTIONS", replaced)
    broken = sessions.run(session, list(replaced))
    assert broken == {"breaks": "it broke:\nits last words"}
    text = (session.out / "gpu.md").read_text()
    assert "| apples | pears |\n|---|---|\n| 1 | 0.1235 |\n| 2 | none |\n\n| plums |" in text
    assert "| one |\n|---|\n| 1 |" in text
    assert "It broke: its last words" in text
    assert "Left out: there is no moon." in text
    assert capsys.readouterr().out.strip() == text.strip()
    figures = json.loads((session.out / "gpu.json").read_text())
    assert figures["counted"][0] == {"apples": 1, "pears": 0.123456}


def test_when_the_minutes_are_over_nothing_more_is_begun(session, monkeypatch):
    def never(session):
        """Never."""
        raise AssertionError
        yield

    monkeypatch.setattr(sections, "SECTIONS", {"never": never})
    late = sections.Session(session.plan, time.monotonic() - 1, None, session.out)
    assert sessions.run(late, ["never"]) == {}
    assert "No time was left." in (session.out / "gpu.md").read_text()
    hurried = sections.Session(session.plan, time.monotonic() + 1, None, session.out)
    assert {line["batch"] for line in sections.networks(hurried)} == {"no time was left"}
    assert [line["config"] for line in sections.trainings(session)] == ["no --data"]


def test_the_script_names_the_packages_that_it_may_need():
    listed = subprocess.run(
        ["benchmarks/gpu.sh", "--list"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    packages = (ROOT / "setup.py").read_text()
    names = set(listed.stdout.split())
    assert {"grain", "ml-collections", "array-record"} <= names
    # What one of the others needs.
    assert [
        name
        for name in names - {"portpicker"}
        if f'"{name.replace("-", "_")}' not in packages and f'"{name}' not in packages
    ] == []


@pytest.mark.long
def test_all_of_it_at_toy_size(session):
    """But for the trainings, and with one of the networks."""
    plan = dataclasses.replace(sections.TOY, networks={"DiT-L/2": sections.TOY.networks["DiT-L/2"]})
    session = dataclasses.replace(session, plan=plan)
    names = ["parity", "ceilings", "networks", "modalities", "stalls"]
    assert sessions.run(session, names) == {}
    figures = json.loads((session.out / "gpu.json").read_text())
    assert list(figures) == names
    for line in figures["parity"]:
        # Both sides are the CPU here; bfloat16 has 8 bits.
        bound = 1e-6 if line["dtype"] == "float32" else 0.02
        assert 0 <= line["prediction"] < bound
        assert 0 <= line["gradient"] < bound
    assert [line["network"] for line in figures["networks"]] == ["DiT-L/2"]
    assert all(line["train step, ms"] > 0 for line in figures["networks"])
    assert [line["modalities"] for line in figures["modalities"]] == [1, 3, 8]
    assert 0 <= figures["stalls"][0]["share of the time without a batch"] < 1
