"""DOT -> SVG: with the layout engine that came with the package, or with Graphviz if it is asked for.

The picture must look right wherever a notebook is shown: JupyterLab (trusted or not), nbconvert, nbviewer,
GitHub. They strip <style>, <script>, <defs>, ids and links, each in its own way. So what the engine wrote is
not cleaned but built anew, by the element API, from a short list of shapes and presentation attributes. The
background is transparent, fills are pale and opaque, arrows #767676: readable on white and on #111.

Status marks and the person at a gate are paths, as fonts differ in the signs that they have.
"""

from __future__ import annotations

import base64
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from importlib import metadata
from pathlib import Path
from typing import Final, Literal, get_args
from xml.etree import ElementTree as ET

from stabilize_nb.errors import ConfigError, StabilizeExpectedError
from stabilize_nb.models.status import WorkflowStatus
from stabilize_nb.models.workflow import Workflow
from stabilize_nb.notebook.dot import (
    LINE_HEIGHT,
    LINE_SIZE,
    PAD_RIGHT,
    PAD_Y,
    TEXT_X,
    TITLE_HEIGHT,
    TITLE_SIZE,
    Direction,
    text_width,
    to_dot,
)
from stabilize_nb.notebook.looks import LOOKS, Look, shorten
from stabilize_nb.notebook.sketch import describe
from stabilize_nb.notebook.text import to_text

S = WorkflowStatus

#: "pure": the wheel graphviz-pure; "dot": Graphviz on the PATH; "auto": the first of the two that works.
Engine = Literal["auto", "pure", "dot"]

TIMEOUT_S: Final = 10
FONT: Final = "DejaVu Sans, Helvetica, Arial, sans-serif"
MONOSPACED: Final = "DejaVu Sans Mono, Menlo, Consolas, monospace"
INK: Final = "#222222"
#: px that a gate's corners are cut by.
CUT: Final = 10

#: What is taken over from the engine, and from where.
SHAPES: Final = frozenset({"path", "polygon", "polyline", "ellipse"})
OUTLINE: Final = frozenset({"points", "d", "cx", "cy", "rx", "ry"})
PAINT: Final = frozenset({"fill", "stroke", "stroke-width", "stroke-dasharray"})
LETTERS: Final = frozenset({"x", "y", "text-anchor", "font-size", "fill"})
_PLAIN_VALUE: Final = re.compile(r"[-\w#.,%+() ]*")

#: Drawn on a disc of radius 8 with its centre at 0,0: filled shapes and strokes.
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


class DrawingError(StabilizeExpectedError):
    """No layout engine could draw the graph; the message says what each of them answered."""


def svg_of(
    workflow: Workflow,
    *,
    direction: Direction = "auto",
    engine: Engine = "auto",
    notes: Mapping[str, str] | None = None,
) -> str:
    """Draw the workflow as SVG; as text inside an SVG when no layout engine works. Same input, same bytes.

    Raises ConfigError for an unknown direction or engine.
    """
    try:
        return to_svg(to_dot(workflow, direction=direction, notes=notes), engine)
    except DrawingError:
        return _svg_of_lines(to_text(workflow, notes=notes).splitlines(), describe(workflow))


def to_svg(dot_source: str, engine: Engine = "auto") -> str:
    """Lay DOT out and return SVG that survives where notebooks are shown.

    Raises DrawingError when no engine can, ConfigError for an unknown engine.
    """
    answers = []
    for program in _programs(engine):
        try:
            done = subprocess.run(
                [program, "-Tsvg"],
                input=dot_source.encode(),
                capture_output=True,
                check=True,
                timeout=TIMEOUT_S,
            )
            return _rebuilt(ET.fromstring(done.stdout))  # noqa: S314 - written by the engine that was just run
        except (OSError, subprocess.SubprocessError, ET.ParseError) as error:
            said = (getattr(error, "stderr", None) or b"").decode(errors="replace")
            answers.append(f"{program}: {shorten(said) or error}")
    found = "; ".join(answers) or "none is installed (pip install graphviz-pure)"
    raise DrawingError(f"no layout engine could draw the graph with engine={engine!r}: {found}")


def data_uri(svg: str) -> str:
    """Pack an SVG for the src of an <img>, which even an untrusted notebook shows."""
    return "data:image/svg+xml;base64," + base64.b64encode(svg.encode()).decode()


def _programs(engine: Engine) -> Iterator[str]:
    """Yield what can be run, best first."""
    if engine not in get_args(Engine):
        raise ConfigError(f"engine {engine!r} is none: use one of {', '.join(get_args(Engine))}")
    if engine != "dot":
        yield from _bundled()
    if engine != "pure":
        yield from filter(None, [shutil.which("dot")])


