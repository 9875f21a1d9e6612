"""The outline of a box: as it was laid out, with its corners cut off at a gate, or as a stack of cards."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import Final, NamedTuple
from xml.etree import ElementTree as ET

from stabilize_nb.notebook.cards import SHEET

#: px that a gate's corners are cut by.
CUT: Final = 10
#: px that the corners of the cards of a stack are rounded by.
ROUND: Final = 9


class Bounds(NamedTuple):
    """The sides of a rectangle, in px."""

    left: float
    top: float
    right: float
    bottom: float


def bounds(shape: ET.Element) -> Bounds:
    """Return the rectangle around a shape of the layout engine."""
    outline = shape.get("points") or shape.get("d") or "0,0"
    numbers = [float(number) for number in re.findall(r"-?[\d.]+", outline)]
    return Bounds(min(numbers[::2]), min(numbers[1::2]), max(numbers[::2]), max(numbers[1::2]))


def gate(shapes: Iterable[ET.Element]) -> Iterator[ET.Element]:
    """Cut the corners off: a place where one stops. The short lines are left out that the engine cuts corners with."""
    for shape in shapes:
        if shape.tag == "polygon":
            yield _octagon(bounds(shape), shape)


def stack(shape: ET.Element, *, is_gate: bool) -> Iterator[ET.Element]:
    """Draw a stack of cards in the place of one; the last one lies on top."""
    for number in (2, 1, 0):
        card = on_top(bounds(shape), number)
        yield _octagon(card, shape) if is_gate else _rounded(card, shape)


def on_top(place: Bounds, number: int = 0) -> Bounds:
    """Return where a card of a stack lies; number 0 is on top."""
    x, y = number * SHEET, (2 - number) * SHEET
    return Bounds(place.left + x, place.top + y, place.right - 2 * SHEET + x, place.bottom - 2 * SHEET + y)


def _rounded(card: Bounds, shape: ET.Element) -> ET.Element:
    left, top, right, bottom = card
    r = ROUND
    outline = (
        f"M{left + r:.1f},{top:.1f}H{right - r:.1f}Q{right:.1f},{top:.1f} {right:.1f},{top + r:.1f}"
        f"V{bottom - r:.1f}Q{right:.1f},{bottom:.1f} {right - r:.1f},{bottom:.1f}"
        f"H{left + r:.1f}Q{left:.1f},{bottom:.1f} {left:.1f},{bottom - r:.1f}"
        f"V{top + r:.1f}Q{left:.1f},{top:.1f} {left + r:.1f},{top:.1f}Z"
    )
    return ET.Element("path", {"d": outline, **_paint(shape)})


def _octagon(card: Bounds, shape: ET.Element) -> ET.Element:
    left, top, right, bottom = card
    xs = (left, left, left + CUT, right - CUT, right, right, right - CUT, left + CUT)
    ys = (bottom - CUT, top + CUT, top, top, top + CUT, bottom - CUT, bottom, bottom)
    points = " ".join(f"{x:.1f},{y:.1f}" for x, y in zip(xs, ys, strict=True))
    return ET.Element("polygon", {"points": points, **_paint(shape)})


def _paint(shape: ET.Element) -> dict[str, str]:
    return {name: value for name, value in shape.attrib.items() if name not in {"points", "d"}}
