"""A workflow as DOT (Graphviz) and as Mermaid.

No string of a workflow can leave its label. Nodes are called n0, n1, ... in place of their ref_ids; labels go
through `escape` and `nohtml`, because Graphviz reads a label that begins with `<` as HTML and a backslash as
a command; and `&` is written as an entity, because Graphviz hands entities on to the SVG unread.

The layout engine knows other font metrics than the browser. So each node gets its size here, measured for
DejaVu Sans, the widest of the fonts that the picture may be shown in, and `draw` sets the text at this size.
`class` carries to `draw` what DOT has no word for: the status, whether a person decides, and as `lock-3` the mark
that stands beside line 3.
"""

from __future__ import annotations

import textwrap
import unicodedata
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Literal, get_args

import graphviz

from stabilize_nb.errors import ConfigError
from stabilize_nb.models.status import WorkflowStatus
from stabilize_nb.models.workflow import Workflow
from stabilize_nb.notebook.frames import Framed, nest
from stabilize_nb.notebook.looks import LOOKS, shorten
from stabilize_nb.notebook.signs import Frame, FrameKind, Sign
from stabilize_nb.notebook.sketch import Arrow, Box, Line, Part, Sketch, sketch

#: "LR" runs to the right, "TB" down; "auto" runs to the right unless only running down fits on a page.
Direction = Literal["LR", "TB", "auto"]

# px. The same numbers place the text in `draw`.
TITLE_SIZE: Final = 13
LINE_SIZE: Final = 11
TITLE_HEIGHT: Final = 17
LINE_HEIGHT: Final = 14
PAD_Y: Final = 8
TEXT_X: Final = 34
PAD_RIGHT: Final = 12
PERSON_WIDTH: Final = 22
SHEET: Final = 4
END_SIZE: Final = 22
PAGE_WIDTH: Final = 1100
MIN_WIDTH: Final = 96
EVEN_WIDTH: Final = 260
BOX_COLUMNS: Final = 30
LABEL_COLUMNS: Final = 24

#: Stages beside each other from which on title and status share a line.
CROWD: Final = 8
EDGE_COLOUR: Final = "#767676"
#: The colours of what a definition never lets run.
BARRED: Final = LOOKS[WorkflowStatus.TERMINAL]
#: Arrows that are no edges find their own way, and keep out of the way of the others.
_ASIDE: Final = {"weight": "0", "tailport": "_", "headport": "_"}
_LINES: Final[Mapping[Line, Mapping[str, str]]] = {
    Line.FLOW: {},
    Line.UNUSED: {"style": "dotted"},
    Line.JUMP: {"style": "dashed", **_ASIDE},
    Line.LOOP: {"penwidth": "1.6", **_ASIDE},
    Line.STATE: {"style": "dotted", "penwidth": "1.6", "arrowhead": "odiamond", "arrowtail": "odiamond", **_ASIDE},
    Line.CANCEL: {"style": "dashed", "arrowhead": "tee", "arrowtail": "tee", **_ASIDE},
}
_FRAMES: Final[Mapping[FrameKind, str]] = {
    FrameKind.REGION: "dashed,rounded",
    FrameKind.CHOICE: "dotted,rounded",
    FrameKind.SECTION: "solid,rounded",
}
_MERMAID_LINES: Final[Mapping[Line, str]] = {
    Line.FLOW: "-->",
    Line.UNUSED: "-.->",
    Line.JUMP: "-.->",
    Line.LOOP: "==>",
    Line.STATE: "-.-o",
    Line.CANCEL: "--x",
}

# Advance widths in em of DejaVu Sans Bold, rounded up; the regular cut is narrower.
_WIDTHS: Final = {
    0.35: " ijl'",
    0.42: "/\\|IJ,.:;-",
    0.52: '!()[]frt_`"*',
    0.68: "zcs?ELTFkavxy",
    0.74: "bdeghnopquSYPCZ$0123456789{}",
    0.86: "ABDGHKNOQRUVX#+<=>^~&",
    1.1: "wmMW%@",
}
_WIDTH: Final = {char: width for width, chars in _WIDTHS.items() for char in chars}
_REGULAR: Final = 0.93


def text_width(text: str, size: float, *, bold: bool = False) -> float:
    """Width of `text` in px that no common sans-serif font exceeds; `size` in px."""
    em = sum(map(_advance, unicodedata.normalize("NFD", text)))
    return em * size * (1 if bold else _REGULAR)