def _bundled() -> Iterator[str]:
    """Yield where the wheel has put its program: a kernel's PATH often lacks the folder of its own Python."""
    beside = shutil.which("graphviz-pure", path=str(Path(sys.executable).parent))
    if beside:
        yield beside
        return
    try:
        files = metadata.files("graphviz-pure") or []
    except metadata.PackageNotFoundError:
        return
    programs = {"graphviz-pure", "graphviz-pure.exe"}
    yield from (str(file.locate()) for file in files if file.name in programs)


def _rebuilt(source: ET.Element) -> str:
    """Write the picture anew from the geometry that the engine found."""
    drawing = next(child for child in source if _tag(child) == "g")
    groups = {kind: [child for child in drawing if _classes(child)[:1] == [kind]] for kind in _GROUPS}
    root = _root(source.attrib, _tooltip(drawing) or f"graph of {len(groups['node'])} nodes")
    canvas = ET.SubElement(root, "g", _allowed(drawing, frozenset({"transform"})))
    for kind, make in _GROUPS.items():
        canvas.extend(make(group) for group in groups[kind])
    return ET.tostring(root, encoding="unicode")


def _root(size: Mapping[str, str], description: str) -> ET.Element:
    """Make the <svg>; the engine counts in points, the picture in px of the same number."""
    frame = {
        "xmlns": "http://www.w3.org/2000/svg",
        "width": size["width"].removesuffix("pt"),
        "height": size["height"].removesuffix("pt"),
        "viewBox": size["viewBox"],
    }
    return ET.Element("svg", {**frame, "role": "img", "aria-label": description, "font-family": FONT})


def _tag(element: ET.Element) -> str:
    return element.tag.rpartition("}")[2]


def _classes(element: ET.Element) -> list[str]:
    return element.get("class", "").split()


def _tooltip(group: ET.Element) -> str:
    """Return the title that was given: the engine hangs it on a link around the group's own content."""
    for child in group.iterfind("./{*}g/{*}a"):
        return next((value for name, value in child.attrib.items() if name.endswith("title")), "")
    return ""


def _allowed(element: ET.Element, names: frozenset[str]) -> dict[str, str]:
    return {
        name: value
        for name, value in element.attrib.items()
        if name in names and _PLAIN_VALUE.fullmatch(value) and "url(" not in value
    }


def _shapes(group: ET.Element) -> list[ET.Element]:
    parts = [part for part in group.iter() if _tag(part) in SHAPES]
    return [ET.Element(_tag(part), _allowed(part, OUTLINE | PAINT)) for part in parts]


def _texts(group: ET.Element) -> list[ET.Element]:
    return [part for part in group.iter() if _tag(part) == "text"]


def _text(words: str, attributes: dict[str, str]) -> ET.Element:
    made = ET.Element("text", {"fill": INK, **attributes})
    made.text = words.strip()
    return made


def _plain(group: ET.Element) -> ET.Element:
    made = ET.Element("g")
    made.extend(_shapes(group))
    made.extend(_text(text.text or "", _allowed(text, LETTERS)) for text in _texts(group))
    return made


def _node(group: ET.Element) -> ET.Element:
    shapes, texts = _shapes(group), _texts(group)
    status = next((name for name in _classes(group) if name in S.__members__), None)
    if status is None or not shapes:
        return _plain(group)
    made = ET.Element("g")
    ET.SubElement(made, "title").text = _tooltip(group)
    made.extend(_card(WorkflowStatus[status], _classes(group), shapes, [text.text or "" for text in texts]))
    return made


def _card(
    status: WorkflowStatus, classes: list[str], shapes: list[ET.Element], words: list[str]
) -> Iterator[ET.Element]:
    """Draw a stage: its outline as it was laid out, and inside the mark, the title and the lines."""
    look = LOOKS[status]
    left, top, right, bottom = _bounds(shapes[0])
    yield from map(_octagon, _borders(shapes)) if "gate" in classes else shapes
    content = TITLE_HEIGHT + LINE_HEIGHT * (len(words) - 1)
    x, y = left + TEXT_X, (top + bottom - content) / 2 + TITLE_SIZE
    yield from _mark(status, look, left + TEXT_X / 2, y - TITLE_SIZE * 0.36)
    title, *lines = words
    title = title.removeprefix(f"{look.symbol} ")
    if "short" in classes:
        title = title.removesuffix(f" · {look.word}")
        yield _line(look.word, right - PAD_RIGHT, y, end=True)
    yield _text(title, {**_at(x, y), "font-size": str(TITLE_SIZE), "font-weight": "bold"})
    if "gate" in classes:
        yield _person(look, right - PAD_RIGHT - 6, y - TITLE_SIZE * 0.36)
    y += TITLE_HEIGHT - LINE_HEIGHT
    for number, line in enumerate(lines, 1):
        yield _line(line, x, y + number * LINE_HEIGHT)


