"""Builds the site: `make docs`, into docs/_build/html."""

import importlib.metadata
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

import mmdiffusion_jax  # noqa: E402 (from the root)

project = "mmdiffusion_jax"
release = version = mmdiffusion_jax.__version__
extensions = [
    "myst_nb",
    "sphinx.ext.autodoc",
    "docs._extensions.api",
    "docs._extensions.links",
    "docs._extensions.mathml",
]
exclude_patterns = ["_build", "_extensions"]


def _repository() -> str:
    """The address of the source's files, where the package's metadata name a repository."""
    try:
        urls = importlib.metadata.metadata(project).get_all("Project-URL") or []
    except importlib.metadata.PackageNotFoundError:
        return ""
    pairs = dict(url.split(", ", 1) for url in urls)
    sources = [pairs[name] for name in ("Repository", "Source") if name in pairs]
    return f"{sources[0].rstrip('/')}/blob/main" if sources else ""


repository = _repository()
# Files outside of docs/ that pages of the site show.
pages_of_files = {
    "README.md": "index",
    "CHANGELOG.md": "changelog",
    "benchmarks/results.md": "benchmark_figures",
    **{f"configs/{x.name}": f"configs#{x.stem}" for x in (ROOT / "configs").glob("[a-z]*.py")},
}

# Markdown as GitHub reads it: links to headings, formulas between dollars, tables, task lists.
myst_enable_extensions = ["dollarmath"]
myst_heading_anchors = 4
# Notebooks are shown with the outputs that they have.
nb_execution_mode = "off"
nb_render_markdown_format = "myst"  # with tables

add_module_names = False
autodoc_member_order = "bysource"
autodoc_typehints_format = "short"
python_maximum_signature_line_length = 80
trim_doctest_flags = True
toc_object_entries_show_parents = "hide"

# A reference that leads nowhere is a warning. These are types in signatures: those of other
# libraries, and of ours those that are no public names.
nitpicky = True
nitpick_ignore_regex = [
    ("py:class", r"(absl|collections|contextlib|flax|jax|jaxlib|ml_collections)\..*"),
    ("py:class", r"(numpy|optax|os|pathlib|PIL|types)\..*"),
]
nitpick_ignore = [
    ("py:class", f"mmdiffusion_jax.{name}")
    for name in (
        "apps.distributed.Processes",
        "evaluation.samplers.Figures",
        "experiment.formulation.Model",
        "experiment.sections.reading.Section",
        "experiment.transfer.Transfer",
        "graceful.updates.report.Denoising",
        "graceful.updates.report.Search",
        "means.Mean",
        "metrics.features.perceptual.FeatureMaps",
        "metrics.features.small.ClassifierSizes",
        "modalities.masked_image.Array",
        "model.tasks.Task",
        "sampling.order.Ordered",
        "sampling.steppers.heun.Trapezoid",
        "sampling.steppers.multistep.Move",
        "training.guard.Guard",
        "training.report.StepReport",
        "training.speed.StepCost",
        "training.step.Step",
        "training.writers.Mirror",
    )
]

html_theme = "furo"
html_title = project
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_math_renderer = "mathml"
html_copy_source = False
html_show_sphinx = False
