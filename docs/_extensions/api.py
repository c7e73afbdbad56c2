"""Writes a page of the reference for every package with public names, for Sphinx's autodoc.

Each page has a table of the names, then each name's entry from its docstring. What
`public.complaints` finds is a warning, so that a build with -W fails on it.
"""

import importlib
import inspect
import re
from pathlib import Path
from types import ModuleType

from sphinx.application import Sphinx
from sphinx.domains.python import PyClasslike
from sphinx.ext.napoleon import Config, GoogleDocstring
from sphinx.util import logging

from docs._extensions import public

_LOGGER = logging.getLogger(__name__)
# JAX, Flax and dataclasses call these, users never do.
_STYLE = Config(napoleon_use_ivar=True, napoleon_use_rtype=False, napoleon_attr_annotations=False)
_FOR_JAX = re.compile(r"tree_flatten\w*|tree_unflatten|setup|parent|scope|name")


def setup(app: Sphinx) -> dict[str, bool]:
    """Registers the steps with Sphinx."""
    for field in PyClasslike.doc_field_types:
        if field.name == "variable":
            field.label = "Attributes"
    app.connect("builder-inited", write_pages)
    app.connect("autodoc-skip-member", skip_member)
    app.connect("autodoc-process-docstring", read_docstring)
    app.connect("autodoc-process-signature", short_defaults)
    return {"parallel_read_safe": True}


def write_pages(app: Sphinx) -> None:
    """Writes `api/`: a page a package, and one that lists them; removes pages of others."""
    for complaint in public.complaints():
        _LOGGER.warning("%s", complaint)
    folder = Path(app.srcdir) / "api"
    folder.mkdir(exist_ok=True)
    homes, reasons = public.homes(), public.elsewhere()
    pages = {"index": index_page(public.packages())} | {
        package: package_page(package, homes, reasons) for package in public.packages()
    }
    for stale in {file.stem for file in folder.iterdir()} - set(pages):
        (folder / f"{stale}.rst").unlink()
    for name, text in pages.items():
        file = folder / f"{name}.rst"
        if not file.exists() or file.read_text(encoding="utf-8") != text:
            file.write_text(text, encoding="utf-8")


def index_page(packages: list[str]) -> str:
    """The page that lists all packages."""
    rows = [
        row(f":doc:`{package} <{package}>`", first_sentence(importlib.import_module(package)))
        for package in packages
    ]
    tree = [f"   {package.removeprefix(public.ROOT + '.')} <{package}>" for package in packages]
    lead = (
        "Every public name, with its docstring and its example. What a package does not list in\n"
        "``__all__`` is not public: it may change without a word in the list of changes.\n"
    )
    return "\n".join(
        [
            *(heading("API reference"), lead, *table(rows), ""),
            *(".. toctree::", "   :hidden:", "   :maxdepth: 1", "", *tree, ""),
        ]
    )


def package_page(package: str, homes: dict[str, str], reasons: dict[str, str]) -> str:
    """The page of one package: its docstring, the table of its names, and their entries."""
    module = importlib.import_module(package)
    parts = [heading(package), f".. py:module:: {package}", ""]
    parts += [*module_text(module), ""]
    full = [f"{package}.{name}" for name in public.names(package)]
    parts += table([row(link(homes[name], name), first_sentence(name)) for name in full])
    for name in full:
        if homes[name] == name and not inspect.ismodule(public.value_of(name)):
            parts += ["", *entry(name), ""]
        if name in reasons:
            parts += ["   .. rubric:: Example", "", f"   {reasons[name]}", ""]
    return "\n".join(parts) + "\n"


def module_text(module: ModuleType) -> list[str]:
    """A module's docstring."""
    lines = as_restructured_text(inspect.cleandoc(module.__doc__ or "").splitlines())
    return GoogleDocstring(lines, _STYLE, None, "module", module.__name__, module).lines()


def entry(name: str) -> list[str]:
    """The directive that shows one name in full."""
    value = public.value_of(name)
    if not public.is_data(value):
        kind = "autoclass" if inspect.isclass(value) else "autofunction"
        members = ["   :members:"] if inspect.isclass(value) else []
        return [f".. {kind}:: {name}", *members, ""]
    shown = repr(value)
    lines = as_restructured_text(public.docstring(name).splitlines())
    # A value that does not say what it is, such as one with addresses of functions, is left out.
    brief = [f"   :value: {shown}"] if len(shown) <= 100 and " at 0x" not in shown else []
    return [
        f".. py:data:: {name.rpartition('.')[2]}",
        *brief,
        "",
        *(f"   {line}" for line in lines),
        "",
    ]


