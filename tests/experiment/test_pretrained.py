"""Runs that begin with parameters of another model: which, and what is said of them.

What a source holds is read by the libraries of its format, Orbax and safetensors.
"""

import dataclasses
import json
import re
import shutil

import chex
import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp
import pytest
from flax import traverse_util
from safetensors.numpy import load_file, save_file

from configs import digits
from mmdiffusion_jax import apps, experiment, graceful, training
from mmdiffusion_jax.experiment.pretrained import FILE, shapes_of
from mmdiffusion_jax.model import query_roles
from tests.apps.small import ROOT, run_python
from tests.experiment.start_worker import MESHES
from tests.experiment.trained import STEP, leave_trained, small_config, source

EMBEDDING = {"kind": "embedding", "dims": 4}
DIT = {"kind": "dit", "width": 16, "depth": 1, "num_heads": 2}
BACKBONES = {
    "dit": DIT,
    "dit with tokens": {**DIT, "context_tokens": 1},
    "uvit": {"kind": "uvit", "width": 16, "depth": 3, "num_heads": 2},
    "unet": {
        "kind": "unet",
        "width": 16,
        "channel_mults": (1,),
        "num_res_blocks": 1,
        "num_groups": 4,
        "num_head_channels": 8,
    },
}


def stored(workdir, step=STEP):
    """{name: array} of a checkpoint, by Orbax alone."""
    with ocp.StandardCheckpointer() as checkpointer:
        return checkpointer.restore(workdir.absolute() / f"checkpoints/{step}/state")


def under(leaves, part):
    """The leaves of a part of the state, named within it."""
    return {
        name.removeprefix(f"{part}/"): np.asarray(x)
        for name, x in leaves.items()
        if name.startswith(f"{part}/")
    }


def flat(tree):
    return traverse_util.flatten_dict(jax.device_get(tree), sep="/")


def begun(place, config, workdir):
    """(the experiment, what is read, the first state) of a run that begins from a place."""
    config.init_from = str(place)
    built = experiment.build(config)
    pretrained = experiment.open_pretrained(built, workdir)
    return built, pretrained, experiment.first_state(built, training.make_mesh(), pretrained)


def predicted(built, params, known):
    """The answer of a model to drawn states, of which it is shown drawn encodings."""
    rng = np.random.default_rng(0)
    z_t, shown = (jnp.asarray(rng.normal(size=(3, 8, 8, 1)), "float32") for _ in range(2))
    roles = query_roles(built.model.modalities, 3, known, ["image"], known)
    roles = dataclasses.replace(roles, encodings=dict.fromkeys(known, shown))
    t = jnp.array([1, 4, 8])
    return jax.jit(built.model.functions(params).denoise)(z_t, t, roles)


def same_answers(place, new, state, known):
    """Asserts that a beginning answers as the source in `place` does."""
    old = experiment.build(experiment.read_config(place))
    theirs = traverse_util.unflatten_dict(under(stored(place), "ema"), sep="/")
    theirs, ours = predicted(old, theirs, known), predicted(new, state.params, known)
    np.testing.assert_allclose(ours.value, theirs.value, rtol=1e-4, atol=1e-5)
    for name, head in theirs.heads.items():
        chex.assert_trees_all_close(ours.heads[name], head, rtol=1e-4, atol=1e-5)
    assert float(jnp.abs(theirs.value).mean()) > 0.01


def fitted(config, workdir):
    """Trains in a folder that is held, on random images."""
    built = experiment.build(config)
    monitor = training.Monitor(lambda params: {"loss": 0.0}, lambda params: None)
    with experiment.hold_workdir(workdir, config) as folder:
        return experiment.fit(built, source(), folder, monitor)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """The workdir of a model of images and labels."""
    return leave_trained(tmp_path_factory.mktemp("trained"), small_config())


READERS = ("backbone/context/kernel", "backbone/shown/kernel", "backbone/shown_summary/kernel")
CLASSES = ("modalities_label/table", "modalities_label/logits")
PIXELS = (
    "backbone/patches/kernel",
    "backbone/position",
    "backbone/shown/kernel",
    "backbone/prediction",
    "modalities_image/Dense_1",
)


