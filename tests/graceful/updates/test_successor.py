"""Successors: what their loss is made of, who learns from it, and who cannot succeed."""

import dataclasses

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import traverse_util

from mmdiffusion_jax import evaluation, experiment, graceful, objective
from mmdiffusion_jax.graceful import UpdateOptions
from mmdiffusion_jax.graceful.updates import successor as module
from mmdiffusion_jax.model import Diffusion
from tests.graceful.small import built_with, examples, frozen, source
from tests.mixture_world import TABLE, MixtureWorld
from tests.params import initial

KEY = jax.random.key(3)


@pytest.fixture(scope="module")
def deployed():
    return frozen(built_with())


@pytest.fixture(scope="module")
def deeper():
    """Another model of the same widths: what was compiled for one serves the other."""
    return built_with(depth=2)


def flat(tree):
    return {"/".join(path): leaf for path, leaf in traverse_util.flatten_dict(tree).items()}


def loss_of(constraint, params, key=KEY, batch=None):
    batch = jax.tree.map(jnp.asarray, batch or examples())
    return constraint.loss(params, key, batch, *constraint.constants)


def test_a_deployed_model_reads_its_own_latents_as_in_training():
    world = MixtureWorld(10)
    batch, model = world.draw(200), world.model()
    same = graceful.with_encoders(model, model)
    error, heads = graceful.deployed_terms(KEY, world.diffusion(same), batch)
    total, scalars = objective.simple_loss(KEY, world.diffusion(model), batch)
    np.testing.assert_allclose(error, scalars["x/squared_error"].value, rtol=1e-6)
    np.testing.assert_allclose(heads, scalars["label/loss"].value, rtol=1e-5)
    np.testing.assert_allclose(error + heads, total, rtol=1e-6)


def test_the_encoder_finds_the_codes_that_the_deployed_model_reads():
    """The exact model of a world reads best what the world's own encoder writes."""
    world = MixtureWorld(10)
    model = world.model()

    def hybrid(table):
        label = dataclasses.replace(model.modalities["label"], encode=lambda k: table[k])
        successor = dataclasses.replace(model, modalities={**model.modalities, "label": label})
        return graceful.with_encoders(model, successor)

    def terms(table, key, count=2000):
        batch = world.draw(count)
        return graceful.deployed_terms(key, world.diffusion(hybrid(table)), batch)

    @jax.jit
    def fit(table):
        optimiser = optax.adam(0.05)

        def step(carry, key):
            table, state = carry
            gradient = jax.grad(lambda table: sum(terms(table, key, 500)))(table)
            updates, state = optimiser.update(gradient, state)
            return (optax.apply_updates(table, updates), state), None

        start = (table, optimiser.init(table))
        return jax.lax.scan(step, start, jax.random.split(KEY, 200))[0][0]

    other = jnp.asarray(TABLE[[1, 2, 0]], jnp.float32)
    truth = jnp.asarray(TABLE, jnp.float32)
    (least, _), (before, _), (after, _) = (terms(t, KEY) for t in (truth, other, fit(other)))
    assert before > 1.3 * least
    assert after < 1.1 * least
    cosines = np.sum(graceful.unit(fit(other)) * graceful.unit(truth), axis=1)
    assert cosines.min() > 0.95


def test_wider_latents_are_read_as_is_declared():
    """A successor with another channel: the deployed model reads the first ones."""
    world = MixtureWorld(10)
    batch, model = world.draw(200), world.model()

    def widened(name):
        encode = model.modalities[name].encode
        wide = lambda x: jnp.concatenate([encode(x), 7 * encode(x)], axis=-1)  # noqa: E731
        return dataclasses.replace(model.modalities[name], encode=wide)

    wide = dataclasses.replace(model, modalities={n: widened(n) for n in model.modalities})
    read = graceful.with_encoders(model, wide, lambda z: graceful.shared_coordinates(z, 2))
    terms, truth = (graceful.deployed_terms(KEY, world.diffusion(m), batch) for m in (read, model))
    np.testing.assert_allclose(terms, truth, rtol=1e-6)


