"""The page in a browser: it draws, the slider shows other pictures, and nothing complains."""

import pytest

from mmdiffusion_jax import report
from tests.chromium import Page, browser
from tests.report.workdirs import HOSTILE, make_comparison, make_run

pytestmark = pytest.mark.skipif(browser() is None, reason="no Chromium on this machine")

SHOWN = "[...document.querySelectorAll('.pictures img')].filter(x => x.offsetWidth).map(x => x.src)"


@pytest.fixture
def opened(tmp_path):
    def open_page(folder, **options):
        report.write(folder)
        return Page(folder / "report.html", tmp_path / "profile", **options)

    return open_page


def test_a_run(tmp_path, opened):
    with opened(make_run(tmp_path / "w", HOSTILE, steps=40, sheets=4)) as page:
        page.settle()
        (last,) = page.run(SHOWN)
        page.run("document.querySelector('input[type=range]').focus()")
        page.press("ArrowLeft", 37)
        (before,) = page.run(SHOWN)
        assert before != last
        assert page.run("document.querySelector('output').textContent") == "step 3"
        page.press("Home", 36)
        (first,) = page.run(SHOWN)
        assert first not in (before, last)
        assert page.run("document.querySelector('output').textContent") == "step 1"

        # A chart reads the values at the mouse and by the keyboard; 3 / step is the loss.
        legend = "document.querySelector('.chart .legend').textContent"
        assert "step 40" in page.run(legend)
        page.run("document.querySelector('.chart svg[tabindex]').focus()")
        page.press("Home", 36)
        assert "step 1training 3" in page.run(legend)
        page.press("ArrowRight", 39)
        assert "step 2training 1.5" in page.run(legend)
        box = page.run(
            "(box => [box.left, box.top, box.width, box.height])"
            "(document.querySelector('.chart svg[tabindex]').getBoundingClientRect())"
        )
        page.move_mouse(box[0] + 62, box[1] + box[3] / 2)
        assert "step 1training 3" in page.run(legend)

        # A logarithmic axis says so, and its curve is another.
        path = "document.querySelector('.chart path.curve[d*=L]').getAttribute('d')"
        axes = "[...document.querySelectorAll('.chart svg[tabindex]')][0].textContent"
        curves = {}
        for scale in ("linear", "log"):
            page.run(f"document.querySelector('input[value={scale}]').click()")
            curves[scale] = page.run(path.replace(".chart path", ".plot path"))
            assert ("loss (log)" in page.run(axes)) == (scale == "log")
            assert "step" in page.run(axes)
        assert curves["linear"] != curves["log"]

        # The folded charts are drawn when they are opened.
        folded = "document.querySelectorAll('details svg[tabindex]').length"
        assert page.run(folded) == 0
        for k in range(2):
            page.run(f"document.querySelectorAll('details')[{k}].open = true")
            page.run(f"document.querySelectorAll('details')[{k}].scrollIntoView()")
            page.settle()
        assert page.run(folded) == 2
        assert page.run("document.querySelectorAll('script').length") == 2

        # What was chosen stays over a reload.
        page.open(page.run("location.href"))
        assert page.run("document.querySelector('output').textContent") == "step 1"
        assert page.run("document.querySelector('input[value=log]').checked")
        assert page.complaints == []
        addresses = [x for x in page.requests if not x.startswith("data:")]
        assert all(x.startswith("file://") and x.endswith("report.html") for x in addresses)


@pytest.mark.parametrize(("width", "scheme"), [(390, "dark"), (1200, "light")])
def test_a_comparison(tmp_path, opened, width, scheme):
    with opened(make_comparison(tmp_path / "w"), width=width, scheme=scheme) as page:
        page.settle()
        assert page.run("document.documentElement.scrollWidth") <= width
        assert len(page.run(SHOWN)) == 2
        colours = "getComputedStyle(document.body).backgroundColor"
        assert (page.run(colours) == "rgb(255, 255, 255)") == (scheme == "light")
        dashes = "[...document.querySelectorAll('.chart')][0].querySelectorAll('.plot path')"
        assert (
            page.run(f"new Set([...{dashes}].map(x => x.getAttribute('stroke-dasharray'))).size")
            == 2
        )
        before = page.run(SHOWN)
        page.run("document.querySelector('input[type=range]').focus()")
        page.press("End", 35)
        assert set(page.run(SHOWN)).isdisjoint(before)
        assert page.complaints == []
