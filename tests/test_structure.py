"""The house itself: imports run downward, modules stay short."""

import ast
import re
import statistics
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "mmdiffusion_jax"
FLOORS = (
    "errors",
    "files",
    "ranges",
    "shipped",
    "means",
    "tensors",
    "process",
    "model",
    "sampling",
    "objective",
    "pure",
    "metrics",
    "modalities",
    "networks",
    "baselines",
    "data",
    "training",
    "experiment",
    "evaluation",
    "graceful",
    "report",
    "apps",
    "trained",
    "console",
    "__main__",
)
BELOW = {"errors", "files", "ranges"}
ALONE = {
    "metrics": BELOW | {"tensors"},
    "data": BELOW,
    "training": BELOW | {"means"},
    "graceful.methods": BELOW | {"metrics"},
}


def upward_imports(package: Path) -> list[str]:
    offences = []
    for file in sorted(package.rglob("*.py")):
        parts = file.relative_to(package).with_suffix("").parts
        room = ".".join(parts[:2])
        floor = room if room in ALONE else parts[0]
        if floor == "__init__":
            continue
        for node in ast.walk(ast.parse(file.read_text())):
            names = []
            if isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom) and node.module == "mmdiffusion_jax":
                names = [f"mmdiffusion_jax.{alias.name}" for alias in node.names]
            elif isinstance(node, ast.ImportFrom) and node.module:
                names = [node.module]
            for name in names:
                if not name.startswith("mmdiffusion_jax."):
                    continue
                path = name.split(".")[1:]
                other = room if floor == room == ".".join(path[:2]) else path[0]
                below = ALONE.get(floor) or set(FLOORS[: FLOORS.index(floor)])
                if other not in below | {floor}:
                    offences.append(f"{file.name}: {floor} imports {other}")
    return offences


def test_imports_run_downward():
    assert upward_imports(PACKAGE) == []


def test_the_page_has_the_floors_in_their_order():
    page = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    floors = re.findall(r"^\| `(\w+)` \|", page, re.M)
    assert floors == [floor for floor in FLOORS if (PACKAGE / floor).is_dir()]


@pytest.mark.parametrize(
    ("floor", "imported"),
    [("process", "networks"), ("metrics", "process"), ("graceful/methods", "graceful.updates")],
)
@pytest.mark.parametrize(
    "code", ["import {}", "if TYPE_CHECKING:\n    import {}", "def late():\n    import {}"]
)
def test_an_upward_import_is_seen(tmp_path, floor, imported, code):
    """Also one that only a type checker follows, or that a call makes."""
    (tmp_path / floor).mkdir(parents=True)
    (tmp_path / floor / "bad.py").write_text(code.format(f"mmdiffusion_jax.{imported}"))
    imported = imported.partition(".")[0]
    assert upward_imports(tmp_path) == [f"bad.py: {floor.replace('/', '.')} imports {imported}"]


@pytest.mark.parametrize(
    ("folder", "barred"),
    [
        ("mmdiffusion_jax", ("tests", "benchmarks", "launch")),
        ("benchmarks", ("tests", "launch")),
        ("launch", ("tests",)),
    ],
)
def test_what_stands_beside_the_package_is_not_imported(folder, barred):
    imports = re.compile(rf"^\s*(?:from|import) ({'|'.join(barred)})\b", re.MULTILINE)
    assert [f for f in (ROOT / folder).rglob("*.py") if imports.search(f.read_text())] == []


def kinds_asked_for(package: Path) -> list[str]:
    """Where a class of a modality is asked for outside the modalities' own floor."""
    kinds = {
        node.name
        for file in (PACKAGE / "modalities").glob("*.py")
        for node in ast.parse(file.read_text()).body
        if isinstance(node, ast.ClassDef) and file.stem not in ("base", "judging")
    }
    return [
        f"{file.name}: {ast.unparse(node)}"
        for file in sorted(package.rglob("*.py"))
        if "modalities" not in file.parts
        for node in ast.walk(ast.parse(file.read_text()))
        if isinstance(node, ast.Call) and ast.unparse(node.func) == "isinstance"
        if {part.split(".")[-1] for part in ast.unparse(node.args[1]).split(" | ")} & kinds
    ]


def test_a_modality_is_known_by_its_contract(tmp_path):
    wrong = "isinstance(kind, modalities.Label | Segmentation)"
    (tmp_path / "bad.py").write_text(wrong)
    assert kinds_asked_for(tmp_path) == [f"bad.py: {wrong}"]
    assert [call for call in kinds_asked_for(PACKAGE) if "tfds.features" not in call] == []


@pytest.mark.parametrize(
    ("module", "heavy"),
    [
        *(
            (floor, {"flax", "optax", "orbax", "grain"})
            for floor in ("process", "model", "objective", "sampling")
        ),
        ("apps", set()),
    ],
)
def test_what_is_not_needed_is_not_imported(module, heavy):
    """Pure floors need JAX only; a command starts without what but some of them need."""
    heavy = {"tensorflow", "tensorflow_datasets", "sklearn", "scipy", "matplotlib", "torch"} | heavy
    code = f"import sys, mmdiffusion_jax.{module}; print(sorted({heavy!r} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    assert done.stdout.strip() == "[]", done.stderr


def test_functions_take_few_arguments():
    many = {}
    for file in sorted(PACKAGE.rglob("*.py")):
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                arguments = [*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs]
                names = [
                    argument.arg for argument in arguments if argument.arg not in ("self", "cls")
                ]
                if len(names) > 7:
                    many[f"{file.relative_to(PACKAGE)}: {node.name}"] = names
    assert many == {}


def test_modules_stay_short():
    lines = {
        file.relative_to(ROOT): len(file.read_text().splitlines())
        for folder in ("mmdiffusion_jax", "benchmarks", "tests", "configs", "launch")
        for file in (ROOT / folder).rglob("*.py")
    }
    assert max(lines.values()) < 500, max(lines, key=lines.__getitem__)
    ours = [count for file, count in lines.items() if file.parts[0] == "mmdiffusion_jax"]
    assert statistics.median(ours) < 200
    launch = {file: count for file, count in lines.items() if file.parts[0] == "launch"}
    assert launch
    assert max(launch.values()) <= 60, launch
