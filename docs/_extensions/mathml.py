"""Formulas as MathML, which browsers show themselves: no script, no network."""

import re

from docutils import nodes
from docutils.utils.math import MathError
from docutils.utils.math.latex2mathml import tex2mathml
from sphinx.application import Sphinx
from sphinx.util import logging
from sphinx.writers.html5 import HTML5Translator

# docutils puts what is subscript to an accented letter below the letter, unless that is a group.
_ACCENT = re.compile(r"\\(?:bar|hat|tilde) ?(?:\\[a-z]+|\w)")
_LOGGER = logging.getLogger(__name__)


def setup(app: Sphinx) -> dict[str, bool]:
    """Registers the renderer with Sphinx."""
    app.add_html_math_renderer("mathml", (visit_inline, None), (visit_block, None))
    return {"parallel_read_safe": True}


def visit_inline(translator: HTML5Translator, node: nodes.math) -> None:
    """A formula in a line."""
    translator.body.append(rendered(node, as_block=False))
    raise nodes.SkipNode


def visit_block(translator: HTML5Translator, node: nodes.math_block) -> None:
    """A formula in lines of its own."""
    translator.body.append(f'<div class="formula">{rendered(node, as_block=True)}</div>')
    raise nodes.SkipNode


def rendered(node: nodes.math | nodes.math_block, as_block: bool) -> str:
    """The MathML of a formula; a warning where it cannot be read."""
    try:
        return tex2mathml(_ACCENT.sub(r"{\g<0>}", node.astext()), as_block=as_block)
    except MathError as error:
        _LOGGER.warning("the formula %s: %s", node.astext(), error, location=node)
        return ""
