"""What needs no GPU of the benchmarks on one."""

import pytest

from benchmarks.speed import gpu


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
    assert gpu.peak_flops(device) == peak


def test_a_device_without_a_known_peak():
    with pytest.raises(ValueError, match=r"`device`: got 'NVIDIA L400', expected one of A100, "):
        gpu.peak_flops("NVIDIA L400")


def test_utilisation_is_one_at_the_peak():
    peak = gpu.peak_flops("NVIDIA A100-SXM4-40GB")
    assert gpu.model_flops_utilisation(3 * peak, 3.0, peak) == 1
    assert gpu.model_flops_utilisation(peak, 4.0, peak) == 0.25


def test_there_are_rows_of_both_networks_where_there_is_a_gpu():
    assert gpu.benchmarks([]) == {}
    rows = [row for each in gpu.benchmarks(["NVIDIA H200"]).values() for row in each.goals]
    assert len(rows) == len(set(rows)) == 8
    assert "dit_xl_2_model_flops_utilisation" in rows
