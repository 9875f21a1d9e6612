"""A workflow in words: what a picture of it shows, and the pictures that need nothing but text.

A `Sketch` says what is to be seen, in no notation; the text DAG, Mermaid and DOT are drawn from it.

1. Status is told three times: by colour, by symbol and by word. `LOOKS` is the only place that knows them;
   its symbols are in the fonts that terminals and browsers bring.
2. Names, conditions and errors may come from a model: every string passes `shorten` before it is shown.
3. What shares a box (`groups`) is shown with the status that most wants attention.
4. What a stage says about control flow is said by `signs`, in every notation with the same words.
5. In the text DAG a stage stands under the stage that every path to it goes through (its immediate dominator;
   Lengauer and Tarjan 1979). Branches are indented; a join stands at the level of what split, and names what
   it waits for.
"""

from __future__ import annotations

import unicodedata
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from itertools import accumulate

import networkx as nx

from stabilize_nb.models.stage import StageExecution, SyntheticStageOwner
from stabilize_nb.models.status import FAILURE, WorkflowStatus
from stabilize_nb.models.workflow import Workflow
from stabilize_nb.notebook.groups import Group, Grouping, base, group
from stabilize_nb.notebook.signs import (
    Detail,
    Frame,
    Sign,
    again,
    condition_of,
    frames_of,
    instances_of,
    is_nested,
    join_of,
    join_of_instances,
    loop_of,
    settings_of,
)

S = WorkflowStatus

#: Columns of a name and of any other line before they are cut.
NAME_COLUMNS = 28
LINE_COLUMNS = 56
#: Names in a list before the rest is counted.
LISTED = 5
STAGES_DESCRIBED = 12


@dataclass(frozen=True, slots=True, kw_only=True)
class Look:
    """How a status is shown. Colours are safe for colour-blind eyes; `width` is of the border, in px."""

    symbol: str
    word: str
    stroke: str
    fill: str
    border: str = "solid"
    width: float = 1.2


#: In the order in which a status wants attention: of several runs of a stage the first gives the look.
LOOKS: Mapping[WorkflowStatus, Look] = {
    S.TERMINAL: Look(symbol="✕", word="failed", stroke="#c62828", fill="#ffebee", width=2.4),
    S.SUSPENDED: Look(symbol="‖", word="waiting", stroke="#b26a00", fill="#fff8e1", border="dashed", width=2),
    S.PAUSED: Look(symbol="■", word="paused", stroke="#455a64", fill="#eceff1", border="dashed", width=2),
    S.REDIRECT: Look(symbol="↪", word="jumping", stroke="#1565c0", fill="#e3f2fd", border="dashed"),
    S.RUNNING: Look(symbol="▶", word="running", stroke="#1565c0", fill="#e3f2fd", width=2.4),
    S.BUFFERED: Look(symbol="⋯", word="queued", stroke="#757575", fill="#f5f5f5", border="dashed"),
    S.STOPPED: Look(symbol="⊘", word="stopped", stroke="#c62828", fill="#ffebee"),
    S.FAILED_CONTINUE: Look(symbol="!", word="failed but went on", stroke="#bf360c", fill="#fbe9e7"),
    S.CANCELED: Look(symbol="–", word="cancelled", stroke="#6a1b9a", fill="#f3e5f5"),
    S.SUCCEEDED: Look(symbol="✓", word="succeeded", stroke="#2e7d32", fill="#e8f5e9"),
    S.NOT_STARTED: Look(symbol="○", word="not started", stroke="#757575", fill="#f5f5f5"),
    S.SKIPPED: Look(symbol="»", word="skipped", stroke="#757575", fill="#fafafa", border="dotted"),
}
#: When a synthetic stage runs, seen from the stage that it stands in.
WHEN: Mapping[SyntheticStageOwner | None, str] = {
    SyntheticStageOwner.STAGE_BEFORE: "before",
    SyntheticStageOwner.STAGE_AFTER: "after",
    SyntheticStageOwner.STAGE_FAILURE: "on failure",
}


