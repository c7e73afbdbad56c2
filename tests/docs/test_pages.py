"""The pages of docs/: what of the site can be checked without building it."""

import importlib
import re
from pathlib import Path

import pytest

from docs._extensions import public

DOCS = Path(__file__).resolve().parents[2] / "docs"
PAGES = sorted(DOCS.glob("*.md"))
TOCTREES = re.findall(
    r"```\{toctree\}\n(.*?)```", (DOCS / "index.md").read_text(encoding="utf-8"), re.S
)
ENTRIES = [
    re.sub(r".*<(.*)>", r"\1", line)
    for tree in TOCTREES
    for line in tree.splitlines()
    if line and not line.startswith(":")
]


def test_every_page_is_in_one_toctree():
    # The pages of the reference are written by the build, the notebooks come by their folder.
    entries = [entry for entry in ENTRIES if entry not in ("api/index", "notebooks/*")]
    assert sorted(entries) == sorted(page.stem for page in PAGES if page.stem != "index")
    assert {"api/index", "notebooks/*"} <= set(ENTRIES)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_links_lead_to_files_and_headings(page):
    """Also on GitHub: relative paths, and headings by their text."""
    for target in re.findall(r"\]\(([^)\s]+)\)", page.read_text(encoding="utf-8")):
        if target.startswith("https://"):
            continue
        path, _, anchor = target.partition("#")
        file = (page.parent / path) if path else page
        assert file.is_file(), target
        if anchor:
            headings = re.findall(r"^#+ (.*)$", file.read_text(encoding="utf-8"), re.M)
            assert anchor in [slug(heading) for heading in headings], target


def slug(heading):
    """The name of a heading in links, as GitHub makes it."""
    return re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")


@pytest.mark.parametrize(
    "page", [DOCS / "mathematics.md", DOCS / "losses.md"], ids=lambda p: p.stem
)
def test_names_beside_formulas_are_public(page):
    """Each name in code style that begins with a package is one of its public names."""
    text = re.sub(r"```.*?```", "", page.read_text(encoding="utf-8"), flags=re.S)
    names = re.findall(r"`((?:process|model|objective|sampling)\.\w+)`", text)
    assert len(names) > 8
    for name in names:
        package, _, short = name.partition(".")
        assert short in importlib.import_module(f"mmdiffusion_jax.{package}").__all__, name


def test_every_package_of_the_architecture_is_in_the_reference():
    page = (DOCS / "architecture.md").read_text(encoding="utf-8")
    floors = re.findall(r"^\| `(\w+)` \|", page, re.M)
    assert len(floors) > 10
    assert {f"mmdiffusion_jax.{floor}" for floor in floors} <= set(public.packages())


def test_the_code_of_configs_is_shown():
    shown = re.findall(
        r"literalinclude\} \.\./configs/(\w+)\.py", (DOCS / "configs.md").read_text()
    )
    configs = (DOCS.parent / "configs").glob("[a-z]*.py")
    assert sorted(shown) == sorted(file.stem for file in configs)
