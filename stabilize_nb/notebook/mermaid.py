"""A workflow as Mermaid. No string of it can leave its label: all that is not plain becomes an entity."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from stabilize_nb.models.workflow import Workflow
from stabilize_nb.notebook.cards import Direction, rankdir_of
from stabilize_nb.notebook.looks import LOOKS, shorten
from stabilize_nb.notebook.shown import Arrow, Box, Line
from stabilize_nb.notebook.sketch import sketch

_LINES: Final[Mapping[Line, str]] = {
    Line.FLOW: "-->",
    Line.UNUSED: "-.->",
    Line.JUMP: "-.->",
    Line.LOOP: "==>",
    Line.STATE: "-.-o",
    Line.CANCEL: "--x",
}


def to_mermaid(workflow: Workflow, *, direction: Direction = "LR", notes: Mapping[str, str] | None = None) -> str:
    """Write the workflow as a Mermaid flowchart; the parameters are those of `to_dot`."""
    seen = sketch(workflow, notes)
    names = {box.ref: f"n{number}" for number, box in enumerate(seen.boxes)}
    lines = [
        *(_box(names[box.ref], box) for box in seen.boxes),
        *(_arrow(names, arrow) for arrow in seen.arrows),
        *_classes(seen.boxes, names),
    ]
    return "\n    ".join([f"flowchart {rankdir_of(seen, direction)}", *lines])


def _box(name: str, box: Box) -> str:
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


def _arrow(names: Mapping[str, str], arrow: Arrow) -> str:
    line = _LINES[arrow.line]
    label = f'|"{_entities(arrow.label)}"|' if arrow.label else ""
    return f"{names[arrow.tail]} {line}{label} {names[arrow.head]}"


def _classes(boxes: Sequence[Box], names: Mapping[str, str]) -> list[str]:
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