@pytest.mark.parametrize(
    ("changes", "in_part", "new", "unused"),
    [
        ({}, (), (), ()),
        ({"modalities": {"other": EMBEDDING}}, READERS, ("modalities_other",), ()),
        ({"without": ["label"]}, (), (), ("modalities_label", "backbone/context", *READERS)),
        ({"modalities": {"label": {"kind": "label", "num_classes": 12}}}, (), CLASSES, CLASSES),
        ({"backbone": {**DIT, "depth": 2}}, (), ("backbone/blocks_1",), ()),
        ({"backbone": {**DIT, "patch_size": 4}}, (), PIXELS, PIXELS),
    ],
    ids=["same", "gains", "loses", "classes", "depth", "patch"],
)
def test_what_fits_is_taken_and_the_rest_is_new(trained, tmp_path, changes, in_part, new, unused):
    theirs = under(stored(trained), "ema")
    built, pretrained, state = begun(trained, small_config(**changes), tmp_path)
    ours, transfer = flat(state.params), pretrained.transfer(built)
    assert set(transfer.in_part) == set(in_part)
    assert set(transfer.new) == {name for name in ours if name.startswith(new)}
    # `startswith(())` is never true.
    left = {name for name in theirs if name.startswith(unused)}
    assert {name for name in theirs if name not in ours or name in transfer.new} == left
    assert set(transfer.unused) == left
    taken = set(ours) - set(in_part) - set(transfer.new)
    assert set(transfer.taken) == taken
    assert taken
    for name in taken:
        np.testing.assert_array_equal(ours[name], theirs[name], strict=True)
    fresh = flat(jax.jit(built.init)(jax.random.split(jax.random.key(built.seed))[0]))
    for name in transfer.new:
        np.testing.assert_allclose(ours[name], fresh[name], rtol=1e-6, atol=1e-7)


def test_inputs_are_taken_one_by_one(trained, tmp_path):
    """Patches of 2 × 2 pixels, each with a channel of image, label and what is new."""
    theirs = under(stored(trained), "ema")["backbone/shown/kernel"].reshape(4, 2, 16)
    config = small_config(modalities={"other": EMBEDDING})
    built, pretrained, state = begun(trained, config, tmp_path)
    ours = flat(state.params)["backbone/shown/kernel"].reshape(4, 3, 16)
    np.testing.assert_array_equal(ours[:, :2], theirs)
    assert not ours[:, 2].any()
    rows = {name: fate for name, _, fate in pretrained.transfer(built).rows()}
    assert rows["backbone/shown/kernel"] == "taken for image, label; zero for other"


def test_a_name_in_the_place_of_another_does_not_get_its_inputs(trained, tmp_path):
    """The kernels have equal shapes; the letters of one stand where those of the other stood."""
    config = small_config(modalities={"other": EMBEDDING}, without=["label"])
    _, _, state = begun(trained, config, tmp_path)
    theirs = under(stored(trained), "ema")["backbone/shown/kernel"].reshape(4, 2, 16)
    ours = flat(state.params)["backbone/shown/kernel"].reshape(4, 2, 16)
    np.testing.assert_array_equal(ours[:, 0], theirs[:, 0])
    assert not ours[:, 1].any()
    assert not flat(state.params)["backbone/context/kernel"].any()


@pytest.mark.parametrize(
    ("kind", "without"),
    [
        *((kind, ()) for kind in BACKBONES),
        # The others have a token more than a source that is shown nothing.
        ("dit", ("label",)),
        pytest.param("unet", ("label",), marks=pytest.mark.long),
    ],
)
def test_at_first_it_does_what_the_source_does(tmp_path, kind, without):
    """Where what is new is absent."""
    known = [name for name in ("label",) if name not in without]
    place = leave_trained(tmp_path / "source", small_config(BACKBONES[kind], without=without))
    config = small_config(BACKBONES[kind], {"other": EMBEDDING}, without)
    new, _, state = begun(place, config, tmp_path)
    same_answers(place, new, state, known)


@pytest.mark.parametrize("scan", [False, True])
@pytest.mark.parametrize(
    ("kind", "depth"), [("dit", 2), pytest.param("uvit", 5, marks=pytest.mark.long)]
)
def test_blocks_are_taken_into_a_scan_and_out_of_one(tmp_path, kind, depth, scan):
    spec = {**BACKBONES[kind], "depth": depth}
    source = small_config({**spec, "scan_layers": not scan})
    place = leave_trained(tmp_path / "source", source)
    new, pretrained, state = begun(place, small_config({**spec, "scan_layers": scan}), tmp_path)
    transfer = pretrained.transfer(new)
    assert set(transfer.taken) == set(shapes_of(new))
    assert transfer.unused == ()
    assert not pretrained.warning(new)
    same_answers(place, new, state, ["label"])


