"""Formulas as MathML, which browsers show themselves: no script, no network."""

import html
import re
import unicodedata
from xml.etree import ElementTree

from docutils import nodes
from docutils.utils.math import MathError
from docutils.utils.math.latex2mathml import tex2mathml
from sphinx.application import Sphinx
from sphinx.util import logging
from sphinx.writers.html5 import HTML5Translator

# docutils puts these above a letter; fonts without tables for formulas draw them too low.
_COMBINING = {"ˉ": "\u0304", "ˆ": "\u0302", "~": "\u0303"}
_OF_HTML = re.compile(r"&(?!lt;|gt;|amp;|quot;|apos;)\w+;")
_SPACE = "http://www.w3.org/1998/Math/MathML"
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
        return with_accents(tex2mathml(node.astext(), as_block=as_block))
    except MathError as error:
        _LOGGER.warning("the formula %s: %s", node.astext(), error, location=node)
        return ""


def with_accents(mathml: str) -> str:
    """MathML in which accents are part of their letters, and subscripts stand beside these.

    docutils puts a subscript below the letter, as the limit of a sum.
    """
    ElementTree.register_namespace("", _SPACE)
    # XML has five names of characters, those of HTML are other ones.
    root = ElementTree.fromstring(_OF_HTML.sub(lambda name: html.unescape(name[0]), mathml))
    for element in root.iter():
        kind = element.tag.removeprefix(f"{{{_SPACE}}}")
        accent = element[-1].text if kind in ("mover", "munderover") else None
        if accent not in _COMBINING:
            continue
        letter = ElementTree.Element(f"{{{_SPACE}}}mi", {"class": "accented"})
        letter.text = unicodedata.normalize("NFC", f"{element[0].text}{_COMBINING[accent]}")
        # Without a subscript the letter is alone in its row.
        element.attrib.clear()
        element[:] = [letter, *element[1:-1]]
        element.tag = f"{{{_SPACE}}}{'mrow' if kind == 'mover' else 'msub'}"
    for element in root.iter(f"{{{_SPACE}}}msup"):
        base, above = list(element)
        # A subscript and a superscript stand above one another.
        if base.tag == f"{{{_SPACE}}}msub":
            element[:] = [*base, above]
            element.tag = f"{{{_SPACE}}}msubsup"
    return ElementTree.tostring(root, encoding="unicode")
