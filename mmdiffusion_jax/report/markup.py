"""HTML whose text is escaped where it is put in, and the one file that a page is."""

import datetime
import html
import json
import re
import string
from collections.abc import Mapping
from pathlib import Path
from typing import Any

_TEMPLATE = Path(__file__).with_name("template")
_VOID = ("img", "input", "wbr")


class Markup(str):
    """Text that is HTML already; any other text is escaped when it becomes part of it."""


def element(tag: str, *children: str, **attributes: str | int | bool | None) -> Markup:
    """One element of HTML.

    Args:
        tag: its name.
        *children: text, which is escaped, and `Markup`, which is not.
        **attributes: values are escaped; names have `-` for `_`, and `class_` is `class`. Those
            that are None or False are left out, True is an attribute without a value.

    Example:
        >>> print(element("a", "x < y", element("b", "&"), class_='"', data_k=1, hidden=True))
        <a class="&quot;" data-k="1" hidden>x &lt; y<b>&amp;</b></a>
    """
    words = [tag]
    for name, value in attributes.items():
        if value is None or value is False:
            continue
        name = name.rstrip("_").replace("_", "-")
        words.append(name if value is True else f'{name}="{html.escape(str(value))}"')
    begin = f"<{' '.join(words)}>"
    return Markup(begin if tag in _VOID else f"{begin}{joined(*children)}</{tag}>")


def joined(*children: str, by: str = "") -> Markup:
    """Several pieces one after another.

    Example:
        >>> print(joined("<", element("b", "x")))
        &lt;<b>x</b>
    """
    pieces = (str(x) if isinstance(x, Markup) else html.escape(x, quote=False) for x in children)
    return Markup(by.join(pieces))


def breakable(text: str) -> Markup:
    """A name that may go on in the next line after its points, slashes, hyphens and underlines.

    Example:
        >>> print(breakable("loss.a_b"))
        loss.<wbr>a_<wbr>b
    """
    if isinstance(text, Markup):
        return text
    return joined(*re.split(r"(?<=[./_-])(?=.)", text), by=element("wbr"))


def moment(when: datetime.datetime, ago: bool = False) -> Markup:
    """A moment, which a browser shows in its own time zone; with `ago` how long ago it is, too.

    Example:
        >>> print(moment(datetime.datetime(2026, 1, 2, 3, 4, tzinfo=datetime.UTC)))
        <time datetime="2026-01-02T03:04:00Z">2026-01-02 03:04 UTC</time>
    """
    when = when.astimezone(datetime.UTC).replace(microsecond=0)
    exact = when.isoformat().replace("+00:00", "Z")
    return element("time", f"{when:%Y-%m-%d %H:%M} UTC", datetime=exact, data_ago=ago)


def page(title: str, body: Markup, data: Mapping[str, Any]) -> str:
    """A whole page, with its style, its script and their data in it; it fetches nothing.

    Args:
        title: of the window.
        body: what is shown.
        data: JSON for the script, without numbers that are not finite.

    Example:
        >>> text = page("a < b", element("p", "x"), {"name": "</script>"})
        >>> "<title>a &lt; b</title>" in text, "</script>" in text.split("page-data")[1][:40]
        (True, False)
    """
    read = {
        name: (_TEMPLATE / f"page.{name}").read_text(encoding="utf-8")
        for name in ("html", "css", "js")
    }
    text = json.dumps(data, allow_nan=False, separators=(",", ":"))
    for character in "<>&":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return string.Template(read["html"]).substitute(
        title=html.escape(title), style=read["css"], body=body, data=text, script=read["js"]
    )