def _advance(char: str) -> float:
    if char in _WIDTH:
        return _WIDTH[char]
    if unicodedata.combining(char):
        return 0
    return 1.1 if unicodedata.east_asian_width(char) in "WF" else 0.95


def to_dot(workflow: Workflow, *, direction: Direction = "LR", notes: Mapping[str, str] | None = None) -> str:
    """Write the workflow as DOT; `notes` adds a line to stages, by ref_id.

    Raises ConfigError for a direction that is none.
    """
    seen = sketch(workflow, notes)
    rankdir = _rankdir(seen, direction)
    dot = _canvas(seen, rankdir)
    place = {box.ref: number for number, box in enumerate(seen.boxes)}
    names = {ref: f"n{number}" for ref, number in place.items()}
    _add_boxes(dot, seen, names, rankdir)
    for number, arrow in enumerate(seen.arrows):
        _add_arrow(dot, names, arrow, f"e{number}", is_back=place[arrow.tail] >= place[arrow.head])
    return str(dot.source)


def _canvas(seen: Sketch, rankdir: str) -> graphviz.Digraph:
    crowded = _is_crowded(seen)
    font = {"fontname": "Helvetica", "fontsize": str(LINE_SIZE)}
    frame = {
        "rankdir": rankdir,
        "bgcolor": "transparent",
        "nodesep": "0.09" if crowded else "0.22",
        "ranksep": "1" if crowded else "0.44" if rankdir == "LR" else "0.36",
        "tooltip": _label(seen.description),
    }
    # Running down, the layers stand too close for arrows that all begin and end in the middle of a side.
    ports = {"tailport": "e", "headport": "w"} if rankdir == "LR" else {}
    return graphviz.Digraph(
        graph_attr={**frame, **font},
        node_attr={"shape": "box", "margin": "0.06,0.03", **font},
        edge_attr={"color": EDGE_COLOUR, "arrowsize": "0.7", **ports},
    )


def _rankdir(seen: Sketch, direction: Direction) -> str:
    if direction not in get_args(Direction):
        raise ConfigError(f"direction {direction!r} is none: use one of {', '.join(get_args(Direction))}")
    if direction != "auto":
        return direction
    to_the_right, down = _extent(seen)
    return "TB" if to_the_right > PAGE_WIDTH and down < to_the_right else "LR"


def _extent(seen: Sketch) -> tuple[float, float]:
    """How wide the picture gets, in px, when it runs to the right, and when it runs down."""
    layers = seen.layers()
    boxes: dict[int, list[float]] = {}
    for box in seen.boxes:
        boxes.setdefault(layers[box.ref], []).append(_size(box, _rows(box, box.frames), crowded=False)[0])
    labels: dict[int, float] = {}
    for arrow in seen.arrows:
        layer = max(layers[arrow.head], layers[arrow.tail])
        labels[layer] = max(labels.get(layer, 0), text_width(arrow.label, LINE_SIZE))
    to_the_right = sum(max(widths) + 36 + labels.get(layer, 0) for layer, widths in boxes.items())
    return to_the_right, max((sum(widths) + 16 * len(widths) for widths in boxes.values()), default=0)


def _is_crowded(seen: Sketch) -> bool:
    return max(Counter(seen.layers().values()).values(), default=0) > CROWD


def _is_short(box: Box, *, crowded: bool) -> bool:
    """Whether title and status share a line: in a crowd, unless there is a person to be drawn."""
    return crowded and not box.is_gate


@dataclass(frozen=True, slots=True)
class Row:
    """One line of text in a box, and what is drawn beside it."""

    words: str
    mark: str = ""


def _rows(box: Box, drawn: Sequence[Frame]) -> list[Row]:
    """Return the lines under the title. Frames that are drawn need not be written."""
    rows = [
        Row(line.label, line.status.name) if isinstance(line, Part) else Row(line.words, _mark(line.sign))
        for line in box.lines
    ]
    rows += [Row(shorten(frame.words)) for frame in box.frames if frame not in drawn]
    return [part for row in rows for part in _wrapped_row(row)]


def _mark(sign: Sign | None) -> str:
    return "" if sign is None else sign.value


def _wrapped_row(row: Row) -> Iterator[Row]:
    for number, words in enumerate(_wrapped(row.words, BOX_COLUMNS)):
        yield Row(words, "" if number else row.mark)


