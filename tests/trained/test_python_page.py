"""The code of docs/python.md runs as it stands, as a doctest in a folder with a trained `W`."""

import doctest
import re
from pathlib import Path

import mmdiffusion_jax as mm
from mmdiffusion_jax import shipped

PAGE = Path(__file__).resolve().parents[2] / "docs" / "python.md"
FLAGS = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE


def test_the_page(finished, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "W").symlink_to(finished)
    text = PAGE.read_text(encoding="utf-8")
    code = "\n".join(re.findall(r"```python\n(.*?)```", text, re.S))
    test = doctest.DocTestParser().get_doctest(code, {}, PAGE.name, str(PAGE), 0)
    assert len(test.examples) > 20
    outcome = doctest.DocTestRunner(optionflags=FLAGS).run(test)
    assert outcome.failed == 0, capsys.readouterr().out
    assert (tmp_path / "threes.png").stat().st_size > 100


def test_the_readme(model, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(mm, "load", lambda place: model if place == "W" else None)
    text = (PAGE.parents[1] / "README.md").read_text(encoding="utf-8")
    (code,) = (x for x in re.findall(r"```python\n(.*?)```", text, re.S) if "mm.load" in x)
    exec(code, {"mm": mm})
    assert (tmp_path / "threes.png").stat().st_size > 100


def test_its_commands_are_launch_scripts():
    commands = re.findall(r"^mmdiffusion (\w+)", PAGE.read_text(encoding="utf-8"), re.M)
    assert len(commands) == 4
    assert all((shipped.folder("launch") / f"{name}.py").is_file() for name in commands)
