"""Pictures that need nothing but text.

In the text DAG a stage stands under the stage that every path to it goes through (its immediate dominator; Lengauer
and Tarjan 1979). Branches are indented; a join stands at the level of what split, and names what it waits for.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Final

import networkx as nx

from stabilize_nb.models.workflow import Workflow
from stabilize_nb.notebook.looks import LOOKS as LOOKS  # noqa: PLC0414 - found here by the other pictures
from stabilize_nb.notebook.looks import columns_of
from stabilize_nb.notebook.looks import shorten as shorten  # noqa: PLC0414 - as LOOKS
from stabilize_nb.notebook.shown import Arrow, Box, Line, Sketch, by_head
from stabilize_nb.notebook.sketch import describe as describe  # noqa: PLC0414 - as LOOKS
from stabilize_nb.notebook.sketch import sketch

#: Names in a list before the rest is counted.
LISTED = 5


def to_text(workflow: Workflow, *, notes: Mapping[str, str] | None = None) -> str:
    """Draw the workflow as plain text, one line a stage."""
    seen = sketch(workflow, notes)
    before = by_head(seen.flow)
    boxes = {box.ref: box for box in seen.boxes}
    rows = [(f"{rail}{boxes[ref].look.symbol} {boxes[ref].title}", boxes[ref]) for rail, ref in _rows(seen)]
    wide = max((columns_of(name) for name, _ in rows), default=0)
    words = max((len(box.look.word) for box in boxes.values()), default=0)
    lines = [f"{seen.look.symbol} {seen.title}: {seen.look.word}", ""]
    for name, box in rows:
        rest = " · ".join(filter(None, _remarks(seen, boxes, box, before.get(box.ref, []))))
        lines.append(f"{name}{' ' * (wide - columns_of(name))}  {box.look.word:{words}}  {rest}".rstrip())
    return "\n".join(lines).rstrip()


def _remarks(seen: Sketch, boxes: Mapping[str, Box], box: Box, before: Sequence[Arrow]) -> Iterator[str]:
    yield _after(boxes, box, before)
    for detail in box.details:
        yield detail.words
    for part in box.parts:
        yield f"{part.when}: {LOOKS[part.status].symbol} {part.title}"
    for frame in box.frames:
        yield shorten(frame.words)
    for arrow in seen.arrows:
        if arrow.line in _WAYS and arrow.tail == box.ref:
            yield f"{arrow.label} {_WAYS[arrow.line]} {boxes[arrow.head].title}"


#: How the end of an arrow that is no edge is named; what the other arrows say stands in the details.
_WAYS: Final[Mapping[Line, str]] = {Line.JUMP: "to", Line.LOOP: "from"}


def _after(boxes: Mapping[str, Box], box: Box, arrows: Sequence[Arrow]) -> str:
    """Say what the rails do not show: the conditions and, at a join, what is waited for."""
    join = box.join.words if box.join else ""
    if len(arrows) <= 1:
        return ", ".join(filter(None, [*(arrow.label for arrow in arrows), join and f"after {join}"]))
    names = [boxes[arrow.tail].title + (f" ({arrow.label})" if arrow.label else "") for arrow in arrows[:LISTED]]
    more = [f"{len(arrows) - LISTED} more"] if len(arrows) > LISTED else []
    return f"after {join + ': ' if join else ''}{', '.join([*names, *more])}"


def _rows(seen: Sketch) -> Iterator[tuple[str, str]]:
    """Yield (rail, ref_id) from top to bottom. No recursion: a chain may be longer than Python's stack."""
    before = by_head(seen.flow)
    tree = _dominated(seen, before)
    pending = [*reversed(_level(tree.get(None, []), before, ""))]
    if len(pending) > 1 and pending[-1][0]:
        _, below, ref = pending.pop()
        pending.append(("╭─ ", below, ref))
    while pending:
        rail, below, ref = pending.pop()
        yield rail, ref
        pending.extend(reversed(_level(tree.get(ref, []), before, below)))


def _level(refs: Sequence[str], before: Mapping[str, Sequence[Arrow]], rail: str) -> list[tuple[str, str, str]]:
    """Return (rail, rail of what follows, ref_id) for the stages directly under one stage."""
    branches = [ref for ref in refs if len(refs) > 1 and len(before.get(ref, ())) <= 1]
    joins = [ref for ref in refs if ref not in branches]
    rows = [(f"{rail}├─ ", f"{rail}│  ", ref) for ref in branches]
    if rows and not joins:
        rows[-1] = (f"{rail}╰─ ", f"{rail}   ", branches[-1])
    return rows + [(rail, rail, ref) for ref in joins]


def _dominated(seen: Sketch, before: Mapping[str, Sequence[Arrow]]) -> dict[str | None, list[str]]:
    """Return the stages under each stage; under None those that no single stage leads to."""
    root = 0
    graph: nx.DiGraph[str | int] = nx.DiGraph()
    graph.add_node(root)
    graph.add_edges_from((arrow.tail, arrow.head) for arrow in seen.flow)
    graph.add_edges_from((root, box.ref) for box in seen.boxes if box.ref not in before)
    above = nx.immediate_dominators(graph, root)
    tree: dict[str | None, list[str]] = {}
    for box in seen.boxes:
        over = above.get(box.ref, root)
        tree.setdefault(over if isinstance(over, str) else None, []).append(box.ref)
    return tree