def test_the_deployed_model_trains_encoders_alone(deployed, deeper):
    options = UpdateOptions(flips=0, mix=0)
    plain = graceful.constraint([deployed], deeper, UpdateOptions(encoders="free", flips=0))
    held = graceful.constraint([deployed], deeper, options)
    params = initial(deeper.init, seed=1)
    extra = jax.jit(jax.grad(lambda p: loss_of(held, p)[0] - loss_of(plain, p)[0]))(params)
    encoders = {
        "/".join(p) for name in ("image", "label") for p in experiment.encoder_paths(deeper, name)
    }
    assert encoders == {"modalities_label/table"}
    for name, leaf in flat(extra).items():
        scale = float(jnp.abs(leaf).max())
        assert scale > 1e-4 if name in encoders else scale < 1e-6, name


def test_without_weights_it_is_the_successors_own_loss(deployed, deeper):
    options = UpdateOptions(encoders="free", flips=0)
    params = initial(deeper.init, seed=1)
    total, scalars = loss_of(graceful.constraint([deployed], deeper, options), params)
    own_key = jax.random.split(KEY, 3)[0]
    truth, task_scalars = deeper.loss(params, own_key, jax.tree.map(jnp.asarray, examples()))
    assert float(total) == float(truth)
    chex.assert_trees_all_equal(scalars, task_scalars)


def test_terms_add_up_over_generations(deployed, deeper):
    older = frozen(built_with(depth=2), seed=5)
    options = UpdateOptions(heads=2.0, denoiser=3.0, latents=4.0, mix=0)
    params = initial(deeper.init, seed=1)
    total, scalars = loss_of(graceful.constraint([older, deployed], deeper, options), params)
    own_key = jax.random.split(KEY, 3)[0]
    expected = deeper.loss(params, own_key, jax.tree.map(jnp.asarray, examples()))[0]
    for index in (0, 1):
        for term, weight in (("heads", 2), ("denoiser", 3), ("latents", 4)):
            expected += weight * scalars[f"deployed_{index}/{term}"]
    expected += options.flips * scalars["label/distillation"]
    np.testing.assert_allclose(total, expected, rtol=1e-6)
    assert scalars["deployed_0/denoiser"] != scalars["deployed_1/denoiser"]


def test_a_model_that_succeeds_itself_is_not_distilled(deployed):
    constraint = graceful.constraint([deployed], deployed.built, UpdateOptions(alpha=1.0))
    _, scalars = loss_of(constraint, deployed.params)
    assert float(scalars["label/distillation"]) == 0
    moved = jax.tree.map(lambda leaf: leaf + 0.1, deployed.params)
    assert float(loss_of(constraint, moved)[1]["label/distillation"]) > 0


def test_an_ensemble_teaches_by_its_mean(deployed, deeper):
    members = [frozen(built_with(), seed=seed) for seed in (7, 8)]
    params = initial(deeper.init, seed=1)

    def distilled(options, ensemble=()):
        constraint = graceful.constraint([deployed], deeper, options, ensemble)
        return float(loss_of(constraint, params)[1]["label/distillation"])

    plain = UpdateOptions(alpha=1.0, beta=0.0)
    same = distilled(UpdateOptions(alpha=9.0, beta=9.0), [deployed, deployed])
    np.testing.assert_allclose(same, distilled(plain), rtol=1e-5)
    assert distilled(plain, members) != pytest.approx(same, rel=1e-3)


def test_the_distance_of_latents_counts_where_they_are_present(deployed):
    built = deployed.built
    moved = initial(built.init, seed=4)
    batch = jax.tree.map(jnp.asarray, examples())
    tables = [p["modalities_label"]["table"] for p in (deployed.params, moved)]
    old, new = (
        np.asarray(graceful.unit(t.reshape(10, -1)) * 8)[np.asarray(batch["label"])] for t in tables
    )
    present = np.arange(40) % 3 == 0
    distance = graceful.latent_distance(
        built.model.functions(moved),
        built.model.functions(deployed.params),
        batch,
        {"label": jnp.asarray(present)},
    )
    np.testing.assert_allclose(distance, ((old - new) ** 2).mean(1)[present].mean(), rtol=1e-4)


