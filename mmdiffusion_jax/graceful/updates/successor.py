"""Trains the successor of a diffusion model, compatible with the deployed one.

Backward-compatible training for a model that generates. The deployed denoiser and its heads take
stored latents E_old(x), so the successor's encoders are trained for them as well,

    L = L_new + λ_d · ‖ε − ε_old(z_t, t)‖² + λ_h · Σ_i λ_i · CE(x_i, D_i,old(z_t, t))
        + λ_l · Σ_i ‖E_i,new − E_i,old‖²,

where z_t is made of E_new by the deployed process. The second term is the error of the deployed
ẑ_0, weighted by the signal-to-noise ratio; the third one is the frozen head of Shen et al. The
heads of the successor keep the decisions of the deployed ones by focal distillation (Yan et al.),
at the same t and with the same noise, or in one call where both are shown the primary.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
from flax import traverse_util

from mmdiffusion_jax import data, errors, experiment, training
from mmdiffusion_jax.graceful.methods.compatibility import mix_stored
from mmdiffusion_jax.graceful.methods.decisions import ensemble_logits, focal_distillation
from mmdiffusion_jax.graceful.updates.alignment import aligned_encoders
from mmdiffusion_jax.graceful.updates.bundle import Bundle, embedder_digest
from mmdiffusion_jax.graceful.updates.deployed import (
    LatentMap,
    deployed_terms,
    heads_at_noise,
    latent_distance,
    with_encoders,
)
from mmdiffusion_jax.graceful.updates.options import UpdateOptions
from mmdiffusion_jax.modalities import Modality
from mmdiffusion_jax.model import Diffusion, ModelFunctions, split_presence
from mmdiffusion_jax.networks import MultiModalModel


def constraint(
    deployed: Sequence[Bundle],
    built: experiment.Experiment,
    options: UpdateOptions,
    ensemble: Sequence[Bundle] = (),
) -> experiment.Constraint:
    """The loss, the initialisation and the frozen parameters of a successor.

    Args:
        deployed: the models in use, the oldest first; the decisions of the last are kept. More than
            one where latents of earlier generations are still stored.
        built: the successor's experiment.
        options: weights of the terms.
        ensemble: models whose mean logits are distilled in place of those of the last deployed
            model, with α = 1 and β = 0 (see `ensemble_logits`).

    Raises:
        ValueError: no deployed model, or a successor that cannot replace one; it names what
            differs.
    """
    if not deployed:
        raise errors.invalid("deployed", "none", "a bundle or more", "freeze one")
    for bundle in (*deployed, *ensemble):
        check_successor(bundle, built, options)
        check_embedder(bundle, embedder_digest(built))
    count = len(deployed)
    newest = deployed[-1]
    encoders = {
        name: experiment.encoder_paths(newest.built, name) for name in newest.built.model.modalities
    }
    paths = {path for of_one in encoders.values() for path in of_one}
    first = count if ensemble else count - 1
    filtered = dataclasses.replace(options, alpha=1.0, beta=0.0) if ensemble else options
    mix = options.mix if options.encoders == "compatible" else 0.0
    if options.encoders == "kept":
        _check_kept(newest, built, encoders)
    kept = paths if options.encoders == "kept" else set()

    def loss(params: Any, key: jax.Array, batch: Mapping[str, jax.Array], *constants: Any) -> Any:
        task_key, mix_key, key = jax.random.split(key, 3)
        flat = traverse_util.flatten_dict(params)
        params = _replaced(params, {path: jax.lax.stop_gradient(flat[path]) for path in kept})
        stored = newest.built.model.functions(constants[count - 1])
        mixed = _MixedModel(built.model, mix_key, newest, stored, mix)
        learning = dataclasses.replace(built.formulation, model=mixed) if mix else built.formulation
        total, metrics = learning.loss(params, task_key, batch).reduce()
        values, presence = split_presence(batch)
        functions = built.model.functions(params)
        held = zip(deployed, constants, strict=False) if options.encoders == "compatible" else ()
        for index, (bundle, old) in enumerate(held):
            terms = {}
            if options.heads or options.denoiser:
                noise_key = jax.random.fold_in(key, index)
                losses = _terms(noise_key, bundle, old, functions, values, presence)
                terms = dict(zip(("denoiser", "heads"), losses, strict=True))
            if options.latents:
                theirs = bundle.built.model.functions(old)
                known = bundle.known_batch(values, presence)
                terms["latents"] = latent_distance(functions, theirs, *known)
            for term, value in terms.items():
                total += getattr(options, term) * value
                metrics[f"deployed_{index}/{term}"] = value
        teachers = [(x, constants[first + i]) for i, x in enumerate(ensemble or [newest])]
        for number, name in enumerate(decided_by(newest) if options.flips else ()):
            noise_key = jax.random.fold_in(key, count + number)
            apart = _distillation(
                noise_key, (built, params), teachers, name, values, presence, filtered
            )
            total += options.flips * apart
            metrics[f"{name}/distillation"] = apart
        return total, {**metrics, "loss": total}

    def init(key: jax.Array, *constants: Any) -> Any:
        params = built.init(key)
        old = traverse_util.flatten_dict(constants[count - 1])
        fresh = traverse_util.flatten_dict(params)
        same = {path for path in fresh if _same(fresh[path], old.get(path))}
        if not options.warm_start:
            same &= set() if options.encoders == "free" else paths
        return _replaced(params, {path: old[path] for path in same})

    params = tuple(bundle.params for bundle in (*deployed, *ensemble))
    frozen = None
    if kept:
        flat = traverse_util.flatten_dict(built.param_shapes)
        frozen = traverse_util.unflatten_dict({path: path in kept for path in flat})
    return experiment.Constraint(loss, init, params, frozen)


def update(
    deployed: Sequence[Bundle],
    built: experiment.Experiment,
    source: data.Source,
    folder: Path,
    monitor: training.Monitor,
    options: UpdateOptions | None = None,
    ensemble: Sequence[Bundle] = (),
) -> training.TrainState:
    """Trains a successor of deployed models, or goes on with it.

    The arguments are those of `constraint` and `experiment.fit`.

    A step costs more than one of ordinary training: for every deployed model a forward and a
    backward pass of it, and for every categorical modality a forward pass of the deployed model and
    a forward and a backward pass of the successor. A weight of 0 saves its part.

    Returns:
        The state after the last step taken; `freeze` its average for `compare`.

    Raises:
        ValueError: as `constraint`.
    """
    options = options or UpdateOptions()
    constrained = constraint(deployed, built, options, ensemble)
    constrained = aligned(constrained, deployed[-1], built, source, options)
    return experiment.fit(built, source, folder, monitor, constrained)


def aligned(
    start: experiment.Constraint,
    newest: Bundle,
    built: experiment.Experiment,
    source: data.Source,
    options: UpdateOptions,
) -> experiment.Constraint:
    """The same constraint, initialised with encoders that were fitted to the deployed ones.

    It stays as it is where `options.encoders` is not "compatible" or `align` is 0.
    """
    if options.encoders != "compatible" or not options.align:
        return start
    params = jax.jit(start.init)(jax.random.key(built.seed), *start.constants)
    encoders = aligned_encoders(newest, built, params, source, options.align, built.seed)
    init = lambda key, *constants: _replaced(start.init(key, *constants), encoders)  # noqa: E731
    return dataclasses.replace(start, init=init)


def decided_by(bundle: Bundle) -> tuple[str, ...]:
    """The secondary categorical modalities, whose values a model predicts as decisions."""
    model = bundle.built.model
    return tuple(
        name
        for name, modality in sorted(model.modalities.items())
        if modality.is_categorical and name != model.primary
    )


def check_successor(
    bundle: Bundle, built: experiment.Experiment, options: UpdateOptions | None = None
) -> None:
    """Checks that an experiment can replace a deployed model; without options not its decisions.

    Raises:
        ValueError: another formulation, primary, or shape of the latent; a modality that is gone,
            takes other data, or has fewer classes; for decisions another number of steps.
    """
    options = options or UpdateOptions(flips=0)
    old, new = bundle.built, built
    for one in (old, new):
        if not one.formulation.has_bound:
            raise errors.invalid(
                "config.formulation",
                one.settings.formulation,
                "one with a single diffusion space, 'shared'",
                "only such models are updated",
            )
    if new.model.primary != old.model.primary:
        raise errors.invalid(
            "config.primary",
            new.model.primary,
            repr(old.model.primary),
            "generate the same modality",
        )
    was, now = old.settings.latent, new.settings.latent
    if was != now:
        raise errors.invalid(
            "config.latent",
            now,
            f"{was}, that of the deployed model",
            "or declare how it reads them in a loss of your own: with_encoders(…, mapping)",
        )
    steps = old.process.num_steps, new.process.num_steps
    if options.flips and steps[0] != steps[1]:
        raise errors.invalid(
            "config.process.num_steps",
            steps[1],
            f"{steps[0]}, as deployed: decisions are compared at the same t",
            "use as many, or set graceful.flips to 0",
        )
    for name, modality in old.model.modalities.items():
        theirs = new.model.modalities.get(name)
        if theirs is None:
            raise errors.invalid(
                "config.modalities",
                f"nothing for {name!r}",
                "every modality that is deployed",
                "a successor may add some and drop none",
            )
        modality.check_successor(name, theirs)


def check_embedder(bundle: Bundle, embedder: str) -> None:
    """Checks that embeddings are made by the deployed model's network, where both are known.

    Raises:
        ValueError: an embedder of another digest.
    """
    if bundle.embedder and embedder and embedder != bundle.embedder:
        raise errors.invalid(
            "config.data.embedder",
            f"weights of digest {embedder[:12]}",
            f"those of digest {bundle.embedder[:12]}, as deployed",
            "name the same file, or give embeddings of another network a new name",
        )


def _terms(
    key: jax.Array, bundle: Bundle, params: Any, successor: ModelFunctions, values: Any, masks: Any
) -> tuple[jax.Array, jax.Array]:
    built, section = bundle.built, bundle.built.settings.loss
    return deployed_terms(
        key,
        Diffusion(built.process, with_encoders(built.model.functions(params), successor)),
        *bundle.known_batch(values, masks),
        section.of_simple_loss() if section.kind == "simple" else None,
    )


def _distillation(
    key: jax.Array,
    successor: tuple[experiment.Experiment, Any],
    teachers: Sequence[tuple[Bundle, Any]],
    name: str,
    values: Any,
    masks: Any,
    options: UpdateOptions,
) -> jax.Array:
    """The mean of focal distillation over the entries of one modality whose truth is known."""
    built, params = successor
    primary = built.model.primary
    # As the decisions are made that are to stay: by one call, if the primary is shown to all.
    shown = (x.model.shows for x in (built, *(teacher.built for teacher, _ in teachers)))
    given = (primary,) if all(primary in names for names in shown) else ()
    # Of classes that came later a teacher reads nothing.
    old = [
        _heads(key, _diffusion(x.built, p), x.known_batch(values, masks), name, given)
        for x, p in teachers
    ]
    logits = _heads(key, _diffusion(built, params), (values, masks), name, given)
    old_logits = ensemble_logits(jnp.stack(old))
    known, classes = built.model.modalities[name].split_unknown(values[name])
    apart = focal_distillation(
        logits[..., : old_logits.shape[-1]],
        old_logits,
        classes,
        options.alpha,
        options.beta,
        options.distance,
        options.temperature,
    )
    if name in masks:
        present = masks[name]
        known = known * present.reshape(present.shape + (1,) * (known.ndim - present.ndim))
    return jnp.sum(apart * known) / jnp.maximum(jnp.sum(known), 1)


def _heads(
    key: jax.Array,
    diffusion: Diffusion,
    batch: tuple[Mapping[str, jax.Array], Mapping[str, jax.Array]],
    name: str,
    given: Sequence[str],
) -> jax.Array:
    names = diffusion.model.modalities
    values, masks = ({n: x for n, x in of_all.items() if n in names} for of_all in batch)
    return heads_at_noise(key, diffusion, values, name, masks, given)


def _diffusion(built: experiment.Experiment, params: Any) -> Diffusion:
    return Diffusion(built.process, built.model.functions(params))


@dataclasses.dataclass(frozen=True)
class _MixedModel:
    """The successor's model with encodings of the deployed one for a share of the examples.

    Attributes:
        model: the successor's.
        key: draws these examples.
        bundle: the deployed model.
        deployed: its functions, with parameters that may be traced.
        share: of these examples.
    """

    model: MultiModalModel
    key: jax.Array
    bundle: Bundle
    deployed: ModelFunctions
    share: float

    @property
    def modalities(self) -> Mapping[str, Modality]:
        """Those of the successor."""
        return self.model.modalities

    @property
    def primary(self) -> str:
        """That of the successor."""
        return self.model.primary

    @property
    def shares(self) -> Mapping[str, float] | None:
        """Those of the successor."""
        return self.model.shares

    def functions(self, params: Any, augmented: jax.Array | None = None) -> ModelFunctions:
        """The successor's functions, with encoders that mix."""
        functions = self.model.functions(params, augmented)
        modalities = dict(functions.modalities)
        for index, name in enumerate(sorted(self.deployed.modalities)):
            key = jax.random.fold_in(self.key, index)
            encode = self._mixing(name, modalities[name].encode, key)
            modalities[name] = dataclasses.replace(modalities[name], encode=encode)
        return dataclasses.replace(functions, modalities=modalities)

    def _mixing(self, name: str, encode: LatentMap, key: jax.Array) -> LatentMap:
        def mixed(x: jax.Array) -> jax.Array:
            new = encode(x)
            known, fits = self.bundle.built.model.modalities[name].readable(x)
            taken = mix_stored(key, new, self.deployed.modalities[name].encode(known), self.share)
            return jnp.where(fits.reshape(-1, *[1] * (new.ndim - 1)), taken, new)

        return mixed


def _check_kept(
    bundle: Bundle, built: experiment.Experiment, encoders: Mapping[str, Sequence[tuple[str, ...]]]
) -> None:
    """Checks that the successor has all parameters of the deployed encoders."""
    theirs = traverse_util.flatten_dict(bundle.params)
    ours = traverse_util.flatten_dict(built.param_shapes)
    for name, paths in encoders.items():
        for path in paths:
            if not _same(theirs[path], ours.get(path)):
                raise errors.invalid(
                    "graceful.encoders",
                    f"'kept', with another encoder of {name!r} ({'/'.join(path)})",
                    "the deployed encoders' own shapes",
                    "leave the modality as it is, or train a compatible encoder",
                )


def _same(one: Any, other: Any) -> bool:
    return other is not None and one.shape == other.shape and one.dtype == other.dtype


def _replaced(params: Any, leaves: Mapping[tuple[str, ...], Any]) -> Any:
    flat = traverse_util.flatten_dict(params)
    return traverse_util.unflatten_dict({**flat, **leaves})
