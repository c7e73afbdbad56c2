"""Errors about bad input: each names the argument, what came, what was expected, and the mend."""

import difflib
import importlib.util
from collections.abc import Collection, Iterable, Mapping

# What other libraries and papers call it, without capitals, "_" and "-" → our names, of which only
# known ones are suggested. Letters alone often mislead: "precision" is near "positions".
_SYNONYMS: Mapping[str, tuple[str, ...]] = {
    word: ours
    for words, ours in (
        ("precision computedtype floattype", ("dtype",)),
        ("lr rate stepsize maxlr peaklr baselr initlr", ("learning_rate",)),
        ("bs batchsize batch globalbatchsize trainbatchsize microbatchsize", ("batch_size",)),
        ("steps numsteps maxsteps trainsteps numtrainsteps totalsteps iterations", ("num_steps",)),
        ("numiterations iters niter maxiter epochs numepochs maxepochs", ("num_steps",)),
        ("numtrainingsteps kimg totalkimg numupdates", ("num_steps",)),
        ("timesteps numtimesteps diffusionsteps numtraintimesteps", ("num_steps",)),
        ("numinferencesteps inferencesteps samplingsteps numsamplingsteps nfe", ("num_steps",)),
        ("warmup numwarmupsteps warmupiters lrwarmupsteps", ("warmup_steps",)),
        ("wd decay l2", ("weight_decay",)),
        ("clip gradclip clipgrad clipnorm maxgradnorm gradientclipval", ("gradient_clip",)),
        ("ema emarate emahalflife emamomentum polyak", ("ema_decay",)),
        ("gradaccum gradientaccumulation gradientaccumulationsteps", ("accumulate",)),
        ("accumulategradbatches gradaccumsteps accum", ("accumulate",)),
        ("saveevery savesteps saveinterval ckptevery checkpointinterval", ("checkpoint_every",)),
        ("loggingsteps loginterval logeverynsteps printfreq", ("log_every",)),
        ("evalsteps evalinterval evalfreq validateevery", ("eval_every",)),
        ("savetotallimit maxtokeep keeplast", ("keep",)),
        ("monitor bestmetricname metricforbestmodel", ("best_metric",)),
        ("hiddensize hiddendim dim embeddim dmodel modeldim channels modelchannels", ("width",)),
        ("basechannels nchannels numchannels", ("width",)),
        ("layers numlayers nlayers numhiddenlayers numblocks", ("depth",)),
        ("heads nheads nhead numattentionheads", ("num_heads",)),
        ("patch", ("patch_size",)),
        ("channelmult channelmultiplier chmult", ("channel_mults",)),
        ("resblocks numresnetblocks layersperblock", ("num_res_blocks",)),
        ("gradientcheckpointing checkpointing activationcheckpointing recompute", ("remat",)),
        ("randomseed rng prngseed", ("seed",)),
        ("betaschedule noiseschedule", ("schedule",)),
        ("predictiontype parameterization parametrization objective", ("target",)),
        ("epsilon eps", ("noise",)),
        ("x0 sample", ("z_0",)),
        ("vprediction velocity", ("v",)),
        ("cfg cfgscale guidancescale guidanceweight classifierfreeguidance", ("guidance",)),
        ("solver scheduler method", ("sampler", "grid")),
        ("dpm++ dpm++2m dpmsolver++ dpmpp2m dpmsolvermultistep", ("dpm_solver_pp",)),
        ("dpm++2msde dpmpp2msde", ("dpm_solver_pp_2m_sde",)),
        ("dpm++3m dpmpp3m", ("dpm_solver_pp_3m",)),
        ("ddpm", ("ancestral",)),
        ("edm", ("karras", "heun")),
        ("dataset datasetname", ("source", "data")),
        ("datadir dataroot datapath root", ("folder",)),
        ("nsamples samples numimages", ("num_samples",)),
        ("model network arch architecture", ("backbone",)),
        ("train trainer", ("training",)),
        ("optimizer optim", ("optimiser", "training")),
        ("eval validation", ("evaluation",)),
        ("sampler inference generation", ("sampling",)),
        ("diffusion", ("process",)),
        ("mesh parallel", ("sharding",)),
        ("type name", ("kind",)),
        ("logdir outputdir outdir savedir rundir", ("workdir", "out")),
    )
    for word in words.split()
}


