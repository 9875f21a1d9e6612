"""
The stages of a run as rows: status, how far, since when, how often, and why not.

The table means something without a style sheet: a bar is a <progress> element with words beside it, what is too long
is folded in <details>, and a status is a symbol and a word before it is a colour.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from markupsafe import Markup

from stabilize_nb.models.multi_instance import PARENT_REF_ID, is_instance, join_ref
from stabilize_nb.models.stage import StageExecution
from stabilize_nb.models.status import COMPLETE, FAILURE, OPEN, WorkflowStatus
from stabilize_nb.models.workflow import Workflow
from stabilize_nb.notebook.folds import EACH
from stabilize_nb.notebook.looks import LOOKS, shorten
from stabilize_nb.notebook.signs import is_approval
from stabilize_nb.notebook.tables import Table, duration, join, moment

if TYPE_CHECKING:
    from stabilize_nb.core.rows import StageRow

S = WorkflowStatus
#: Rows that are always seen, and columns of an error.
SEEN: Final = 12
COLUMNS: Final = 120
NAMES: Final = ("status", "stage", "progress", "started", "duration", "attempts", "error")

_BADGE: Final = Markup(
    '<span style="background:{};color:#222;border:1px solid {};border-radius:9px;padding:0 7px;white-space:nowrap">'
    "{} {}</span>"
)
_BAR: Final = Markup(
    '<progress role="progressbar" aria-label="{}" aria-valuemin="0" aria-valuemax="{}" aria-valuenow="{}" '
    'aria-valuetext="{}" max="{}" value="{}" style="width:7em;vertical-align:middle;accent-color:{}"></progress> {}'
)
_CELL: Final = Markup('<td style="text-align:left;padding:2px 14px 2px 0">{}</td>')
_HEAD: Final = Markup('<th scope="col" style="text-align:left;padding:2px 14px 2px 0">{}</th>')
_ROW: Final = Markup("<tr>{}</tr>")
_TABLE: Final = Markup('<table style="line-height:1.5"><thead><tr>{}</tr></thead><tbody>{}</tbody></table>')
_FOLD: Final = Markup("<details><summary>{}</summary>{}</details>")


@dataclass(frozen=True, slots=True, kw_only=True)
class Told:
    """What a body has told of its progress; `fraction` is between 0 and 1."""

    fraction: float | None = None
    message: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class StageTable:
    """The rows of a run at one moment (`now`: ms since the epoch), and what bodies at work have told, by stage id."""

    workflow: Workflow
    now: int
    told: Mapping[str, Told] = field(default_factory=dict)

    def first(self) -> Markup:
        """Return the rows that are always seen."""
        return self._html(self._rows()[:SEEN])

    def rest(self) -> Markup:
        """Return the other rows; empty when there are none."""
        rows = self._rows()[SEEN:]
        return self._html(rows) if rows else Markup()

    def rest_words(self) -> str:
        """Say what the other rows are: "188: 3 running, 185 succeeded"."""
        rows = self._rows()[SEEN:]
        count = Counter(row.status for row in rows)
        listed = ", ".join(f"{count[status]} {look.word}" for status, look in LOOKS.items() if status in count)
        return f"{len(rows)}: {listed}" if rows else ""

    def html(self) -> Markup:
        """Return the whole table, what is long folded."""
        rest = self.rest()
        return self.first() + (_FOLD.format(f"more stages · {self.rest_words()}", rest) if rest else "")

    def _rows(self) -> list[StageExecution]:
        """
        Return the stages, instances behind all others and those at work first.

        What gathers instances for a flow is no stage of its author.
        """
        gathers = {join_ref(stage.ref_id) for stage in self.workflow.stages if EACH in stage.context}
        shown = [stage for stage in self.workflow.stages if stage.ref_id not in gathers]
        return sorted(shown, key=_place)

    def _html(self, rows: Sequence[StageExecution]) -> Markup:
        parts = self._instances()
        table = Table(NAMES, [self._row(stage, parts.get(stage.ref_id, [])) for stage in rows]).shown()
        body = join(_ROW.format(join(_CELL.format(cell) for cell in row)) for row in table.rows)
        return _TABLE.format(join(_HEAD.format(name) for name in table.columns), body)

    def _row(self, stage: StageExecution, parts: Sequence[StageExecution]) -> list[str]:
        attempts = sum(task.attempt for task in stage.tasks)
        return [
            badge(_status(stage, parts)),
            stage.ref_id + (f" (round {stage.generation + 1})" if stage.generation else ""),
            self._bar(stage, parts),
            moment(stage.start_time, self.now),
            took(stage, self.now),
            str(attempts) if attempts and not is_approval(stage) else "",
            shorten((stage.error or "").strip().rpartition("\n")[2], COLUMNS),
        ]

    def _bar(self, stage: StageExecution, parts: Sequence[StageExecution]) -> str:
        if parts:
            return _bar_of(parts, stage)
        if stage.status is not S.RUNNING:
            return ""
        told = self.told.get(stage.id, Told())
        if told.fraction is None:
            return shorten(told.message)
        percent = round(100 * min(1.0, max(0.0, told.fraction)))
        return _bar(stage, percent, 100, f"{percent} %" + (f" {shorten(told.message)}" if told.message else ""))

    def _instances(self) -> Mapping[str, list[StageExecution]]:
        """Return the instances of stages by the ref_id of what they are instances of."""
        found: dict[str, list[StageExecution]] = {}
        for stage in self.workflow.stages:
            if is_instance(stage.context):
                found.setdefault(str(stage.context.get(PARENT_REF_ID)), []).append(stage)
        return found


def _status(stage: StageExecution, parts: Sequence[StageExecution]) -> WorkflowStatus:
    """Return the status of a stage; one that a flow runs for each of something runs until all have ended."""
    at_work = EACH in stage.context and stage.status is S.SUCCEEDED and any(part.status in OPEN for part in parts)
    return S.RUNNING if at_work else stage.status


def _place(stage: StageExecution) -> tuple[bool, bool]:
    is_part = is_instance(stage.context)
    return is_part, is_part and stage.status not in OPEN


def badge(status: WorkflowStatus) -> Markup:
    """Return a status as symbol and word on its colour."""
    look = LOOKS[status]
    return _BADGE.format(look.fill, look.stroke, look.symbol, look.word)


def took(stage: StageExecution, now: int) -> str:
    """Say how long a stage has taken so far."""
    if stage.start_time is None:
        return ""
    return duration((now if stage.end_time is None else stage.end_time) - stage.start_time)


def status_of(status: WorkflowStatus, stages: Iterable[StageExecution | StageRow]) -> WorkflowStatus:
    """Return the status of a run that a person wants to know: one that is running and only waits is waiting."""
    statuses = {stage.status for stage in stages}
    only_waits = status is S.RUNNING and S.SUSPENDED in statuses and S.RUNNING not in statuses
    return S.SUSPENDED if only_waits else status


def count_of(workflow: Workflow) -> tuple[int, int]:
    """Return how many stages have ended, and how many there are."""
    return sum(stage.status in COMPLETE for stage in workflow.stages), len(workflow.stages)


def _bar_of(parts: Sequence[StageExecution], stage: StageExecution) -> Markup:
    done = sum(part.status in COMPLETE for part in parts)
    failed = sum(part.status in FAILURE for part in parts)
    words = f"{done} of {len(parts)}" + (f", {failed} failed" if failed else "")
    return _bar(stage, done, len(parts), words)


def _bar(stage: StageExecution, value: int, most: int, words: str) -> Markup:
    colour = LOOKS[S.SUCCEEDED if value == most else S.RUNNING].stroke
    return _BAR.format(f"progress of {stage.ref_id}", most, value, words, most, value, colour, words)