def test_a_scan_of_another_depth_does_not_fit(trained, tmp_path):
    config = small_config({**DIT, "depth": 2, "scan_layers": True})
    built, pretrained, _ = begun(trained, config, tmp_path)
    transfer = pretrained.transfer(built)
    blocks = {name for name in shapes_of(built) if name.startswith("backbone/blocks/")}
    assert blocks
    assert set(transfer.new) == set(transfer.unused) == blocks
    assert all(words.startswith("float32[1, ") for words in transfer.new.values())


LEARNED = {**DIT, "positions": "learned"}


@pytest.mark.parametrize(
    ("backbone", "process", "words"),
    [
        ({"norm": "rms"}, {}, "source, by backbone.norm rms (layer there)."),
        ({"num_heads": 4}, {}, "source, by backbone.num_heads 4 (2 there)."),
        ({}, {"target": "z_0"}, "source, by process.target z_0 (v there)."),
        ({}, {"shares": {"image": 0.5}}, "source, by process.shares.image 0.5 (– there)."),
        (
            {"positions": "sincos"},
            {},
            "source, by backbone.positions sincos (learned there); left unused: backbone/position.",
        ),
        ({"dtype": "bfloat16", "remat": "nothing_saveable"}, {}, ""),
    ],
)
def test_what_does_not_come_over_is_a_warning(tmp_path, caplog, backbone, process, words):
    """Also where every number of the model is taken."""
    place = leave_trained(tmp_path / "source", small_config(LEARNED))
    config = small_config({**LEARNED, **backbone})
    config.process.update(process)
    config.init_from = str(place)
    built = experiment.build(config)
    pretrained = experiment.open_pretrained(built, tmp_path / "w")
    assert not pretrained.transfer(built).new
    assert "EmptyNode" not in pretrained.report(built)
    warnings = [x.getMessage() for x in caplog.records if x.filename == "pretrained.py"]
    assert len(warnings) == bool(words)
    for line in warnings:
        assert f"step {STEP} of {place}: " in line
        assert words in line


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"modalities": {"other": EMBEDDING}}, ""),
        ({"without": ["label"]}, "left unused: backbone/context/"),
    ],
)
def test_another_modality_is_no_warning_and_a_dropped_one_is(trained, tmp_path, changes, words):
    built, pretrained, _ = begun(trained, small_config(**changes), tmp_path)
    line = pretrained.warning(built)
    assert words in line
    assert bool(line) == bool(words)
    assert "compute" not in line


def test_encodings_are_those_of_the_source_bit_for_bit(trained, tmp_path):
    config = small_config(modalities={"other": EMBEDDING}, ema_widths=(0.1,))
    built, pretrained, state = begun(trained, config, tmp_path)
    old = experiment.build(small_config())
    theirs = traverse_util.unflatten_dict(under(stored(trained), "ema"), sep="/")
    batch = source().take(np.arange(40))
    for name in ("image", "label"):
        codes = old.model.functions(theirs).modalities[name].encode(batch[name])
        for params in (state.params, state.ema, state.averages["0.1"]):
            ours = built.model.functions(params).modalities[name].encode(batch[name])
            np.testing.assert_array_equal(ours, codes)
        one, other = graceful.freeze(built, state.ema), graceful.freeze(old, theirs)
        assert one.encoders[name].fingerprint == other.encoders[name].fingerprint
        assert f"| {name} | as in the source, bit for bit |" in pretrained.report(built)
    assert "| other | new |" in pretrained.report(built)


def test_averages_and_optimiser_begin_from_what_is_taken(trained, tmp_path):
    built, _, state = begun(trained, small_config(ema_widths=(0.1, 0.2)), tmp_path)
    assert int(state.step) == 0
    for average in (state.ema, *state.averages.values()):
        chex.assert_trees_all_equal(average, state.params)
    fresh = training.make_optimiser(built.training).init(state.params)
    chex.assert_trees_all_equal(state.opt_state, fresh)


def test_the_average_that_the_source_chose_is_taken(tmp_path):
    config = small_config(ema_widths=(0.1, 0.2))
    place = leave_trained(tmp_path / "source", config, average="0.2")
    _, pretrained, _ = begun(place, small_config(), tmp_path)
    assert f"(averages/0.2) of step {STEP} of {place}" in pretrained.about
    leaves = stored(place)
    for name, x in under(leaves, "averages/0.2").items():
        np.testing.assert_array_equal(pretrained.params[name], x)
        assert not np.array_equal(x, leaves[f"ema/{name}"])
        assert not np.array_equal(x, leaves[f"params/{name}"])