def _line(words: str, x: float, y: float, *, end: bool = False) -> ET.Element:
    anchor = {"text-anchor": "end"} if end else {}
    return _text(words, {**_at(x, y), **anchor, "font-size": str(LINE_SIZE)})


def _at(x: float, y: float) -> dict[str, str]:
    return {"x": f"{x:.1f}", "y": f"{y:.1f}"}


def _bounds(shape: ET.Element) -> tuple[float, float, float, float]:
    outline = shape.get("points") or shape.get("d") or "0,0"
    numbers = [float(number) for number in re.findall(r"-?[\d.]+", outline)]
    return min(numbers[::2]), min(numbers[1::2]), max(numbers[::2]), max(numbers[1::2])


def _borders(shapes: list[ET.Element]) -> list[ET.Element]:
    """Leave out the short lines with which the engine cuts corners."""
    return [shape for shape in shapes if shape.tag == "polygon"]


def _octagon(box: ET.Element) -> ET.Element:
    """Cut the corners of a rectangle off: a place where one stops."""
    left, top, right, bottom = _bounds(box)
    xs = (left, left, left + CUT, right - CUT, right, right, right - CUT, left + CUT)
    ys = (bottom - CUT, top + CUT, top, top, top + CUT, bottom - CUT, bottom, bottom)
    points = " ".join(f"{x:.1f},{y:.1f}" for x, y in zip(xs, ys, strict=True))
    return ET.Element("polygon", {**box.attrib, "points": points})


def _mark(status: WorkflowStatus, look: Look, x: float, y: float) -> Iterator[ET.Element]:
    disc = {"cx": f"{x:.1f}", "cy": f"{y:.1f}"}
    if status is S.NOT_STARTED:
        yield ET.Element("circle", {**disc, "r": "6.5", "fill": "none", "stroke": look.stroke, "stroke-width": "1.6"})
        return
    yield ET.Element("circle", {**disc, "r": "8", "fill": look.stroke})
    place = {"transform": f"translate({x:.1f} {y:.1f})"}
    if status in FILLED_MARKS:
        yield ET.Element("path", {"d": FILLED_MARKS[status], "fill": "#ffffff", **place})
        return
    pen = {"stroke": "#ffffff", "stroke-width": "1.9", "stroke-linecap": "round", "stroke-linejoin": "round"}
    yield ET.Element("path", {"d": STROKED_MARKS[status], "fill": "none", **pen, **place})


def _person(look: Look, x: float, y: float) -> ET.Element:
    shape = "M0,-7A3.2,3.2 0 1 1 0,-0.6A3.2,3.2 0 1 1 0,-7ZM-6,7Q-6,0.8 0,0.8Q6,0.8 6,7Z"
    return ET.Element("path", {"d": shape, "fill": look.stroke, "transform": f"translate({x:.1f} {y:.1f})"})


#: What a drawing consists of, in the order of painting: arrows never cross a text.
_GROUPS: Final = {"cluster": _plain, "edge": _plain, "node": _node}


def _svg_of_lines(lines: list[str], description: str) -> str:
    """Show text where a picture is expected: on a card, with spaces that no browser joins."""
    widest = max((max(text_width(line, TITLE_SIZE), len(line) * TITLE_SIZE * 0.62) for line in lines), default=0)
    width = widest + 2 * PAD_RIGHT
    height = len(lines) * TITLE_HEIGHT + 2 * PAD_Y
    size = {"width": f"{width:.0f}", "height": f"{height}", "viewBox": f"0 0 {width:.0f} {height}"}
    root = _root(size, description)
    root.set("font-family", MONOSPACED)
    root.append(ET.Element("path", {"d": f"M0,0H{width:.0f}V{height}H0Z", "fill": "#fafafa"}))
    for number, line in enumerate(lines, 1):
        words = line.replace(" ", "\N{NO-BREAK SPACE}")
        root.append(_text(words, {**_at(PAD_RIGHT, number * TITLE_HEIGHT), "font-size": str(TITLE_SIZE), "fill": INK}))
    return ET.tostring(root, encoding="unicode")