def test_a_head_is_asked_about_states_that_do_not_carry_its_modality(deployed):
    built, batch = deployed.built, jax.tree.map(jnp.asarray, examples())
    functions = built.model.functions(deployed.params)

    def asked(labels, key=KEY):
        values = {**batch, "label": labels}
        return graceful.heads_at_noise(key, Diffusion(built.process, functions), values, "label")

    first = asked(batch["label"])
    np.testing.assert_array_equal(first, asked((batch["label"] + 1) % 10))
    assert np.abs(first - asked(batch["label"], jax.random.key(9))).max() > 0
    with pytest.raises(ValueError, match=r"`name`: got .labels.*did you mean .label"):
        graceful.heads_at_noise(KEY, Diffusion(built.process, functions), batch, "labels")


def test_a_head_that_is_shown_the_image_is_asked_as_its_decisions_are_made(deployed):
    built, batch = deployed.built, jax.tree.map(jnp.asarray, examples())
    diffusion = Diffusion(built.process, built.model.functions(deployed.params))

    def asked(key):
        return graceful.heads_at_noise(key, diffusion, batch, "label", given=["image"])

    logits = asked(KEY)
    np.testing.assert_array_equal(logits, asked(jax.random.key(9)))
    decided = built.generate(KEY, deployed.params, 40, {"image": examples()["image"]})["label"]
    np.testing.assert_array_equal(np.argmax(logits, -1), decided)
    assert np.ptp(logits, axis=0).max() > 0


def test_distillation_is_of_decisions(deployed, deeper):
    """Both are shown the image, so that what is distilled does not depend on noise."""
    options = UpdateOptions(heads=0, denoiser=0, latents=0, flips=1.0, align=0)
    constraint = graceful.constraint([deployed], deeper, options)
    params = initial(deeper.init, seed=1)
    batch = jax.tree.map(jnp.asarray, examples())
    apart = [
        constraint.loss(params, jax.random.key(k), batch, deployed.params)[1]["label/distillation"]
        for k in range(2)
    ]
    assert apart[0] == apart[1] > 0


@pytest.mark.long
def test_a_share_of_one_learns_from_what_is_stored_alone(deployed, deeper):
    options = UpdateOptions(heads=0, denoiser=0, latents=0, flips=0, mix=1.0)
    constraint = graceful.constraint([deployed], deeper, options)
    params = initial(deeper.init, seed=1)
    mixed = UpdateOptions(heads=0, denoiser=0, latents=0, flips=0, mix=0.0)
    other = graceful.constraint([deployed], deeper, mixed)
    both = lambda p, q: loss_of(constraint, p)[0] + loss_of(other, q)[0]  # noqa: E731
    gradient, other_gradient = map(flat, jax.jit(jax.grad(both, argnums=(0, 1)))(params, params))
    # The table still says what a head's answer stands for, but no state is made with it.
    changed = {**gradient}
    table = changed.pop("modalities_label/table")
    assert float(jnp.abs(table).max()) < float(
        jnp.abs(other_gradient["modalities_label/table"]).max()
    )
    assert all(jnp.isfinite(leaf).all() for leaf in changed.values())