def test_an_exported_file_is_as_good_as_its_workdir(trained, tmp_path):
    file = apps.export(str(trained), tmp_path / "model.safetensors")
    config = small_config(modalities={"other": EMBEDDING})
    built, of_file, state = begun(file, config, tmp_path)
    _, _, same = begun(trained, config, tmp_path)
    chex.assert_trees_all_equal(state.params, same.params)
    tensors = load_file(file)
    for name in of_file.transfer(built).taken:
        np.testing.assert_array_equal(flat(state.params)[name], tensors[name])


def test_a_run_that_goes_on_does_not_need_the_source(trained, tmp_path):
    """Nor takes it twice: cut anywhere, it ends as the undisturbed run does, bit for bit."""
    place = tmp_path / "source"
    shutil.copytree(trained, place)
    config = small_config(modalities={"label": {"kind": "label", "num_classes": 12}})
    config.init_from = str(place)
    whole = fitted(config, tmp_path / "whole")
    report = (tmp_path / "whole" / FILE).read_text()
    np.testing.assert_array_equal(
        stored(tmp_path / "whole", 0)["params/backbone/patches/kernel"],
        stored(trained)["ema/backbone/patches/kernel"],
    )
    shutil.rmtree(place)
    for last in (0, 2):
        cut = tmp_path / f"cut-{last}"
        shutil.copytree(tmp_path / "whole", cut)
        for step in range(last + 2, 5, 2):
            shutil.rmtree(cut / "checkpoints" / str(step))
            (cut / "checkpoints" / "digests" / f"{step}.json").unlink()
        state = fitted(config, cut)
        chex.assert_trees_all_equal(state.params, whole.params)
        chex.assert_trees_all_equal(state.ema, whole.ema)
        chex.assert_trees_all_equal(state.opt_state, whole.opt_state)
        assert (cut / FILE).read_text() == report


def test_a_constraint_and_a_source_do_not_go_together(trained, tmp_path):
    config = small_config()
    config.init_from = str(trained)
    built = experiment.build(config)
    held = experiment.Constraint(built.loss, built.init)
    with pytest.raises(ValueError, match=r"`config\.init_from`: got .*expected nothing where"):
        experiment.fit(built, source(), tmp_path, None, held)


def test_devices_share_what_is_taken(trained, tmp_path):
    done = run_python("tests/experiment/start_worker.py", trained, tmp_path, devices=8)
    assert done.returncode == 0, done.stderr
    sizes = json.loads(done.stdout)
    theirs = under(stored(trained), "ema")
    for name in MESHES:
        with np.load(tmp_path / f"{name}.npz") as leaves:
            for key in set(theirs) - set(READERS):
                np.testing.assert_array_equal(leaves[key], theirs[key])
            shown = leaves["backbone/shown/kernel"].reshape(4, 3, 16)
        np.testing.assert_array_equal(
            shown[:, :2], theirs["backbone/shown/kernel"].reshape(4, 2, 16)
        )
    whole, held = sizes["fsdp"]
    assert sizes["data"] == [whole, whole]
    assert held < whole / 4


def _no_config(place):
    (place / "config.json").unlink()


def _damaged_config(place):
    (place / "config.json").write_text("{")


def _config_of_another_version(place):
    values = json.loads((place / "config.json").read_text())
    values["backbone"]["mixture_of_experts"] = 8
    (place / "config.json").write_text(json.dumps(values))


def _no_checkpoint(place):
    shutil.rmtree(place / "checkpoints")


