"""Formulas as MathML: accents and what stands below them."""

import re
from pathlib import Path

import pytest

WHY = "the site's build needs the extra docs"
latex2mathml = pytest.importorskip("docutils.utils.math.latex2mathml", reason=WHY)
pytest.importorskip("sphinx", reason=WHY)

PAGE = Path(__file__).resolve().parents[2] / "docs" / "mathematics.md"


def plain(formula):
    """The tags and texts of a formula, without spaces."""
    from docs._extensions.mathml import with_accents

    text = with_accents(latex2mathml.tex2mathml(formula))
    return re.sub(r"<math[^>]*>|</math>|\s|class=\"accented\"", "", text)


@pytest.mark.parametrize(
    ("formula", "expected"),
    [
        (r"\bar\alpha_t", "<msub><mi>ᾱ</mi><mi>t</mi></msub>"),
        (r"\hat v", "<mrow><mi>v̂</mi></mrow>"),
        (r"\tilde\mu_t^2", "<msubsup><mi>μ̃</mi><mi>t</mi><mn>2</mn></msubsup>"),
        (r"x_t", "<msub><mi>x</mi><mi>t</mi></msub>"),
    ],
)
def test_a_subscript_stands_beside_its_letter(formula, expected):
    assert plain(formula) == expected


def test_every_formula_of_the_page_is_read():
    text = PAGE.read_text(encoding="utf-8")
    formulas = re.findall(r"\$\$(.*?)\$\$", text, re.S)
    formulas += re.findall(r"\$([^$]+)\$", re.sub(r"\$\$.*?\$\$", "", text, flags=re.S))
    assert len(formulas) > 50
    # Sums and products alone have something below them.
    others = [formula for formula in formulas if not re.search(r"\\(sum|prod)", formula)]
    assert all("under" not in plain(formula) for formula in others)
