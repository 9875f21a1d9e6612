"""A workflow in words: what a picture of it shows, and the pictures that need nothing but text.

A `Sketch` says what is to be seen, in no notation; the text DAG, Mermaid and DOT are drawn from it.

1. Status is told three times: by colour, by symbol and by word. `LOOKS` is the only place that knows them;
   its symbols are in the fonts that terminals and browsers bring.
2. Names, conditions and errors may come from a model: every string passes `shorten` before it is shown.
3. All runs of a stage (`ref`, `ref#2`, ...) are one box, which shows the status that most wants attention.
4. In the text DAG a stage stands under the stage that every path to it goes through (its immediate dominator;
   Lengauer and Tarjan 1979). Branches are indented; a join stands at the level of what split, and names what
   it waits for.
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from itertools import accumulate

import networkx as nx

from stabilize_nb.models.stage import JoinType, SplitType, StageExecution
from stabilize_nb.models.status import FAILURE, WorkflowStatus
from stabilize_nb.models.topology import ACTIVATION_SUFFIX
from stabilize_nb.models.workflow import Workflow

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
JOINS: Mapping[JoinType, str] = {
    JoinType.OR: "all taken of {m}",
    JoinType.MULTI_MERGE: "each of {m}",
    JoinType.DISCRIMINATOR: "the first of {m}",
    JoinType.N_OF_M: "{n} of {m}",
}
SPLITS: Mapping[SplitType, str] = {
    SplitType.OR: "takes every match",
    SplitType.XOR: "takes the first match",
}


class Line(Enum):
    """What an arrow stands for."""

    SOLID = "solid"  # the head follows the tail
    UNUSED = "dotted"  # so it would, but an end of it was skipped
    JUMP = "dashed"  # a jump that was carried out


@dataclass(frozen=True, slots=True, kw_only=True)
class Box:
    """One stage as it is shown. `details` are the lines under the status; `join` is empty for AND."""

    ref: str
    title: str
    status: WorkflowStatus
    join: str
    details: tuple[str, ...]
    is_gate: bool
    is_nested: bool
    region: str | None

    @property
    def look(self) -> Look:
        return LOOKS[self.status]

    @property
    def lines(self) -> tuple[str, ...]:
        """All that is written under the title."""
        joins = (f"joins {self.join}",) if self.join else ()
        return (self.look.word, *joins, *self.details)


@dataclass(frozen=True, slots=True, kw_only=True)
class Arrow:
    """One edge as it is shown; `tail` and `head` are ref_ids."""

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
        """The arrows that order the stages: all but the jumps."""
        return [arrow for arrow in self.arrows if arrow.line is not Line.JUMP]

    @property
    def description(self) -> str:
        """What the picture shows in one line: "analysis running, 5 stages: plan succeeded, ..."."""
        if len(self.boxes) <= STAGES_DESCRIBED:
            parts = ", ".join(f"{box.title} {box.look.word}" for box in self.boxes)
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


def sketch(workflow: Workflow, notes: Mapping[str, str] | None = None) -> Sketch:
    """Say what a picture of `workflow` shows; `notes` adds a line to stages, by ref_id."""
    runs: dict[str, list[StageExecution]] = {}
    for stage in workflow.stages:
        runs.setdefault(_base(stage.ref_id), []).append(stage)
    for rows in runs.values():
        rows.sort(key=lambda row: row.activation)
    stages = {ref: runs[ref][0] for ref in _in_order(runs)}
    boxes = {ref: _box(ref, runs[ref], (notes or {}).get(ref, "")) for ref in stages}
    return Sketch(
        title=shorten(workflow.name, NAME_COLUMNS) or "workflow",
        look=LOOKS[workflow.status],
        boxes=tuple(boxes.values()),
        arrows=(*_flow(stages, boxes), *_jumps(workflow.stages, boxes)),
    )


def _base(ref: str) -> str:
    return ACTIVATION_SUFFIX.sub("", ref)


def _requisites(stage: StageExecution) -> set[str]:
    return {_base(ref) for ref in stage.requisite_stage_ref_ids}


def _in_order(runs: Mapping[str, Sequence[StageExecution]]) -> list[str]:
    """Sort topologically. A cycle is condensed first: what was never checked is drawn all the same."""
    place = {ref: number for number, ref in enumerate(runs)}
    graph: nx.DiGraph[str] = nx.DiGraph()
    graph.add_nodes_from(runs)
    graph.add_edges_from((before, ref) for ref in runs for before in _requisites(runs[ref][0]) & runs.keys())
    knots = nx.condensation(graph)
    members = {knot: sorted(refs, key=place.__getitem__) for knot, refs in knots.nodes(data="members")}
    order = nx.lexicographical_topological_sort(knots, key=lambda knot: place[members[knot][0]])
    return [ref for knot in order for ref in members[knot]]


def _box(ref: str, runs: Sequence[StageExecution], note: str) -> Box:
    stage = runs[0]
    statuses = {run.status for run in runs}
    status = next(status for status in LOOKS if status in statuses)
    details = [*_settings(stage), *_progress(stage, runs, status), note]
    return Box(
        ref=ref,
        title=shorten(ref, NAME_COLUMNS) or "?",
        status=status,
        join=_join(stage),
        details=tuple(dict.fromkeys(filter(None, map(shorten, details)))),
        is_gate=_is_gate(stage),
        is_nested=_is_nested(stage),
        region=stage.cancel_region,
    )


def _is_gate(stage: StageExecution) -> bool:
    tasks = {task.implementing_class for task in stage.tasks}
    return stage.type == "approval" or "approval" in tasks or "_gate" in stage.context


def _is_nested(stage: StageExecution) -> bool:
    return "_sub_workflow_config" in stage.context


def _join(stage: StageExecution) -> str:
    branches = len(_requisites(stage))
    if stage.join_type not in JOINS or not branches:
        return ""
    return JOINS[stage.join_type].format(n=stage.join_threshold or branches, m=branches)


def _settings(stage: StageExecution) -> Iterator[str]:
    """Yield what the definition says beyond its edges."""
    if _letters(stage.name) not in {"", _letters(stage.ref_id)}:
        yield stage.name
    if _is_nested(stage):
        yield "sub-workflow"
    if stage.split_conditions and stage.split_type in SPLITS:
        yield SPLITS[stage.split_type]
    if stage.mi_config is not None:
        yield f"{stage.mi_config.count} instances" if stage.mi_config.count else "several instances"
    if stage.deferred_choice_group is not None:
        yield f"one of choice {stage.deferred_choice_group}"
    if stage.mutex_key is not None:
        yield f"one at a time: {stage.mutex_key}"
    if stage.milestone_ref_id is not None:
        yield f"only while {stage.milestone_ref_id} is {stage.milestone_status or 'reached'}"


def _letters(text: str) -> str:
    return re.sub(r"[\W_]", "", text).casefold()


def _progress(stage: StageExecution, runs: Sequence[StageExecution], status: WorkflowStatus) -> Iterator[str]:
    if _is_gate(stage):
        yield "waits for approval" if status is S.SUSPENDED else "approval"
    if len(runs) > 1:
        yield f"{len(runs)} runs: {_tally([run.status for run in runs])}"
    if stage.generation:
        yield f"round {stage.generation + 1}"
    if status in FAILURE:
        errors = [run.error for run in runs if run.status is status and run.error]
        yield next(iter(errors), "").strip().partition("\n")[0]


def _tally(statuses: Sequence[WorkflowStatus]) -> str:
    count = Counter(statuses)
    return ", ".join(f"{count[status]} {look.word}" for status, look in LOOKS.items() if status in count)


def _flow(stages: Mapping[str, StageExecution], boxes: Mapping[str, Box]) -> Iterator[Arrow]:
    place = {ref: number for number, ref in enumerate(stages)}
    for head, stage in stages.items():
        for tail in sorted(_requisites(stage) & stages.keys(), key=place.__getitem__):
            skipped = S.SKIPPED in {boxes[tail].status, boxes[head].status}
            line = Line.UNUSED if skipped else Line.SOLID
            yield Arrow(tail=tail, head=head, label=_condition(stages[tail], head), line=line)


def _condition(stage: StageExecution, head: str) -> str:
    if stage.split_type not in SPLITS:
        return ""
    if head in stage.split_conditions:
        return shorten(f"if {stage.split_conditions[head]}")
    return "otherwise" if stage.split_default == head else ""


def _jumps(stages: Sequence[StageExecution], boxes: Mapping[str, Box]) -> Iterator[Arrow]:
    """Yield one arrow for each pair of stages; the ends of a jump both remember it, its number tells."""
    entries = [entry for stage in stages for entry in stage.context.get("_jump_history") or ()]
    jumps = {entry["jump_number"]: (_base(entry["from_stage"]), _base(entry["to_stage"])) for entry in entries}
    for (tail, head), count in sorted(Counter(jumps.values()).items()):
        if tail in boxes and head in boxes:
            yield Arrow(tail=tail, head=head, label=f"jumped {count}×", line=Line.JUMP)


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