class Line(Enum):
    """What an arrow stands for."""

    FLOW = "flow"  # the head follows the tail
    UNUSED = "unused"  # so it would, but an end of it was skipped
    JUMP = "jump"  # a jump that was carried out, or may be
    STATE = "state"  # the head starts only in a certain state of the tail
    CANCEL = "cancel"  # the end of the tail withdraws the head


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """A synthetic stage, as it is shown inside the box of its parent."""

    when: str
    title: str
    status: WorkflowStatus

    @property
    def words(self) -> str:
        return f"{self.when}: {self.title}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Box:
    """One stage, or all instances of one, as it is shown.

    `join` is what it waits for, None for all of its branches. `details` are the lines under the status, `parts` those
    of its synthetic stages; `end` says how its end ends the workflow.
    """

    ref: str
    title: str
    status: WorkflowStatus
    join: Detail | None
    details: tuple[Detail, ...]
    parts: tuple[Part, ...]
    frames: tuple[Frame, ...]
    end: str | None
    is_gate: bool
    is_nested: bool
    is_stack: bool

    @property
    def look(self) -> Look:
        return LOOKS[self.status]

    @property
    def lines(self) -> tuple[Detail | Part, ...]:
        """All that is written under the title."""
        joins = (Detail(f"joins {self.join.words}", self.join.sign),) if self.join else ()
        return (Detail(self.look.word), *joins, *self.details, *self.parts)

    @property
    def words(self) -> tuple[str, ...]:
        """The same as words alone, each short enough for a line."""
        return tuple(line.words for line in self.lines)


@dataclass(frozen=True, slots=True, kw_only=True)
class Arrow:
    """One edge as it is shown; `tail` and `head` are refs of boxes."""

    tail: str
    head: str
    label: str
    line: Line


@dataclass(frozen=True, slots=True, kw_only=True)
class Sketch:
    """All that a picture of a workflow shows. Boxes are sorted topologically, then as they were defined."""

    title: str
    look: Look
    boxes: tuple[Box, ...]
    arrows: tuple[Arrow, ...]

    @property
    def flow(self) -> list[Arrow]:
        """The arrows that order the stages."""
        return [arrow for arrow in self.arrows if arrow.line in {Line.FLOW, Line.UNUSED}]

    @property
    def description(self) -> str:
        """What the picture shows in one line: "analysis running, 5 stages: plan succeeded, ..."."""
        if len(self.boxes) <= STAGES_DESCRIBED:
            parts = ", ".join(map(_described, self.boxes))
        else:
            parts = _tally([box.status for box in self.boxes])
        stages = "1 stage" if len(self.boxes) == 1 else f"{len(self.boxes)} stages"
        return f"{self.title} {self.look.word}, {stages}" + (f": {parts}" if parts else "")

    def layers(self) -> dict[str, int]:
        """Longest way from a first stage to each stage, in arrows."""
        layer: dict[str, int] = {}
        before = _by_head(self.flow)
        for box in self.boxes:
            tails = [arrow.tail for arrow in before.get(box.ref, ())]
            layer[box.ref] = max((layer.get(tail, -1) + 1 for tail in tails), default=0)
        return layer


def shorten(text: str, columns: int = LINE_COLUMNS) -> str:
    """Return `text` as one line of at most `columns` columns that cannot disturb what stands around it.

    Control characters, bidi controls, lone surrogates and noncharacters are left out, white space is one
    space, and combining marks take a column each, so that they cannot pile up.
    """
    cut = text[: 20 * columns]
    plain = " ".join("".join(filter(_is_shown, cut)).split())
    if len(cut) == len(text) and _columns(plain) <= columns:
        return plain
    fits = sum(reached < columns for reached in accumulate(map(_columns, plain)))
    return plain[:fits].rstrip() + "…"


def _is_shown(char: str) -> bool:
    if char.isspace() or char in "\u200c\u200d":
        return True
    return unicodedata.category(char) not in {"Cc", "Cf", "Cs"} and not _is_noncharacter(ord(char))


def _is_noncharacter(code: int) -> bool:
    return code & 0xFFFE == 0xFFFE or 0xFDD0 <= code <= 0xFDEF  # noqa: PLR2004 - the block as Unicode has it


def _columns(text: str) -> int:
    return sum(2 if unicodedata.east_asian_width(char) in "WF" else 1 for char in text)


def _described(box: Box) -> str:
    """Say a box without what only an eye can go through: errors, numbers, notes."""
    said = [words for line, words in zip(box.lines, box.words, strict=True) if isinstance(line, Part) or line.sign]
    said += [shorten(frame.words) for frame in box.frames]
    return f"{box.title} {box.look.word}" + (f" ({'; '.join(said)})" if said else "")