def message(argument: str, got: object, expected: str, mend: str) -> str:
    """Words one error: the argument, what it got, what was expected, and how to mend it.

    Args:
        argument: the name the caller knows the value by.
        got: what came, shown by its `repr` unless it is already a phrase (a `str`).
        expected: what would have been right.
        mend: what the caller can do about it.

    Returns:
        A single sentence, ready to be raised.

    Example:
        >>> message("num_steps", 0, "a whole number of at least 1", "raise it")
        '`num_steps`: got 0, expected a whole number of at least 1; raise it.'
    """
    shown = got if isinstance(got, str) else repr(got)
    end = "" if mend.endswith("?") else "."
    return f"`{argument}`: got {shown}, expected {expected}; {mend}{end}"


def invalid(argument: str, got: object, expected: str, mend: str) -> ValueError:
    """The error for a bad argument, ready to be raised; arguments as `message`.

    Example:
        >>> raise invalid("num_steps", 0, "a whole number of at least 1", "raise it")
        Traceback (most recent call last):
        ValueError: `num_steps`: got 0, expected a whole number of at least 1; raise it.
    """
    return ValueError(message(argument, got, expected, mend))


def unknown(
    argument: str, got: object, known: Iterable[str], mend: str = "", none: str = ""
) -> ValueError:
    """The error for a name that is not among the known ones, with the nearest of them.

    What other libraries call a thing is nearer than a name of similar letters.

    Args:
        argument: the name the caller knows the value by.
        got: the unknown name.
        known: the names that would have been right.
        mend: how to mend it; left out, "use one of these" or the nearest name.
        none: why there are no known names at all, where that can be.

    Returns:
        The error, ready to be raised; its text is a single sentence.

    Example:
        >>> str(unknown("target", "nose", ["noise", "z_0", "v"]))
        "`target`: got 'nose', expected one of 'noise', 'v', 'z_0'; did you mean 'noise'?"
        >>> str(unknown("backbone", "precision", ["dtype", "positions"]))
        "`backbone`: got 'precision', expected one of 'dtype', 'positions'; did you mean 'dtype'?"
        >>> str(unknown("weights", "x", [], none="the model has no secondary"))
        "`weights`: got 'x', expected no entry, as the model has no secondary; leave it out."
    """
    names = sorted(known)
    expected = "one of " + ", ".join(map(repr, names))
    if not names:
        expected = f"no entry, as {none or 'there are no names to choose from'}"
    near = nearest(str(got), names)
    if near:
        text = message(argument, repr(got), expected, f"did you mean {near[0]!r}?")
        return ValueError(text + (f" {mend}." if mend else ""))
    return invalid(
        argument, repr(got), expected, mend or ("use one of these" if names else "leave it out")
    )


def check_installed(what: str, packages: Iterable[str] = ("absl", "flax", "optax")) -> None:
    """Checks that the packages of the extra `train` are there.

    Args:
        what: is asked for, and needs them.
        packages: the modules that are looked for; none is imported.

    Raises:
        ModuleNotFoundError: one of them is not installed.

    Example:
        >>> check_installed("mmdiffusion train", ["jax", "flux"])
        Traceback (most recent call last):
        ModuleNotFoundError: `mmdiffusion train`: got no package flux, expected it to be
        installed; pip install "mmdiffusion_jax[train]" (in a clone: pip install -e ".[train]").
    """
    for name in packages:
        if importlib.util.find_spec(name) is None:
            mend = 'pip install "mmdiffusion_jax[train]" (in a clone: pip install -e ".[train]")'
            text = message(what, f"no package {name}", "it to be installed", mend)
            raise ModuleNotFoundError(text, name=name)


def nearest(name: str, known: Collection[str], cutoff: float = 0.5) -> list[str]:
    """The known name that another may have meant, by its meaning or by its letters: one or none.

    It is never the name itself. `cutoff` is the least likeness of letters, 0 … 1, as in `difflib`.

    Example:
        >>> nearest("lr", ["learning_rate", "log_every"]), nearest("lern_rate", ["learning_rate"])
        (['learning_rate'], ['learning_rate'])
        >>> nearest("a.npz", ["a.npz", "x"])
        []
    """
    plain = name.lower().replace("_", "").replace("-", "").replace(" ", "")
    meant = [ours for ours in _SYNONYMS.get(plain, ()) if ours in known and ours != name]
    others = [other for other in known if other != name]
    return meant[:1] or difflib.get_close_matches(name, others, n=1, cutoff=cutoff)