def test_encoders_begin_where_the_deployed_ones_are():
    """A finer grid comes close to coarse codes; nothing but encoders is touched."""
    coarse = frozen(built_with(grid=(4, 4)))
    fine = built_with()
    options = UpdateOptions(align=300)
    held = graceful.constraint([coarse], fine, options)
    begun = graceful.aligned(held, coarse, fine, source(), options)
    before, after = (jax.jit(c.init)(KEY, *c.constants) for c in (held, begun))
    values = {"label": jnp.arange(10), "image": examples()["image"][:10]}

    def apart(params):
        distance = graceful.latent_distance(
            fine.model.functions(params), coarse.built.model.functions(coarse.params), values
        )
        return float(distance)

    assert apart(before) > 1.5
    assert apart(after) < 0.02
    for name, leaf in flat(before).items():
        if name != "modalities_label/table":
            np.testing.assert_array_equal(leaf, flat(after)[name])
    for other in (UpdateOptions(align=0), UpdateOptions(encoders="free", align=300)):
        assert graceful.aligned(held, coarse, fine, source(), other) is held


@pytest.mark.long
def test_a_successor_may_have_more_modalities(deployed):
    more = built_with(modalities={"other": {"kind": "label", "num_classes": 3}})
    constraint = graceful.constraint([deployed], more, UpdateOptions())
    batch = {**examples(), "other": examples()["label"] % 3}
    total, scalars = loss_of(constraint, initial(more.init), batch=batch)
    assert np.isfinite(float(total))
    assert float(scalars["deployed_0/latents"]) > 1


def trained(deployed, built, options, folder):
    with experiment.hold_workdir(folder, experiment.config_of(built.settings.to_dict())) as held:
        monitor = evaluation.monitor(built, source())
        state = graceful.update([deployed], built, source(), held, monitor, options)
    return graceful.freeze(built, jax.device_get(state.ema)), flat(state.params)


@pytest.mark.long
def test_kept_encoders_stay_to_the_last_bit(deployed, deeper, tmp_path):
    options = UpdateOptions(encoders="kept")
    bundle, params = trained(deployed, deeper, options, tmp_path / "w")
    old = flat(deployed.params)
    np.testing.assert_array_equal(params["modalities_label/table"], old["modalities_label/table"])
    assert bundle.encoders == deployed.encoders
    begun = flat(jax.jit(deeper.init)(jax.random.split(jax.random.key(deeper.seed))[0]))
    still = [name for name in params if np.allclose(params[name], begun[name], atol=1e-6)]
    assert len(still) < len(params) / 2, still


@pytest.mark.parametrize("mix", [0.0, pytest.param(1.0, marks=pytest.mark.long)])
def test_later_classes_are_nothing_to_the_deployed_model(deployed, mix):
    """Twelve classes after ten: of the last two there is nothing to go with."""
    more = built_with(modalities={"label": {"kind": "label", "num_classes": 12}})
    options = UpdateOptions(flips=0, mix=mix)
    constraint = graceful.constraint([deployed], more, options)
    params = initial(more.init, seed=1)
    batch = examples()
    later = {**batch, "label": np.where(np.arange(40) % 2, 11, batch["label"]).astype(np.int32)}
    scalars = loss_of(constraint, params, batch=later)[1]
    old = {name: np.tile(x[::2], (2, *[1] * (x.ndim - 1))) for name, x in batch.items()}
    alone = loss_of(constraint, params, batch=old)[1]
    np.testing.assert_allclose(
        scalars["deployed_0/latents"], alone["deployed_0/latents"], rtol=1e-5
    )
    gradient = flat(jax.jit(jax.grad(lambda p: loss_of(constraint, p, batch=later)[0]))(params))
    table = gradient["modalities_label/table"]
    assert jnp.isfinite(table).all()
    # With everything stored mixed in, states still carry the new code of what was never stored.
    assert float(jnp.abs(table[11]).max()) > 0