def _size(box: Box, rows: Sequence[Row], *, crowded: bool) -> tuple[float, float]:
    """Width and height of a box in px."""
    title = text_width(box.title, TITLE_SIZE, bold=True) + (PERSON_WIDTH if box.is_gate else 0)
    if _is_short(box, crowded=crowded):
        title += 12 + text_width(rows[0].words, LINE_SIZE)
        rows = rows[1:]
    wide = max(title, MIN_WIDTH - TEXT_X, *(text_width(row.words, LINE_SIZE) for row in rows), 0)
    pad = PAD_Y if rows else PAD_Y - 2
    sheets = 2 * SHEET if box.is_stack else 0
    return TEXT_X + wide + PAD_RIGHT + sheets, 2 * pad + TITLE_HEIGHT + LINE_HEIGHT * len(rows) + sheets


def _add_boxes(dot: graphviz.Digraph, seen: Sketch, names: Mapping[str, str], rankdir: str) -> None:
    crowded = _is_crowded(seen)
    whole = nest(seen.boxes)
    drawn = list(whole.frames())
    rows = {box.ref: _rows(box, drawn) for box in seen.boxes}
    sizes = {box.ref: _size(box, rows[box.ref], crowded=crowded) for box in seen.boxes}
    columns = seen.layers() if rankdir == "LR" else dict.fromkeys(names, 0)
    widths = _even_widths({ref: width for ref, (width, _) in sizes.items()}, columns)
    nodes = {
        box.ref: _box_attributes(box, rows[box.ref], (widths[box.ref], sizes[box.ref][1]), crowded=crowded)
        for box in seen.boxes
    }
    _add_framed(dot, whole, nodes, names)


def _add_framed(
    dot: graphviz.Digraph, framed: Framed, nodes: Mapping[str, Mapping[str, str]], names: Mapping[str, str]
) -> None:
    for box in framed.boxes:
        dot.node(names[box.ref], **nodes[box.ref])
        if box.end is not None:
            end = f"{names[box.ref]}end"
            dot.node(end, **_end_attributes(box))
            dot.edge(names[box.ref], end)
    for inner in framed.inside:
        if inner.frame is not None:
            first = next(inner.all_boxes())
            cluster = graphviz.Digraph(f"cluster_{names[first.ref]}", graph_attr=_frame(inner.frame))
            _add_framed(cluster, inner, nodes, names)
            dot.subgraph(cluster)


def _even_widths(widths: Mapping[str, float], columns: Mapping[str, int]) -> dict[str, float]:
    """Make the boxes of a column equally wide: calmer to look at. Very wide ones stay alone in it."""
    common: dict[int, float] = {}
    for ref, width in widths.items():
        if width <= EVEN_WIDTH:
            common[columns[ref]] = max(width, common.get(columns[ref], 0))
    return {ref: max(width, common.get(columns[ref], 0)) for ref, width in widths.items()}


def _frame(frame: Frame) -> dict[str, str]:
    # The spaces give what the engine takes the browser's font to be too narrow by.
    label = f"\N{EN SPACE}{frame.kind.value}: {shorten(frame.name, BOX_COLUMNS)}\N{EN SPACE}\N{EN SPACE}"
    return {
        "label": _label(label),
        "color": EDGE_COLOUR,
        "fontcolor": EDGE_COLOUR,
        "labeljust": "l",
        "style": _FRAMES[frame.kind],
    }


def _box_attributes(box: Box, rows: Sequence[Row], size: tuple[float, float], *, crowded: bool) -> dict[str, str]:
    look = box.look
    paint = BARRED if box.cannot_run else look
    title = Row(f"{look.symbol} {box.title}")
    short = _is_short(box, crowded=crowded)
    lines = [Row(f"{title.words} · {rows[0].words}"), *rows[1:]] if short else [title, *rows]
    marks = [f"{row.mark}-{number}" for number, row in enumerate(lines) if row.mark]
    kinds = {"short": short, "gate": box.is_gate, "stack": box.is_stack}
    corners = "diagonals" if box.is_gate else "rounded"
    return {
        "class": " ".join([box.status.name, *(kind for kind, is_so in kinds.items() if is_so), *marks]),
        "label": _label(*(row.words for row in lines), end="\\l"),
        "tooltip": _label(f"{box.title if box.is_stack else shorten(box.ref, 200)}: {', '.join(box.words)}"),
        "color": paint.stroke,
        "fillcolor": paint.fill,
        "style": ",".join(("filled", corners, *([look.border] if look.border != "solid" else []))),
        "penwidth": f"{look.width:g}",
        "peripheries": "2" if box.is_nested else "1",
        "width": f"{size[0] / 72:.3f}",
        "height": f"{size[1] / 72:.3f}",
    }


