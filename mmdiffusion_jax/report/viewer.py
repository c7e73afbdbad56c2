"""Sheets of samples side by side, with a slider where there are several positions of it."""

import dataclasses
from collections.abc import Mapping, Sequence

from mmdiffusion_jax.report.markup import Markup, element


@dataclasses.dataclass(frozen=True)
class Position:
    """What one position of a slider shows.

    Attributes:
        title: of the position, such as "step 3,000".
        pictures: {caption: picture}, side by side.
    """

    title: str
    pictures: Mapping[str, Markup]


def viewer(
    title: str, positions: Sequence[Position], label: str = "Step", first: int | None = None
) -> Markup:
    """Pictures at several positions, one of which is seen until the slider is moved.

    Args:
        title: above them.
        positions: one at least.
        label: of the slider.
        first: the position that is seen at first; left out, the last.

    Example:
        >>> picture = element("img", src="data:,", alt="x")
        >>> both = [Position(f"step {k}", {"": picture}) for k in (1, 2)]
        >>> viewer("samples", both).count("hidden")
        1
    """
    last = len(positions) - 1
    first = last if first is None else first
    shown = [
        element(
            "div",
            *(_picture(caption, picture) for caption, picture in position.pictures.items()),
            class_="pictures",
            data_position=position.title,
            hidden=index != first,
        )
        for index, position in enumerate(positions)
    ]
    if not last:
        where = element("p", positions[0].title, class_="quiet")
    else:
        slider = element(
            "input",
            type="range",
            min=0,
            max=last,
            step=1,
            value=first,
            aria_label=f"{label} of {title}",
            aria_valuetext=positions[first].title,
        )
        output = element("output", positions[first].title)
        where = element("div", element("label", slider, output), class_="slider needs-script")
    return element(
        "section", element("h3", title), where, *shown, class_="viewer", data_title=title
    )


def _picture(caption: str, picture: Markup) -> Markup:
    words = [element("figcaption", caption)] if caption else []
    return element("figure", *words, element("div", picture, class_="sheet"))
