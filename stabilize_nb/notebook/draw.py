"""DOT -> SVG: with the layout engine that came with the package, or with Graphviz if it is asked for.

The picture must look right wherever a notebook is shown: JupyterLab (trusted or not), nbconvert, nbviewer,
GitHub. They strip <style>, <script>, <defs>, ids and links, each in its own way. So what the engine wrote is
not cleaned but built anew, by the element API, from a short list of shapes and presentation attributes. The
background is transparent, fills are pale and opaque, arrows #767676: readable on white and on #111. The small
drawings in a box are in `marks`.

Elements are extended by lists: what a generator raises, an interrupt too, `Element.extend` turns into a TypeError.
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
from stabilize_nb.notebook.cards import (
    LINE_HEIGHT,
    LINE_SIZE,
    PAD_RIGHT,
    PAD_Y,
    TEXT_X,
    TITLE_HEIGHT,
    TITLE_SIZE,
    Direction,
    text_width,
)
from stabilize_nb.notebook.dot import to_dot
from stabilize_nb.notebook.looks import LOOKS, shorten
from stabilize_nb.notebook.marks import end_mark, person, sign_mark, status_mark
from stabilize_nb.notebook.outlines import bounds, gate, on_top, stack
from stabilize_nb.notebook.signs import Sign
from stabilize_nb.notebook.sketch import describe
from stabilize_nb.notebook.text import to_text

#: "pure": the wheel graphviz-pure; "dot": Graphviz on the PATH; "auto": the first of the two that works.
Engine = Literal["auto", "pure", "dot"]

TIMEOUT_S: Final = 10
FONT: Final = "DejaVu Sans, Helvetica, Arial, sans-serif"
MONOSPACED: Final = "DejaVu Sans Mono, Menlo, Consolas, monospace"
INK: Final = "#222222"
#: What is taken over from the engine, and from where.
SHAPES: Final = frozenset({"path", "polygon", "polyline", "ellipse"})
OUTLINE: Final = frozenset({"points", "d", "cx", "cy", "rx", "ry"})
PAINT: Final = frozenset({"fill", "stroke", "stroke-width", "stroke-dasharray"})
LETTERS: Final = frozenset({"x", "y", "text-anchor", "font-size", "fill"})
#: In a class of a node: what is drawn beside a line, and beside which.
_MARK: Final = re.compile(r"([A-Za-z_]+)-(\d+)")
_PLAIN_VALUE: Final = re.compile(r"[-\w#.,%+() ]*")


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
        canvas.extend([make(group) for group in groups[kind]])
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
    made.extend([_text(text.text or "", _allowed(text, LETTERS)) for text in _texts(group)])
    return made


def _node(group: ET.Element) -> ET.Element:
    shapes, texts, classes = _shapes(group), _texts(group), _classes(group)
    status = next((name for name in classes if name in WorkflowStatus.__members__), None)
    if status is None or not shapes:
        return _plain(group)
    made = ET.Element("g")
    ET.SubElement(made, "title").text = _tooltip(group)
    if "end" in classes:
        made.extend([*_end(shapes[0], WorkflowStatus[status])])
    else:
        made.extend([*_card(WorkflowStatus[status], classes, shapes, [text.text or "" for text in texts])])
    return made


def _end(shape: ET.Element, status: WorkflowStatus) -> Iterator[ET.Element]:
    x, y = float(shape.get("cx", "0")), float(shape.get("cy", "0"))
    return end_mark(x, y, is_cancelled=status is WorkflowStatus.CANCELED)


def _card(
    status: WorkflowStatus, classes: list[str], shapes: list[ET.Element], words: list[str]
) -> Iterator[ET.Element]:
    """Draw a stage: its outline as it was laid out, and inside the mark, the title and the lines."""
    look = LOOKS[status]
    place, is_gate = bounds(shapes[0]), "gate" in classes
    if "stack" in classes:
        yield from stack(shapes[0], is_gate=is_gate)
        place = on_top(place)
    else:
        yield from gate(shapes) if is_gate else shapes
    left, top, right, bottom = place
    content = TITLE_HEIGHT + LINE_HEIGHT * (len(words) - 1)
    x, y = left + TEXT_X, (top + bottom - content) / 2 + TITLE_SIZE
    yield from status_mark(status, look, left + TEXT_X / 2, y - TITLE_SIZE * 0.36)
    title, *lines = words
    title = title.removeprefix(f"{look.symbol} ")
    if "short" in classes:
        title = title.removesuffix(f" · {look.word}")
        yield _line(look.word, right - PAD_RIGHT, y, end=True)
    yield _text(title, {**_at(x, y), "font-size": str(TITLE_SIZE), "font-weight": "bold"})
    if is_gate:
        yield person(look, right - PAD_RIGHT - 6, y - TITLE_SIZE * 0.36)
    y += TITLE_HEIGHT - LINE_HEIGHT
    marks = _marks(classes)
    for number, line in enumerate(lines, 1):
        yield _line(line, x, y + number * LINE_HEIGHT)
        yield from _beside(marks.get(number, ""), left + TEXT_X / 2, y + number * LINE_HEIGHT - LINE_SIZE * 0.36)


def _marks(classes: list[str]) -> dict[int, str]:
    found = [match for match in map(_MARK.fullmatch, classes) if match]
    return {int(match[2]): match[1] for match in found}


def _beside(mark: str, x: float, y: float) -> Iterator[ET.Element]:
    """Draw what stands beside a line: the sign of what it is about, or the status of a part."""
    if mark in WorkflowStatus.__members__:
        yield from status_mark(WorkflowStatus[mark], LOOKS[WorkflowStatus[mark]], x, y, scale=0.7)
    elif mark in {sign.value for sign in Sign}:
        yield sign_mark(Sign(mark), x, y)


def _line(words: str, x: float, y: float, *, end: bool = False) -> ET.Element:
    anchor = {"text-anchor": "end"} if end else {}
    return _text(words, {**_at(x, y), **anchor, "font-size": str(LINE_SIZE)})


def _at(x: float, y: float) -> dict[str, str]:
    return {"x": f"{x:.1f}", "y": f"{y:.1f}"}


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
