"""The notebooks run, what they say of themselves is measured, and what they store is what ran."""

import importlib.util
import itertools
import os
import re
from pathlib import Path

import jax
import nbformat
import numpy as np
import pytest
from sklearn.datasets import load_digits
from sklearn.neighbors import KNeighborsClassifier

FOLDER = Path(__file__).resolve().parents[2] / "docs" / "notebooks"
NAMES = ("digits", "losses_in_your_own_code", "own_pictures", "replacing_a_model")
LARGEST = 1_000_000
# A path of the machine that ran it, in the text of an output.
ABSOLUTE = re.compile(r"(?<![\w.<])/(?:[a-z]+/)*(?:tmp|home|root|work|usr|var|opt|private|Users)\b")

_SPEC = importlib.util.spec_from_file_location("execute_notebooks", FOLDER / "execute.py")
execute = importlib.util.module_from_spec(_SPEC)
_SPEC.loader.exec_module(execute)

# {notebook: {printed title: (least at the small size, least as stored)}}
AT_LEAST = {
    "losses_in_your_own_code": {
        "agreement of the judge with true labels": (0.99, 0.99),
        **{
            f"{framework}, {question}": bounds
            for framework in ("Flax NNX", "Equinox", "Haiku")
            for question, bounds in {
                "point and label together": (0.6, 0.97),
                "points of given labels": (0.6, 0.97),
                "labels of given points": (0.95, 0.99),
            }.items()
        },
    },
    "digits": {
        "judge on real test images": (0.93, 0.97),
        "trained, image and label together": (0.6, 0.9),
        "images of given labels": (0.6, 0.9),
        "labels of given images": (0.8, 0.93),
        "labels by their scores": (0.6, 0.9),
    },
    "own_pictures": {
        "test pictures, of their class": (0.9, 0.99),
        "drawn together, of their class": (0.8, 0.95),
        "drawn together, pixels of masks by the rule": (0.75, 0.85),
        "flowers by name, of their class": (0.8, 0.95),
        "temples by name, of their class": (0.8, 0.95),
    },
    "replacing_a_model": {
        "graceful, labels found in the index": (0.9, 1.0),
        "codes of its own, images of given labels": (0.3, 0.8),
        "codes of graceful, images of given labels": (0.3, 0.8),
    },
}
AT_MOST = {
    "losses_in_your_own_code": {"untrained, points of given labels": (0.25, 0.25)},
    "digits": {
        "untrained, image and label together": (0.3, 0.3),
        "trained, bits per dimension": (4.5, 4.0),
    },
    "own_pictures": {"drawn together, with another's mask": (0.72, 0.72)},
    "replacing_a_model": {
        "free, labels found in the index": (0.5, 0.5),
        "codes of free, images of given labels": (0.25, 0.4),
        "graceful, error of the deployed denoiser on new codes": (1.1, 1.1),
    },
}
# What a last cell keeps, for a judge which the notebook does not know.
KEPT = {
    "losses_in_your_own_code": "**joint['Equinox']",
    "digits": "**asked",
    "own_pictures": (
        "image=joint['image'], mask=joint['mask'], flower=joint['label'] == names.index('flower')"
    ),
    "replacing_a_model": (
        "stored=codes, labels=labels, "
        "new=mm.load(folder / 'graceful').encode('label', np.arange(10))"
    ),
}


def printed(notebook):
    """{title: value} of all lines "title: value" that the cells print."""
    text = "".join(
        output.text
        for cell in notebook.cells
        for output in cell.get("outputs", [])
        if output.output_type == "stream"
    )
    return {title: float(x) for title, x in re.findall(r"^(.+): (-?\d+\.\d+)$", text, re.M)}


def check_claims(name, notebook, place):
    figures = printed(notebook)
    low = {
        title: figures[title] for title, x in AT_LEAST[name].items() if figures[title] < x[place]
    }
    high = {
        title: figures[title] for title, x in AT_MOST[name].items() if figures[title] > x[place]
    }
    assert (low, high) == ({}, {})
    return figures


def texts(notebook):
    for cell in notebook.cells:
        for output in cell.get("outputs", []):
            yield from output.get("text", "").splitlines()
            for kind, data in output.get("data", {}).items():
                if kind.startswith("text/"):
                    yield data


def of_points(kept):
    """The most probable label by Bayes' rule, of clusters on a circle."""
    turns = np.arctan2(kept["point"][:, 1], kept["point"][:, 0]) / (2 * np.pi)
    return np.round(10 * turns) % 10 == kept["label"]


def of_digits(kept):
    digits = load_digits()
    judge = KNeighborsClassifier(3).fit(digits.data, digits.target)
    return judge.predict(kept["image"].reshape(-1, 64) * (16 / 255)) == kept["label"]


def of_masks(kept):
    red, blue = kept["image"][..., 0].astype(int), kept["image"][..., 2].astype(int)
    is_flower = kept["flower"][:, None, None]
    return np.where(is_flower, red - blue > 40, blue < 150) == (kept["mask"] == 1)


def of_codes(kept):
    stored, new = (x.reshape(len(x), -1) for x in (kept["stored"], kept["new"]))
    distances = ((new[:, None] - stored) ** 2).sum(axis=2)
    return kept["labels"][distances.argmin(axis=1)] == np.arange(10)


