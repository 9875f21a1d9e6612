"""A workflow as DOT (Graphviz).

No string of a workflow can leave its label. Nodes are called n0, n1, ... in place of their ref_ids; labels go
through `escape` and `nohtml`, because Graphviz reads a label that begins with `<` as HTML and a backslash as
a command; and `&` is written as an entity, because Graphviz hands entities on to the SVG unread.

`class` carries to `draw` what DOT has no word for: the status, whether a person decides, and as `lock-3` the mark
that stands beside line 3.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

import graphviz

from stabilize_nb.models.status import WorkflowStatus
from stabilize_nb.models.workflow import Workflow
from stabilize_nb.notebook.cards import (
    BOX_COLUMNS,
    END_SIZE,
    EVEN_WIDTH,
    LABEL_COLUMNS,
    LINE_HEIGHT,
    LINE_SIZE,
    Row,
    is_crowded,
    is_short,
    rankdir_of,
    rows_of,
    size_of,
    wrapped,
)
from stabilize_nb.notebook.cards import Direction as Direction  # noqa: PLC0414 - found here by the commands
from stabilize_nb.notebook.cards import text_width as text_width  # noqa: PLC0414 - as Direction
from stabilize_nb.notebook.frames import Framed, nest
from stabilize_nb.notebook.looks import LOOKS, shorten
from stabilize_nb.notebook.mermaid import to_mermaid as to_mermaid  # noqa: PLC0414 - as Direction
from stabilize_nb.notebook.shown import Arrow, Box, Line, Sketch
from stabilize_nb.notebook.signs import Frame, FrameKind
from stabilize_nb.notebook.sketch import sketch

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


def to_dot(workflow: Workflow, *, direction: Direction = "LR", notes: Mapping[str, str] | None = None) -> str:
    """Write the workflow as DOT; `notes` adds a line to stages, by ref_id.

    Raises ConfigError for a direction that is none.
    """
    seen = sketch(workflow, notes)
    rankdir = rankdir_of(seen, direction)
    dot = _canvas(seen, rankdir)
    place = {box.ref: number for number, box in enumerate(seen.boxes)}
    names = {ref: f"n{number}" for ref, number in place.items()}
    _add_boxes(dot, seen, names, rankdir)
    for number, arrow in enumerate(seen.arrows):
        _add_arrow(dot, names, arrow, f"e{number}", is_back=place[arrow.tail] >= place[arrow.head])
    return str(dot.source)


def _canvas(seen: Sketch, rankdir: str) -> graphviz.Digraph:
    crowded = is_crowded(seen)
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


def _add_boxes(dot: graphviz.Digraph, seen: Sketch, names: Mapping[str, str], rankdir: str) -> None:
    crowded = is_crowded(seen)
    whole = nest(seen.boxes)
    drawn = list(whole.frames())
    rows = {box.ref: rows_of(box, drawn) for box in seen.boxes}
    sizes = {box.ref: size_of(box, rows[box.ref], crowded=crowded) for box in seen.boxes}
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
        "penwidth": "1.6" if frame.kind is FrameKind.CHOICE else "1",
    }


def _box_attributes(box: Box, rows: Sequence[Row], size: tuple[float, float], *, crowded: bool) -> dict[str, str]:
    look = box.look
    paint = BARRED if box.cannot_run else look
    title = Row(f"{look.symbol} {box.title}")
    short = is_short(box, crowded=crowded)
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
    lines = wrapped(label, LABEL_COLUMNS)
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


def _label(*lines: str, end: str = "") -> str:
    """Make text of lines that have passed `shorten` into a DOT label that means just this text."""
    text = "".join(graphviz.escape(line.replace("&", "&amp;")) + end for line in lines)
    label: str = graphviz.nohtml(text)  # a str of a class of its own: as a plain one it may be HTML again
    return label
