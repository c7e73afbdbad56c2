"""The public names of the package: what each package's `__all__` lists, and where it is shown."""

import ast
import functools
import importlib
import inspect
import pkgutil
import tomllib
import types
from pathlib import Path
from types import ModuleType

DOCS = Path(__file__).resolve().parents[1]
ROOT = "mmdiffusion_jax"


def packages() -> list[str]:
    """Every package with public names, the root first, `pure` last.

    A name that several of them list is shown in full in the first.
    """
    root = importlib.import_module(ROOT)
    below = [
        module.name
        for module in pkgutil.walk_packages(root.__path__, f"{ROOT}.")
        if module.ispkg and hasattr(importlib.import_module(module.name), "__all__")
    ]
    return [ROOT, *sorted(below, key=lambda name: (name.count("."), name)), f"{ROOT}.pure"]


@functools.cache
def homes() -> dict[str, str]:
    """Every public name with its package → the same, or the name under which it is shown in full.

    A name that is a package or a module is its own home.
    """
    first: dict[tuple[str, int], str] = {}
    return {
        f"{package}.{name}": first.setdefault((name, id(value)), f"{package}.{name}")
        for package in packages()
        for name in names(package)
        for value in [value_of(f"{package}.{name}")]
    }


def names(package: str) -> list[str]:
    """What a package lists, types before functions before all else, sorted within each."""
    module = importlib.import_module(package)
    return sorted(module.__all__, key=lambda name: (_rank(getattr(module, name)), name.lower()))


def value_of(public_name: str) -> object:
    """The value of a public name, given with its package."""
    package, _, name = public_name.rpartition(".")
    return getattr(importlib.import_module(package), name)


def is_data(value: object) -> bool:
    """Whether a value is neither a class nor a function nor a module: a constant or an alias."""
    return not (inspect.isclass(value) or inspect.isroutine(value) or inspect.ismodule(value))


def docstring(public_name: str) -> str:
    """The docstring of a public name; of a constant, the string below its assignment.

    It is empty where there is none. The docstring that Python gives a dataclass is none.
    """
    value = value_of(public_name)
    if is_data(value):
        package, _, name = public_name.rpartition(".")
        return _below_assignment(importlib.import_module(package), name)
    text = inspect.cleandoc(value.__doc__ or "")
    return "" if text.startswith(f"{getattr(value, '__name__', '')}(") else text


def has_example(public_name: str) -> bool:
    """Whether a docstring has an example: of a function, of a class or of one of its methods."""
    value = value_of(public_name)
    # A number that a class holds has the docstring of `int`, with that one's example.
    kinds = (types.FunctionType, classmethod, staticmethod, property, functools.cached_property)
    held = vars(value).values() if inspect.isclass(value) else ()
    texts = [method.__doc__ or "" for method in held if isinstance(method, kinds)]
    return any(">>> " in text for text in [docstring(public_name), *texts])


def elsewhere() -> dict[str, str]:
    """Public names without an example of their own → where their use is shown, or why nowhere."""
    table = tomllib.loads((DOCS / "_extensions" / "elsewhere.toml").read_text(encoding="utf-8"))
    return {
        f"{ROOT}.{name}": entry["reason"] for entry in table["reasons"] for name in entry["names"]
    }


def complaints() -> list[str]:
    """What the reference lacks: names without a docstring, or without an example and a reason."""
    reasons, shown = elsewhere(), set(homes().values())
    lacking = [f"{name}: no docstring" for name in sorted(shown) if not docstring(name)]
    for name in sorted(shown):
        value = value_of(name)
        if inspect.ismodule(value) or is_data(value) or has_example(name):
            if name in reasons:
                lacking.append(
                    f"{name}: has an example or needs none, and stands in elsewhere.toml"
                )
        elif name not in reasons:
            lacking.append(f"{name}: neither an example nor a reason in elsewhere.toml")
    unknown = sorted(set(reasons) - shown)
    return lacking + [
        f"{name}: stands in elsewhere.toml, but is no public name" for name in unknown
    ]


def _rank(value: object) -> int:
    if inspect.isclass(value):
        return 0
    return 1 if inspect.isroutine(value) else 2


def _below_assignment(module: ModuleType, name: str) -> str:
    body = ast.parse(inspect.getsource(module)).body
    for node, after in zip(body, [*body[1:], None]):
        if isinstance(node, ast.ImportFrom) and name in [alias.name for alias in node.names]:
            return _below_assignment(importlib.import_module(node.module or ""), name)
        if isinstance(node, ast.ImportFrom) and [alias.name for alias in node.names] == ["*"]:
            source = importlib.import_module(node.module or "")
            if name in source.__all__:
                return _below_assignment(source, name)
        targets = node.targets if isinstance(node, ast.Assign) else [getattr(node, "target", None)]
        # "A, B = …" has the docstring of both below it.
        flat = [part for target in targets for part in getattr(target, "elts", [target])]
        if name in [target.id for target in flat if isinstance(target, ast.Name)]:
            is_text = isinstance(after, ast.Expr) and isinstance(after.value, ast.Constant)
            return inspect.cleandoc(after.value.value) if is_text else ""
    return ""