def test_a_teacher_is_not_asked_about_classes_that_came_later(monkeypatch):
    """It is given another class in their place, which counts as absent; the successor all."""
    mask = {"kind": "segmentation", "num_classes": 5, "void": 255}
    old = frozen(built_with(masks=True))
    new = built_with(masks=True, modalities={"mask": mask})
    batch = jax.tree.map(jnp.asarray, examples(4))
    batch["image"] = jnp.repeat(batch["image"], 2, axis=-1)
    batch["mask"] = jnp.full((4, 8, 8), 2).at[1:3].set(4)
    asked = []

    def heads(key, diffusion, values, name, masks, given):
        asked.append((values["mask"], masks.get("mask")))
        return jnp.zeros((4, 10))

    monkeypatch.setattr(module, "heads_at_noise", heads)
    shapes = jax.eval_shape(new.init, KEY)
    params = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), shapes)
    teachers, options = [(old, old.params)], UpdateOptions()
    module._distillation(KEY, (new, params), teachers, "label", batch, {}, options)
    (theirs, present), (ours, whole) = asked
    assert int(theirs.max()) == 2
    assert present.tolist() == [True, False, False, True]
    np.testing.assert_array_equal(ours, batch["mask"])
    assert whole is None


@pytest.mark.parametrize(
    ("options", "from_old"),
    [
        (UpdateOptions(), {"modalities_label/table"}),
        (UpdateOptions(encoders="free"), set()),
        (UpdateOptions(encoders="free", warm_start=True), None),
    ],
)
def test_where_it_begins(deployed, options, from_old):
    wider = built_with(width=32)
    constraint = graceful.constraint([deployed], wider, options)
    start = flat(jax.jit(constraint.init)(KEY, *constraint.constants))
    old, fresh = flat(deployed.params), flat(jax.jit(wider.init)(KEY))
    if from_old is None:
        from_old = {name for name in fresh if fresh[name].shape == old[name].shape}
        assert len(from_old) > 3
    for name, leaf in start.items():
        np.testing.assert_array_equal(leaf, (old if name in from_old else fresh)[name])


@pytest.mark.parametrize(
    ("successor", "options", "words"),
    [
        (
            {"formulation": "separate"},
            {},
            "`config.formulation`: got separate, expected .*'shared'",
        ),
        ({"num_steps": 9}, {}, "`config.process.num_steps`: got 9, expected 8, as deployed"),
        (
            {"modalities": {"label": {"kind": "label", "num_classes": 9}}},
            {},
            "`config.modalities.label`: got 9 classes, expected the 10 that are deployed",
        ),
        (
            {"modalities": {"label": {"kind": "embedding", "dims": 3}}},
            {},
            "`config.modalities.label`: got Embedding .* expected Label",
        ),
        (
            {"grid": (4, 4)},
            {"encoders": "kept"},
            r"`graceful.encoders`: got 'kept', with another encoder of 'label'",
        ),
    ],
)
def test_who_cannot_succeed(deployed, successor, options, words):
    with pytest.raises(ValueError, match=words):
        graceful.constraint([deployed], built_with(**successor), UpdateOptions(**options))


def test_a_modality_that_is_gone_and_latents_of_another_shape(deployed, deeper):
    more = frozen(built_with(modalities={"other": {"kind": "label", "num_classes": 3}}))
    with pytest.raises(ValueError, match=r"`config.modalities`: got nothing for 'other'"):
        graceful.constraint([more], deeper, UpdateOptions())
    graceful.constraint([deployed], more.built, UpdateOptions())

    config = experiment.config_of(deeper.settings.to_dict())
    config.latent = (8, 8, 2)
    two = experiment.build(config)
    with pytest.raises(ValueError, match=r"`config.latent`: got .*declare how it reads them"):
        graceful.constraint([deployed], two, UpdateOptions())
    with pytest.raises(ValueError, match="`deployed`: got none"):
        graceful.constraint([], deeper, UpdateOptions())


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"encoders": "frozen"}, "`graceful.encoders`: got 'frozen'"),
        ({"heads": -1.0}, "`graceful.heads`: got -1.0, expected a number, 0 or more"),
        ({"mix": 1.5}, "`graceful.mix`: got 1.5"),
        ({"temperature": 0.0}, "`graceful.temperature`: got 0.0"),
        ({"distance": "cosine"}, "`graceful.distance`: got 'cosine'"),
    ],
)
def test_bad_options(fields, words):
    with pytest.raises(ValueError, match=words):
        UpdateOptions(**fields)
