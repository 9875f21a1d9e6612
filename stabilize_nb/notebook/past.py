"""
A run as it was at one moment, as a cell shows it: what had just happened, the picture, the gates, the stages.

A graph of more than `DRAWN` stages is drawn around the stage that moved last: nobody sees a thousand boxes at once, and
the next moment has to be there at once.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any, Final

from markupsafe import Markup

from stabilize_nb.events.replay import picture_of
from stabilize_nb.models.multi_instance import PARENT_REF_ID
from stabilize_nb.models.status import WorkflowStatus
from stabilize_nb.notebook.config import settings
from stabilize_nb.notebook.draw import data_uri, svg_of
from stabilize_nb.notebook.gates import is_asking
from stabilize_nb.notebook.looks import LOOKS, shorten
from stabilize_nb.notebook.progress import StageTable, status_of
from stabilize_nb.notebook.shown import tally
from stabilize_nb.notebook.tables import Table, duration, join, moment
from stabilize_nb.notebook.telling import sentence_of, who_of
from stabilize_nb.notebook.text import describe, to_text
from stabilize_nb.plain import obeyed_by_none
from stabilize_nb.secrets.patterns import masked_value

if TYPE_CHECKING:
    from stabilize_nb.core.rows import StageRow
    from stabilize_nb.events.history import Entry
    from stabilize_nb.models.workflow import Workflow
    from stabilize_nb.run_state import RunState

S = WorkflowStatus
#: Boxes of a picture; arrows from the stage in its middle to others when there are more; columns of a question.
DRAWN: Final = 30
NEAR: Final = 3
COLUMNS: Final = 120

_HEADING: Final = Markup("<p><b>{}</b> · {}</p>")
_LINE: Final = Markup("<p>{}</p>")
_IMAGE: Final = Markup('<p><img alt="{}" src="{}"></p>')


@dataclass(frozen=True)
class Scene:
    """What is to be seen of a run at one moment."""

    state: RunState
    entry: Entry = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "entry", self.state.past.entry(self.state.sequence))

    @cached_property
    def rows(self) -> list[StageRow]:
        """The stages as stored."""
        return self.state.rows

    @cached_property
    def stage_id(self) -> str | None:
        """The row that the fact is about, or else the last one before that a fact was about."""
        entries = self.state.past.entries
        told = (entries[at].stage_id for at in range(self.state.sequence - 1, -1, -1))
        return next((stage_id for stage_id in told if stage_id), None)

    @cached_property
    def workflow(self) -> Workflow:
        """The stages that are drawn."""
        ids = around(self.rows, self.stage_id)
        workflow = picture_of(self.state.view, self.state.past.entry(1).data["definition"], ids)
        there = {stage.ref_id for stage in workflow.stages}
        for stage in workflow.stages:
            stage.requisite_stage_ref_ids &= there
        return workflow

    @property
    def status(self) -> WorkflowStatus:
        """The status that a person wants to know."""
        return status_of(self.state.status, self.rows)

    @property
    def facts(self) -> str:
        """How far the run was."""
        done = sum(row.status.is_complete for row in self.rows)
        head = self.state.view.head
        facts = [f"{done:,} of {_stages(len(self.rows))}"]
        if head.started_at is not None:
            facts.append(duration((head.ended_at or self.entry.at) - head.started_at))
        return " · ".join(facts)

    @property
    def number(self) -> str:
        """Which fact of how many."""
        return f"fact {self.state.sequence:,} of {self.state.past.last:,}"

    @property
    def time(self) -> str:
        """When it was."""
        return moment(self.entry.at, self.state.past.entry(self.state.past.last).at)

    @property
    def happened(self) -> str:
        """What had just happened, and by whom."""
        who = who_of(self.entry)
        return sentence_of(self.entry, self.state.past.names) + (f" (by {who})" if who else "")

    def remarks(self) -> Iterator[str]:
        """Say what the picture does not: what is left out, and what was waited for."""
        more = len(self.rows) - len(self.workflow.stages)
        if more:
            yield (
                f"{len(self.workflow.stages)} of {_stages(len(self.rows))} are shown, those near the last that moved; "
                f"all: {tally([row.status for row in self.rows])}"
            )
        for stage in self.workflow.stages:
            if is_asking(stage):
                question = shorten(str(stage.context.get("message") or "go on?"), COLUMNS)
                yield f"{LOOKS[S.SUSPENDED].symbol} {stage.ref_id} waited for a decision: {question}"

    @property
    def table(self) -> StageTable:
        """The stages that are drawn, as rows."""
        return StageTable(workflow=self.workflow, now=self.entry.at)


def _stages(number: int) -> str:
    return "1 stage" if number == 1 else f"{number:,} stages"


def around(rows: list[StageRow], stage_id: str | None) -> set[str] | None:
    """Return the ids of the rows nearest to one, with all that shares a box with them; None: there are few enough."""
    home = dict(_homes(rows))
    if len(set(home.values())) <= DRAWN:
        return None
    beside: dict[str, list[str]] = {}
    for row in rows:
        for source in row.spec.sources:
            if source in home:
                beside.setdefault(home[row.id], []).append(home[source])
                beside.setdefault(home[source], []).append(home[row.id])
    start = home.get(stage_id or "", home[rows[0].id])
    found, todo = {start: 0}, deque([start])
    while todo and len(found) < DRAWN and found[todo[0]] < NEAR:
        here = todo.popleft()
        for each in beside.get(here, ()):
            if each not in found and len(found) < DRAWN:
                found[each] = found[here] + 1
                todo.append(each)
    return {row.id for row in rows if home[row.id] in found}


def _homes(rows: list[StageRow]) -> Iterator[tuple[str, str]]:
    """Yield each row with the first row of the stage whose box it shares: synthetic stages and instances have none."""
    by_ref = {row.ref_id: row.id for row in rows}
    parents = {row.id: row.spec.parent_stage_id for row in rows}
    for row in rows:
        home = row.base_id
        while parents.get(home):
            home = parents[home]
        activity: Any = row.context.get(PARENT_REF_ID)
        yield row.id, by_ref.get(activity, home) if activity else home


def state_bundle(state: RunState) -> Mapping[str, str]:
    """Show a run as it was at a moment."""
    scene = Scene(state)
    return bundle(scene, heading(scene), scene.table.html(), ())


def heading(scene: Scene) -> str:
    """Return what a moment is, in a line."""
    look = LOOKS[scene.status]
    return f"{scene.state.run_id} · {look.symbol} {look.word} · {scene.facts} · {scene.number}, {scene.time}"


def bundle(scene: Scene, head: str, after: Markup, lines: tuple[str, ...]) -> Mapping[str, str]:
    """Show a moment as picture and text; `after` and `lines` stand under the picture and under the text."""
    said = [scene.happened, *scene.remarks()]
    drawn = to_text(scene.workflow).splitlines()[1:]
    text = "\n".join([f"{scene.state.name} · {head}", said[0], *drawn, "", *said[1:], *lines]).rstrip()
    text = obeyed_by_none(text)
    if settings().display == "text":
        return {"text/plain": text}
    svg = svg_of(scene.workflow)
    html = _HEADING.format(shorten(scene.state.name), head) + join(_LINE.format(each) for each in said)
    html += _IMAGE.format(describe(scene.workflow), data_uri(svg)) + after
    return {"text/html": str(html), "image/svg+xml": svg, "text/plain": text}


# -- one stage ----------------------------------------------------------------------------------------

#: Values that are shown of a stage, and characters of each.
VALUES: Final = 20
LONG: Final = 400
_VALUE: Final = Markup('<code style="white-space:pre-wrap;overflow-wrap:anywhere">{}</code>')


def values_table(kind: str, values: Mapping[str, Any]) -> Table:
    """Return what went into a stage or came out of it, as a table."""
    first = masked_value(dict(list(values.items())[:VALUES]))
    rows = [[shorten(key, COLUMNS), _VALUE.format(_cut(value))] for key, value in first.items()]
    more = len(values) - VALUES
    return Table((kind, "value"), [*rows, *([["…", f"{more:,} more"]] if more > 0 else [])])


def _cut(value: Any) -> str:
    text = value if isinstance(value, str) else repr(value)
    return "\n".join(shorten(line, LONG) for line in text[:LONG].splitlines()) + ("…" if len(text) > LONG else "")
