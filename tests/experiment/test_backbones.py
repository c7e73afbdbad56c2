"""The section of the backbone: its kinds, their fields and defaults, in configs and flags."""

import json

import jax
import jax.numpy as jnp
import pytest
from ml_collections import ConfigDict

from configs.smoke import get_config
from mmdiffusion_jax import experiment
from mmdiffusion_jax.networks import DiT, UNet, UViT


def hold(workdir, config):
    with experiment.hold_workdir(workdir, config):
        pass


def digits(**backbone):
    config = get_config()
    if backbone:
        config.backbone = ConfigDict(backbone)
    return config


@pytest.mark.parametrize(
    ("kind", "network", "fields"),
    [
        ("dit", DiT, {"positions": "sincos", "frequencies": 32}),
        ("unet", UNet, {"channel_mults": (1, 1.5), "num_groups": 8}),
        ("uvit", UViT, {"depth": 5}),
        ("unet", UNet, {"dtype": "bfloat16", "remat": "dots_saveable"}),
        ("dit", DiT, {"dtype": "bfloat16", "remat": "nothing_saveable", "scan_layers": True}),
    ],
)
def test_every_kind_trains(kind, network, fields):
    built = experiment.build(digits(kind=kind, width=64, **fields))
    net = built.model.backbone
    assert type(net) is network
    assert (net.latent, net.out_channels, net.num_steps, net.width) == ((8, 8, 1), 1, 20, 64)
    assert {name: getattr(net, name) for name in fields} == fields
    batch = {"image": jnp.zeros((2, 8, 8, 1), jnp.uint8), "label": jnp.zeros((2,), jnp.int32)}
    params = jax.eval_shape(built.init, jax.random.key(0))
    loss, scalars = jax.eval_shape(built.loss, params, jax.random.key(0), batch)
    assert loss.shape == ()
    assert "label/loss" in scalars


@pytest.mark.parametrize(
    ("backbone", "words"),
    [
        ({"kind": "unett"}, "`config.backbone.kind`: got 'unett'.*did you mean 'unet'"),
        ({"width": 8}, "`config.backbone.kind`: got ''"),
        ({"kind": "unet", "widht": 8}, "`config.backbone`: got 'widht'.*did you mean 'width'"),
        ({"kind": "uvit", "num_groups": 8}, "got 'num_groups', a field of 'unet', .*choose 'unet'"),
        ({"kind": "dit", "latent": (4, 4, 1)}, "`config.backbone`: got 'latent'"),
    ],
)
def test_bad_sections(backbone, words):
    with pytest.raises(ValueError, match=words):
        experiment.build(digits(**backbone))


def test_a_kind_changed_alone_says_what_to_do():
    config = digits()
    config.backbone.kind = "unet"
    with pytest.raises(ValueError, match="'context_tokens', a field of 'dit', expected"):
        experiment.build(config)


def test_flags_are_judged_by_the_named_config(tmp_path):
    file = tmp_path / "unet.py"
    file.write_text(
        "from ml_collections import ConfigDict\n"
        "from mmdiffusion_jax import experiment\n"
        "def get_config(kind='unet'):\n"
        "    config = experiment.default_config()\n"
        "    config.backbone = ConfigDict({'kind': kind, 'width': 32})\n"
        "    return config\n"
    )

    def judge(flag, choice=""):
        return experiment.unknown_override([f"--config={file}{choice}", flag])

    assert judge("--config.backbone.width=64") is None
    assert "did you mean 'width'?" in judge("--config.backbone.widht=64")
    assert "`config.backbone.num_groups`: got a flag" in judge("--config.backbone.num_groups=8")
    assert "got 'num_groups'" in judge("--config.backbone.num_groups=8", ":uvit")
    smoke = "--config=configs/smoke.py"
    assert "'label'?" in experiment.unknown_override([smoke, "--config.modalities.labl.kind=x"])
    assert "did you mean 'width'?" in experiment.unknown_override(["--config.backbone.widht=64"])
    assert experiment.unknown_override(["--config.backbone.patch_size=1"]) is None


def test_fields_left_out_are_the_defaults_to_a_workdir(tmp_path):
    hold(tmp_path, digits(kind="unet", width=32))
    hold(tmp_path, digits(kind="unet", width=32, num_res_blocks=2))
    with pytest.raises(ValueError, match=r"differs in backbone\.num_res_blocks"):
        hold(tmp_path, digits(kind="unet", width=32, num_res_blocks=1))


def test_a_run_from_before_a_field_goes_on(tmp_path):
    hold(tmp_path, digits())
    file = tmp_path / "config.json"
    values = json.loads(file.read_text())
    del values["backbone"]["norm"]
    file.write_text(json.dumps(values))
    assert experiment.read_config(tmp_path).backbone.norm == "layer"
    hold(tmp_path, digits())