def link(home: str, name: str) -> str:
    """A link to where a name is shown."""
    short = name.rpartition(".")[2]
    if inspect.ismodule(public.value_of(name)):
        target = public.value_of(name).__name__
        return f":py:mod:`{short} <{target}>`" if target in public.packages() else f"``{short}``"
    return f":py:obj:`{short} <{home}>`"


def first_sentence(of: object) -> str:
    """The first sentence of a docstring, given a module or a public name."""
    text = public.docstring(of) if isinstance(of, str) else inspect.cleandoc(of.__doc__ or "")
    return escaped(" ".join(text.split("\n\n")[0].split()))


def heading(text: str) -> str:
    """A page's title."""
    return f"{text}\n{'=' * len(text)}\n"


def row(*cells: str) -> list[str]:
    """One row of a table."""
    return [f"   {'*' if first else ' '} - {cell}" for first, cell in zip((True, False), cells)]


def table(rows: list[list[str]]) -> list[str]:
    """A table of two columns."""
    head = [".. list-table::", "   :class: names", "   :widths: 35 65", ""]
    return head + [line for lines in rows for line in lines]


def skip_member(
    app: Sphinx, what: str, name: str, value: object, skip: bool, options: object
) -> bool | None:
    """Leaves out the methods that exist for JAX and Flax."""
    del app, what, options
    # Python's own docstring of a field of a named tuple, whose class describes it.
    is_field = (inspect.getdoc(value) or "").startswith("Alias for field number")
    return True if skip or is_field or _FOR_JAX.fullmatch(name) else None


def short_defaults(
    app: Sphinx,
    what: str,
    name: str,
    value: object,
    options: object,
    signature: str | None,
    result: str | None,
) -> tuple[str | None, str | None]:
    """Shows defaults that are no Python, such as those of a factory, as `...`."""
    del app, what, name, value, options
    return re.sub(r"= ?<.*?>(?=[,)])", "= ...", signature or "") or None, result


def read_docstring(
    app: Sphinx, what: str, name: str, value: object, options: object, lines: list[str]
) -> None:
    """Turns a docstring in Google's style into reStructuredText."""
    del app, options
    # Napoleon takes "word: text" of an attribute for its type; here annotations have the types.
    kind = "method" if what in ("attribute", "property") else what
    marked = as_restructured_text(lines)
    lines[:] = GoogleDocstring(marked, _STYLE, None, kind, name, value).lines()


def as_restructured_text(lines: list[str]) -> list[str]:
    """The plain text of a docstring as reStructuredText, its sections left for Napoleon.

    Formulas are kept line by line, and asterisks are asterisks.
    """
    result: list[str] = []
    section = ""
    for paragraph in paragraphs(lines):
        heading_of_section = re.fullmatch(r"([A-Z]\w+):", paragraph[0])
        section = heading_of_section[1] if heading_of_section else section
        if not section and is_formula(paragraph):
            indent = " " * (4 - min(4, len(paragraph[0]) - len(paragraph[0].lstrip())))
            result += ["::", "", *(indent + line for line in paragraph), ""]
            continue
        if section != "Example":
            paragraph = [escaped(line) for line in paragraph]
        if paragraph[0] in ("Returns:", "Yields:"):
            # Napoleon would take what stands before a colon for the type.
            field = ":returns:" if paragraph[0] == "Returns:" else ":yields:"
            paragraph = [f"{field} {paragraph[1].strip()}", *paragraph[2:]]
        result += [*paragraph, ""]
    return result


def paragraphs(lines: list[str]) -> list[list[str]]:
    """The lines between empty lines."""
    parts: list[list[str]] = [[]]
    for line in lines:
        if line.strip():
            parts[-1].append(line)
        elif parts[-1]:
            parts.append([])
    return [part for part in parts if part]


def escaped(line: str) -> str:
    """A line whose asterisks and bars, outside of code, mean themselves; as in "`int`s" too."""
    pieces = line.split("`")
    for index in range(0, len(pieces), 2):
        pieces[index] = re.sub(r"([*|])", r"\\\1", pieces[index])
        if index and re.match(r"\w", pieces[index]):
            pieces[index] = "\\ " + pieces[index]
    return "`".join(pieces)


def is_formula(paragraph: list[str]) -> bool:
    """Whether a paragraph holds formulas, to be shown line by line.

    Such a paragraph is indented, or its first line has a sign of relation and its last one no full
    stop: `mean = sqrt(r_t) z_0`.
    """
    if paragraph[0].startswith("    "):
        return True
    has_relation = re.match(r"[^.:;]{1,40} [=≤≈∝~←] ", paragraph[0])
    return bool(has_relation) and not paragraph[-1].rstrip().endswith((".", ":"))