def _damaged_checkpoint(place):
    largest = max((p for p in (place / "checkpoints/7/state").rglob("*") if p.is_file()),
                  key=lambda p: p.stat().st_size)  # fmt: skip
    content = bytearray(largest.read_bytes())
    content[len(content) // 2] ^= 1
    largest.write_bytes(bytes(content))


def _checkpoint_of_another_version(place):
    """One without the list of its leaves, as Orbax alone would write it."""
    shutil.rmtree(place / "checkpoints")
    with ocp.CheckpointManager(place.absolute() / "checkpoints") as manager:
        manager.save(3, args=ocp.args.Composite(state=ocp.args.StandardSave({"w": jnp.ones(2)})))


def _without_averages(place):
    shutil.rmtree(place / "checkpoints")
    with training.Checkpoints(place / "checkpoints") as checkpoints:
        checkpoints.save(3, {"params": {"w": jnp.ones(2)}}, {"next_example": 0})


@pytest.mark.parametrize(
    ("harm", "words"),
    [
        (shutil.rmtree, "which is not there, expected a workdir with a checkpoint"),
        (_no_config, r"which has no config\.json"),
        (_damaged_config, "whose config this version cannot read .*a damaged"),
        (_config_of_another_version, "this version cannot read .*'mixture_of_experts'.*in a copy"),
        (_no_checkpoint, "which has no checkpoint, .*train there first"),
        (_damaged_checkpoint, "whose checkpoints cannot be read .*step 7.*from a copy"),
        (_checkpoint_of_another_version, "whose checkpoints cannot be read .*another version"),
        (_without_averages, "checkpoint of step 3 has nothing under 'ema'"),
    ],
)
def test_a_workdir_that_does_not_serve(trained, tmp_path, harm, words):
    place = tmp_path / "source"
    shutil.copytree(trained, place)
    harm(place)
    with pytest.raises(ValueError, match=rf"^`config\.init_from`: got .*{words}"):
        begun(place, small_config(), tmp_path / "w")
    assert not (tmp_path / "w").exists()


def test_a_file_that_does_not_serve(trained, tmp_path):
    file = apps.export(str(trained), tmp_path / "model.safetensors")
    content = file.read_bytes()
    flipped = content[:-9] + bytes([content[-9] ^ 1]) + content[-8:]
    for harmed in (content[:-1], content[:100], b"", flipped):
        file.write_bytes(harmed)
        with pytest.raises(ValueError, match=r"^`config\.init_from`: got .*which cannot be read"):
            begun(file, small_config(), tmp_path / "w")
    save_file({"w": np.ones(2)}, file)
    with pytest.raises(ValueError, match=r"^`config\.init_from`: got .*which cannot be read"):
        begun(file, small_config(), tmp_path / "w")
    training.write_safetensors(file, {"w": np.ones(2)}, {"config": {"sed": 0}})
    with pytest.raises(ValueError, match=r"^`config\.init_from`: got .*this version cannot read"):
        begun(file, small_config(), tmp_path / "w")
    other = tmp_path / "model.pt"
    other.write_bytes(content)
    with pytest.raises(ValueError, match=r"^`config\.init_from`: got .*which is no such file"):
        begun(other, small_config(), tmp_path / "w")


def test_a_source_of_which_nothing_fits(trained, tmp_path):
    config = small_config({"kind": "dit", "width": 20, "depth": 1, "num_heads": 2, "patch_size": 4})
    config.modalities = {"picture": {"kind": "image", "num_levels": 17}}
    config.primary, config.process.weights, config.loss.scales = "picture", {}, {}
    with pytest.raises(ValueError, match=r"`config\.init_from`: .*of which no name and shape"):
        begun(trained, config, tmp_path / "w")


def test_the_workdir_itself_is_no_source(tmp_path):
    config = small_config()
    config.init_from = str(tmp_path / "w")
    with pytest.raises(ValueError, match=r"`config\.init_from`: .*another folder than the workdir"):
        experiment.open_pretrained(experiment.build(config), tmp_path / "w")


def test_an_update_takes_no_source(trained, tmp_path):
    config = small_config()
    config.init_from = str(trained)
    config.graceful = {}
    with pytest.raises(ValueError, match=r"`config\.init_from`: .*graceful\.warm_start"):
        apps.update(config, str(tmp_path / "w"), [str(trained)])


def test_the_example_of_the_page():
    """docs/fine_tuning.md: what it says of each parameter is so."""
    page = (ROOT / "docs" / "fine_tuning.md").read_text(encoding="utf-8")
    (code,) = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    names = {}
    exec(code, names)
    configs = (names["get_config"], digits.get_config)
    ours, theirs = (experiment.build(config()) for config in configs)
    assert ours.settings.init_from == "workdirs/digits"
    shapes = {name: np.zeros(x.shape, x.dtype) for name, x in shapes_of(theirs).items()}
    source = experiment.Pretrained("The digits", shapes, theirs)
    fates = {name: fate for name, _, fate in source.transfer(ours).rows()}
    claims = dict(re.findall(r"^\| `(\w+/\S+)` \| (.*) \|$", page, re.MULTILINE))
    assert len(claims) == 5
    for name, fate in claims.items():
        assert fates[name] == fate
