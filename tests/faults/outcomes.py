"""What a run leaves behind, to compare bit for bit."""

import json

import jax
import numpy as np

from mmdiffusion_jax import experiment, files, training


def outcome(workdir, template):
    """All that does not depend on the machine, to compare by ==; `template` is a state."""
    text = files.read_lines(workdir / "metrics.jsonl").decode()
    lines = [json.loads(line) for line in text.splitlines()]
    contents = {
        "metrics": [{k: v for k, v in x.items() if not k.startswith("speed/")} for x in lines],
        "pictures": {x.name: x.read_bytes() for x in (workdir / "samples").glob("*.png")},
    }
    for name in ("checkpoints", "best"):
        if not (workdir / name).exists():
            continue
        with training.Checkpoints(workdir / name, read_only=True) as checkpoints:
            steps = checkpoints.steps()
            restored = checkpoints.restore(template)
        leaves = jax.tree_util.tree_leaves_with_path(restored.state)
        contents[name] = {
            "steps": steps,
            "position": restored.position,
            "state": {jax.tree_util.keystr(path): as_bytes(leaf) for path, leaf in leaves},
        }
    return contents


def differences(outcome, expected, place=""):
    """Where two outcomes differ, with both values where they are short."""
    if isinstance(outcome, dict) and isinstance(expected, dict):
        return [
            line
            for key in sorted({*outcome, *expected})
            for line in differences(outcome.get(key), expected.get(key), f"{place}/{key}")
        ]
    return [] if outcome == expected else [f"{place}: {outcome!r:.200}, not {expected!r:.200}"]


def outcome_of_launch(workdir):
    """The same of a run of launch/train.py."""
    built = experiment.build(experiment.read_config(workdir))
    return outcome(workdir, experiment.abstract_state(built, training.make_mesh()))


def as_bytes(leaf):
    key = jax.dtypes.issubdtype(leaf.dtype, jax.dtypes.prng_key)
    return np.asarray(jax.random.key_data(leaf) if key else leaf).tobytes()


def leftovers(workdir):
    """What a run leaves that was killed, and one that was not does not."""
    return [
        path
        for path in workdir.rglob("*")
        if path.name.startswith(".") or path.name.endswith(".orbax-checkpoint-tmp")
    ]