def sketch(workflow: Workflow, notes: Mapping[str, str] | None = None) -> Sketch:
    """Say what a picture of `workflow` shows; `notes` adds a line to stages, by ref_id."""
    grouping = group(workflow.stages)
    edges = grouping.edges()
    place = {ref: number for number, ref in enumerate(_in_order(grouping.groups, edges))}
    boxes = {ref: _box(grouping, ref, (notes or {}).get(ref, "")) for ref in place}
    drawn = sorted(edges, key=lambda edge: (place[edge[1]], place[edge[0]]))
    flow = [_arrow(boxes, pair, condition_of(grouping.stage(edges[pair][0]), edges[pair][1])) for pair in drawn]
    others = [arrow for draw in (_jumps, _states, _cancellations) for arrow in draw(grouping, boxes)]
    return Sketch(
        title=shorten(workflow.name, NAME_COLUMNS) or "workflow",
        look=LOOKS[workflow.status],
        boxes=tuple(boxes.values()),
        arrows=(*flow, *others),
    )


def _in_order(refs: Iterable[str], edges: Iterable[tuple[str, str]]) -> list[str]:
    """Sort topologically. A cycle is condensed first: what was never checked is drawn all the same."""
    place = {ref: number for number, ref in enumerate(refs)}
    graph: nx.DiGraph[str] = nx.DiGraph()
    graph.add_nodes_from(place)
    graph.add_edges_from(edges)
    knots = nx.condensation(graph)
    members = {knot: sorted(refs, key=place.__getitem__) for knot, refs in knots.nodes(data="members")}
    order = nx.lexicographical_topological_sort(knots, key=lambda knot: place[members[knot][0]])
    return [ref for knot in order for ref in members[knot]]


def _box(grouping: Grouping, ref: str, note: str) -> Box:
    here = grouping.groups[ref]
    activity, stage = here.activity, here.runs[0] if here.runs else StageExecution(ref_id=ref)
    status = _status(here.runs) if here.runs else _status_of_none(activity)
    details = [*_settings(here, stage), *_progress(here, stage, status), Detail(note)]
    return Box(
        ref=ref,
        title=_title(here, ref),
        status=status,
        join=_join(grouping, stage),
        details=tuple(dict.fromkeys(filter(_says_something, map(_short, details)))),
        parts=tuple(_part(grouping, stage, rows) for rows in here.parts.values()),
        frames=tuple(frames_of(stage)),
        end=stage.ends_workflow,
        is_gate=_is_gate(stage),
        is_nested=is_nested(stage),
        is_stack=activity is not None,
    )
def _by_head(arrows: Sequence[Arrow]) -> dict[str, list[Arrow]]:
    before: dict[str, list[Arrow]] = {}
    for arrow in arrows:
        before.setdefault(arrow.head, []).append(arrow)
    return before


def describe(workflow: Workflow) -> str:
    """Say in one line what the picture of `workflow` shows: for those who do not see it."""
    return sketch(workflow).description


def to_text(workflow: Workflow, *, notes: Mapping[str, str] | None = None) -> str:
    """Draw the workflow as plain text, one line a stage."""
    seen = sketch(workflow, notes)
    before = _by_head(seen.flow)
    boxes = {box.ref: box for box in seen.boxes}
    rows = [(f"{rail}{boxes[ref].look.symbol} {boxes[ref].title}", boxes[ref]) for rail, ref in _rows(seen)]
    wide = max((_columns(name) for name, _ in rows), default=0)
    words = max((len(box.look.word) for box in boxes.values()), default=0)
    lines = [f"{seen.look.symbol} {seen.title}: {seen.look.word}", ""]
    for name, box in rows:
        remarks = (_after(box, before.get(box.ref, [])), *box.details, *_jumped(seen, box.ref))
        rest = " · ".join(filter(None, remarks))
        lines.append(f"{name}{' ' * (wide - _columns(name))}  {box.look.word:{words}}  {rest}".rstrip())
    return "\n".join(lines).rstrip()


def _after(box: Box, arrows: Sequence[Arrow]) -> str:
    """Say what the rails do not show: the conditions and, at a join, what is waited for."""
    if len(arrows) <= 1:
        return "".join(arrow.label for arrow in arrows)
    names = [
        shorten(arrow.tail, NAME_COLUMNS) + (f" ({arrow.label})" if arrow.label else "") for arrow in arrows[:LISTED]
    ]
    more = [f"{len(arrows) - LISTED} more"] if len(arrows) > LISTED else []
    return f"after {box.join + ': ' if box.join else ''}{', '.join([*names, *more])}"


def _jumped(seen: Sketch, ref: str) -> Iterator[str]:
    for arrow in seen.arrows:
        if arrow.line is Line.JUMP and arrow.tail == ref:
            yield f"{arrow.label} to {shorten(arrow.head, NAME_COLUMNS)}"


def _rows(seen: Sketch) -> Iterator[tuple[str, str]]:
    """Yield (rail, ref_id) from top to bottom. No recursion: a chain may be longer than Python's stack."""
    before = _by_head(seen.flow)
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