@pytest.mark.long
@pytest.mark.parametrize(
    ("name", "judged", "title", "tolerance"),
    [
        ("losses_in_your_own_code", of_points, "Equinox, point and label together", 0.001),
        ("digits", of_digits, "images of given labels", 0.12),
        ("own_pictures", of_masks, "drawn together, pixels of masks by the rule", 0.001),
        ("replacing_a_model", of_codes, "graceful, labels found in the index", 0.11),
    ],
)
def test_a_notebook_runs_and_its_figures_hold(
    name, judged, title, tolerance, tmp_path, monkeypatch
):
    """Another judge, of what the notebook drew, comes to the figure that it printed."""
    monkeypatch.setenv("JAX_COMPILATION_CACHE_DIR", jax.config.jax_compilation_cache_dir)
    monkeypatch.setenv("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0.5")
    monkeypatch.setenv("KEPT", str(tmp_path / "kept.npz"))
    notebook = execute.read(FOLDER / f"{name}.ipynb")
    notebook.cells.append(nbformat.v4.new_code_cell(f"np.savez(os.environ['KEPT'], {KEPT[name]})"))
    execute.execute(notebook, tmp_path, "small")
    figures = check_claims(name, notebook, 0)
    with np.load(tmp_path / "kept.npz") as kept:
        assert np.mean(judged(kept)) == pytest.approx(figures[title], abs=tolerance)


@pytest.mark.parametrize("name", NAMES)
def test_what_is_stored_was_run_as_it_stands(name):
    file = FOLDER / f"{name}.ipynb"
    notebook = execute.read(file)
    assert file.stat().st_size < LARGEST
    assert notebook.metadata.mmdiffusion_jax.code == execute.digest(notebook), (
        "its code was changed after it was run: make notebooks"
    )
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert [cell.execution_count for cell in code] == list(range(1, len(code) + 1))
    assert not any("execution" in cell.metadata for cell in notebook.cells)
    outputs = [output for cell in code for output in cell.outputs]
    assert {output.output_type for output in outputs} <= {
        "stream",
        "display_data",
        "execute_result",
    }
    assert all(output.name == "stdout" for output in outputs if output.output_type == "stream")
    assert any("image/png" in output.get("data", {}) for output in outputs)
    assert [line for line in texts(notebook) if ABSOLUTE.search(line) or " at 0x" in line] == []
    check_claims(name, notebook, 1)


@pytest.mark.parametrize("name", NAMES)
def test_a_notebook_is_a_text(name):
    """A title, how long it takes, how it is installed, and a text before every cell of code."""
    cells = execute.read(FOLDER / f"{name}.ipynb").cells
    head = cells[0].source
    assert head.startswith("# ")
    assert "minutes" in head
    assert "[notebooks]" in head
    titles = [line for c in cells if c.cell_type == "markdown" for line in c.source.split("\n")]
    fenced = re.sub(r"```.*?```", "", "\n".join(titles), flags=re.S)
    assert len(re.findall(r"^# ", fenced, re.M)) == 1
    kinds = [cell.cell_type for cell in cells]
    assert ("code", "code") not in set(itertools.pairwise(kinds))


def test_all_notebooks_are_here():
    assert sorted(file.stem for file in FOLDER.glob("*.ipynb")) == sorted(NAMES)


def test_changed_code_is_told():
    notebook = execute.read(FOLDER / "digits.ipynb")
    before = execute.digest(notebook)
    notebook.cells[0].source += "."
    assert execute.digest(notebook) == before
    code = next(cell for cell in notebook.cells if cell.cell_type == "code")
    code.source += "\n"
    assert execute.digest(notebook) != before


def test_a_progress_bar_is_dropped_and_a_warning_is_not():
    bar = "  0%|          | 0/60 [00:00<?, ?step/s]\r100%|██████████| 60/60 [00:29<00:00]\n"
    bar += "E1129 17:27:05.255273 slow_operation_alarm.cc:140] The operation took 2m14s\n"
    output = nbformat.v4.new_output("stream", name="stderr", text=bar)
    assert execute.is_progress(output)
    output.text += "DeprecationWarning: old\n"
    with pytest.raises(ValueError, match="DeprecationWarning: old"):
        execute.is_progress(output)
    output.name = "stdout"
    assert not execute.is_progress(output)


def test_what_is_printed_in_a_row_is_one_output():
    """However the kernel cuts it, so that another run stores the same."""
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell("print('a'); print('b')")])
    texts = {"stdout": "a\n", "stderr": "  0%|    |"}
    cut = [nbformat.v4.new_output("stream", name=n, text=t) for n, t in [*texts.items()] * 2]
    notebook.cells[0].outputs = cut
    execute.normalise(notebook)
    assert [output.text for output in notebook.cells[0].outputs] == ["a\na\n"]


def test_the_search_for_paths_finds_one():
    for text in (f"{os.sep}tmp/x/y", "in /home/me", "(/private/var/folders)"):
        assert ABSOLUTE.search(text)
    assert not ABSOLUTE.search("and/or, 3/4, photos/temple/000.jpg")