def _end_attributes(box: Box) -> dict[str, str]:
    return {
        "class": f"end {'CANCELED' if box.end == 'CANCELED' else 'SUCCEEDED'}",
        "label": "",
        "tooltip": _label(f"here the workflow ends: {box.end}"),
        "shape": "circle",
        "color": EDGE_COLOUR,
        "width": f"{END_SIZE / 72:.3f}",
        "fixedsize": "true",
    }


def _add_arrow(dot: graphviz.Digraph, names: Mapping[str, str], arrow: Arrow, name: str, *, is_back: bool) -> None:
    """Add an arrow; its label is a node on the way, as labels beside an edge end up beside another one."""
    line = {**_LINES[arrow.line], **({"color": BARRED.stroke} if arrow.is_barred else {})}
    # A jump back is laid out as an arrow forward with its point at the tail, and so gets its own way.
    first, last = (arrow.head, arrow.tail) if is_back else (arrow.tail, arrow.head)
    if not arrow.label:
        dot.edge(names[first], names[last], dir="back" if is_back else "forward", **line)
        return
    dot.node(name, **_label_attributes(arrow.label))
    dot.edge(names[first], name, dir="back" if is_back else "none", **line)
    dot.edge(name, names[last], dir="none" if is_back else "forward", **line)


def _label_attributes(label: str) -> dict[str, str]:
    lines = _wrapped(label, LABEL_COLUMNS)
    width = max(text_width(line, LINE_SIZE) for line in lines) + 14
    return {
        "class": "label",
        "label": _label(*lines, end="\\n"),
        "color": EDGE_COLOUR,
        "fillcolor": "#fafafa",
        "style": "filled,rounded",
        "penwidth": "0.6",
        "width": f"{width / 72:.3f}",
        "height": f"{(LINE_HEIGHT * len(lines) + 4) / 72:.3f}",
    }


def _wrapped(text: str, columns: int) -> list[str]:
    return textwrap.wrap(text, columns, max_lines=2, placeholder="…")


def _label(*lines: str, end: str = "") -> str:
    """Make text of lines that have passed `shorten` into a DOT label that means just this text."""
    text = "".join(graphviz.escape(line.replace("&", "&amp;")) + end for line in lines)
    label: str = graphviz.nohtml(text)  # a str of a class of its own: as a plain one it may be HTML again
    return label


def to_mermaid(workflow: Workflow, *, direction: Direction = "LR", notes: Mapping[str, str] | None = None) -> str:
    """Write the workflow as a Mermaid flowchart; the parameters are those of `to_dot`."""
    seen = sketch(workflow, notes)
    names = {box.ref: f"n{number}" for number, box in enumerate(seen.boxes)}
    lines = [
        *(_mermaid_box(names[box.ref], box) for box in seen.boxes),
        *(_mermaid_arrow(names, arrow) for arrow in seen.arrows),
        *_mermaid_classes(seen.boxes, names),
    ]
    return "\n    ".join([f"flowchart {_rankdir(seen, direction)}", *lines])


def _mermaid_box(name: str, box: Box) -> str:
    first, *rest = box.words
    lines = (box.title, f"{box.look.symbol} {first}", *rest, *(shorten(frame.words) for frame in box.frames))
    text = "<br/>".join(map(_entities, lines))
    match box:
        case Box(is_gate=True):
            return f'{name}{{{{"{text}"}}}}'
        case Box(is_nested=True):
            return f'{name}[["{text}"]]'
        case _:
            return f'{name}["{text}"]'


def _mermaid_arrow(names: Mapping[str, str], arrow: Arrow) -> str:
    line = _MERMAID_LINES[arrow.line]
    label = f'|"{_entities(arrow.label)}"|' if arrow.label else ""
    return f"{names[arrow.tail]} {line}{label} {names[arrow.head]}"


def _mermaid_classes(boxes: Sequence[Box], names: Mapping[str, str]) -> list[str]:
    lines = []
    for status, look in LOOKS.items():
        members = ",".join(names[box.ref] for box in boxes if box.status is status)
        if members:
            colours = f"fill:{look.fill},stroke:{look.stroke},color:#222222"
            lines += [f"classDef {status.name} {colours}", f"class {members} {status.name}"]
    return lines


def _entities(text: str) -> str:
    """Mermaid's own entities for everything that is ASCII and no letter, digit or plain mark."""
    return "".join(
        f"#{ord(char)};" if char.isascii() and not char.isalnum() and char not in " -_.," else char for char in text
    )
