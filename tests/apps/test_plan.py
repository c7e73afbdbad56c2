"""Plans against the programs that they foretell, and flags that ask for one."""

import json

import pytest

from configs import digits
from mmdiffusion_jax import apps
from tests.apps.small import launch, run_python


@pytest.mark.long
def test_a_plan_is_what_the_compiler_makes_of_it():
    done = run_python("tests/apps/plan_worker.py", 0, 1, 2, 3, devices=8)
    assert done.returncode == 0, done.stderr
    for record in json.loads(done.stdout):
        name = record["case"]
        in_parts = "accumulate" in name  # of a loop the compiler counts one pass
        tolerances = {"arguments": 0.03, "sent": 0.05} | ({} if in_parts else {"flops": 0.05})
        for key, tolerance in tolerances.items():
            planned, compiled = record[key]
            assert abs(planned - compiled) <= tolerance * compiled, (name, key, planned, compiled)
        if in_parts:
            continue
        planned, compiled = record["temporary"]
        # Of a small U-Net's results between convolutions a compiler keeps few.
        most = 3.0 if name.startswith("unet") else 2.5
        assert 0.9 * compiled <= planned <= most * compiled, (name, planned, compiled)


@pytest.mark.long
def test_a_plan_counts_every_layer_of_a_scan():
    plain, scanned = digits.get_config(), digits.get_config()
    scanned.backbone.scan_layers = True
    plain, scanned = (apps.plan(config, 1) for config in (plain, scanned))
    assert scanned.flops == pytest.approx(plain.flops, rel=0.05)


@pytest.mark.long
def test_a_plan_is_printed_for_devices_that_are_not_there():
    done = launch(
        "plan", "--config=configs/smoke.py", "--devices=64", "--peak=459e12", "--bandwidth=90e9"
    )
    assert done.returncode == 0, done.stderr
    assert "64, 1, 1" in done.stdout
    assert "a step computes" in done.stdout


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--devices=6", "--config.sharding.fsdp=4"), "`devices`: got 6, expected a multiple"),
        (("--peak=1e12",), "--peak without --bandwidth says nothing"),
        (("--hosts=4",), "--hosts without --store_bandwidth says nothing"),
        (("--devices=0",), "`devices`: got 0, expected 1 or more"),
        (("--peak=0", "--bandwidth=1e9"), "`peak`: got 0.0, expected a number above 0"),
        (("--devices=7",), "`config.training.batch_size`: got 64, expected a multiple of 7"),
    ],
)
def test_plans_that_cannot_be(arguments, words):
    done = launch("plan", "--config=configs/smoke.py", *arguments)
    assert done.returncode == 1
    assert words in done.stderr
