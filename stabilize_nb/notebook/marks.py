"""The small drawings of a picture: the mark of a status, the sign of a line, the person at a gate, the end.

All are paths, as fonts differ in the signs that they have. A mark is drawn on a disc of radius 8 with its centre at
0,0; a sign reaches 6 px to each side. Diamonds and circles mean what they mean in BPMN.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Final
from xml.etree import ElementTree as ET

from stabilize_nb.models.status import WorkflowStatus
from stabilize_nb.notebook.looks import Look
from stabilize_nb.notebook.signs import Sign

S = WorkflowStatus

#: Of signs, on the pale fills: 7:1.
SIGN_INK: Final = "#555555"
#: The end of a workflow stands on the page itself, which may be light or dark.
END_INK: Final = "#767676"

FILLED_MARKS: Final[Mapping[WorkflowStatus, str]] = {
    S.RUNNING: "M-2.4,-4L4.2,0L-2.4,4Z",
    S.PAUSED: "M-3,-3H3V3H-3Z",
}
STROKED_MARKS: Final[Mapping[WorkflowStatus, str]] = {
    S.SUCCEEDED: "M-3.6,0.3L-1.1,2.9L3.7,-2.6",
    S.TERMINAL: "M-2.8,-2.8L2.8,2.8M2.8,-2.8L-2.8,2.8",
    S.SUSPENDED: "M-2,-3.2V3.2M2,-3.2V3.2",
    S.CANCELED: "M-3.4,0H3.4",
    S.FAILED_CONTINUE: "M0,-4V0.8M0,3.7V3.8",
    S.REDIRECT: "M-3.6,3V1.2Q-3.6,-1 -1.4,-1H3M0.8,-3.4L3.2,-1L0.8,1.4",
    S.STOPPED: "M-3.2,3.2L3.2,-3.2",
    S.SKIPPED: "M-3.4,-2.8L-0.6,0L-3.4,2.8M0.8,-2.8L3.6,0L0.8,2.8",
    S.BUFFERED: "M-3.6,0H-3.5M0,0H0.1M3.6,0H3.7",
}

_DIAMOND: Final = "M0,-6.2L6.2,0L0,6.2L-6.2,0Z"
_RING: Final = "M0,-5.6A5.6,5.6 0 1 1 0,5.6A5.6,5.6 0 1 1 0,-5.6Z"
SIGNS: Final[Mapping[Sign, str]] = {
    Sign.ALL: f"{_DIAMOND}M0,-3V3M-3,0H3",
    Sign.TAKEN: f"{_DIAMOND}M0,-2.4A2.4,2.4 0 1 1 0,2.4A2.4,2.4 0 1 1 0,-2.4Z",
    Sign.ONE: f"{_DIAMOND}M-1.9,-1.9L1.9,1.9M1.9,-1.9L-1.9,1.9",
    Sign.EACH: f"{_DIAMOND}M-2.6,-1.3H2.6M-2.6,1.3H2.6",
    Sign.FIRST: f"{_DIAMOND}M-1.2,-1.6L0.3,-2.9V2.9",
    Sign.QUORUM: f"{_DIAMOND}M0,-2.8V2.8M-2.4,-1.4L2.4,1.4M2.4,-1.4L-2.4,1.4",
    Sign.FORK: "M-6,0H-2M5.5,-4.5H3Q-2,-4.5 -2,0Q-2,4.5 3,4.5H5.5M-2,0H5.5",
    Sign.MERGE: "M6,0H2M-5.5,-4.5H-3Q2,-4.5 2,0Q2,4.5 -3,4.5H-5.5M2,0H-5.5",
    Sign.MANY: "M-4,-4.8V4.8M0,-4.8V4.8M4,-4.8V4.8",
    Sign.MILESTONE: "M-3.4,6V-5.6H4.6L2.4,-2.8L4.6,0H-3.4",
    Sign.LOCK: "M-4.6,-0.6H4.6V5.4H-4.6ZM-2.9,-0.6V-2.8A2.9,2.9 0 0 1 2.9,-2.8V-0.6M0,1.6V3.2",
    Sign.CANCEL: f"{_RING}M-2.2,-2.2L2.2,2.2M2.2,-2.2L-2.2,2.2",
    Sign.END: f"{_RING}M-1.8,-1.8H1.8V1.8H-1.8Z",
    Sign.LOOP: "M4.6,-2.6A5.2,5.2 0 1 0 5.2,1M5.2,-5.6V-2.2H1.8",
    Sign.CHILD: "M-5,-5H5V5H-5ZM0,-2.6V2.6M-2.6,0H2.6",
    Sign.WAIT: f"{_RING}M0,-3.2V0.4L2.4,1.8",
}


def status_mark(status: WorkflowStatus, look: Look, x: float, y: float, *, scale: float = 1) -> Iterator[ET.Element]:
    """Draw a status at a place."""
    disc = {"cx": f"{x:.1f}", "cy": f"{y:.1f}"}
    if status is S.NOT_STARTED:
        ring = {"r": f"{6.5 * scale:g}", "fill": "none", "stroke": look.stroke, "stroke-width": "1.6"}
        yield ET.Element("circle", disc | ring)
        return
    yield ET.Element("circle", {**disc, "r": f"{8 * scale:g}", "fill": look.stroke})
    place = {"transform": _place(x, y) + ("" if scale == 1 else f" scale({scale:g})")}
    if status in FILLED_MARKS:
        yield ET.Element("path", {"d": FILLED_MARKS[status], "fill": "#ffffff", **place})
        return
    yield ET.Element("path", {"d": STROKED_MARKS[status], "fill": "none", **_pen("#ffffff", 1.9), **place})


def sign_mark(sign: Sign, x: float, y: float) -> ET.Element:
    """Draw the sign of a line at a place."""
    return ET.Element("path", {"d": SIGNS[sign], "fill": "none", **_pen(SIGN_INK, 1.2), "transform": _place(x, y)})


def person(look: Look, x: float, y: float) -> ET.Element:
    """Draw a person, at a gate."""
    shape = "M0,-7A3.2,3.2 0 1 1 0,-0.6A3.2,3.2 0 1 1 0,-7ZM-6,7Q-6,0.8 0,0.8Q6,0.8 6,7Z"
    return ET.Element("path", {"d": shape, "fill": look.stroke, "transform": _place(x, y)})


def end_mark(x: float, y: float, *, is_cancelled: bool) -> Iterator[ET.Element]:
    """Draw the end of a workflow: a full disc in a ring, or a cross."""
    ring = {"cx": f"{x:.1f}", "cy": f"{y:.1f}", "fill": "none"}
    yield ET.Element("circle", {**ring, "r": "9.5", "stroke": END_INK, "stroke-width": "2.4"})
    if is_cancelled:
        cross = {"d": "M-3.8,-3.8L3.8,3.8M3.8,-3.8L-3.8,3.8", "fill": "none", **_pen(END_INK, 2.4)}
        yield ET.Element("path", {**cross, "transform": _place(x, y)})
    else:
        yield ET.Element("circle", {**ring, "r": "5", "fill": END_INK})


def _pen(colour: str, width: float) -> dict[str, str]:
    return {"stroke": colour, "stroke-width": f"{width:g}", "stroke-linecap": "round", "stroke-linejoin": "round"}


def _place(x: float, y: float) -> str:
    return f"translate({x:.1f} {y:.1f})"
