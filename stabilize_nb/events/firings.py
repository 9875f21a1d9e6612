"""The frame of events, folded to what its analysis asks of it: the firings of stages, and what each spent its time on.

Read from the columns of the frame alone, of one run or of many, in any order and with rows left out: what a row says
that does not follow from the rows that are there counts for nothing.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from stabilize_nb.events.frame_rows import Row, rows_of
from stabilize_nb.models.multi_instance import PARENT_REF_ID, is_instance

if TYPE_CHECKING:
    from collections.abc import Mapping

    import pandas as pd


class Doing(StrEnum):
    """What a firing of a stage spends time on."""

    QUEUED = "queued"  # ready: for a worker, a lock, its next try, or the end of a pause
    RUNNING = "running"  # a body is at work
    WAITING = "waiting"  # for a person, a signal or a child workflow


class Step(NamedTuple):
    """A transition in the life of an activity, by its name in IEEE 1849; `by` is the person who made it."""

    sequence: int
    at: int
    transition: str
    by: str | None = None


@dataclass(slots=True)
class Span:
    """A stretch of time, in ms since the epoch; `failed`: the attempt of a body that ended it was none that counts."""

    doing: Doing
    begin: int
    end: int
    failed: bool = False

    @property
    def length(self) -> int:
        """How long it was, in ms."""
        return self.end - self.begin


@dataclass(slots=True)
class Firing:
    """
    One run of a stage, from the moment when it could begin; times are ms since the epoch.

    `stage` is its ref_id, `name` that of the stage as statistics count it: without the number of an activation or of an
    instance. `cause` is the firing whose end let this one begin. `ended` is None, and `status` where it stands, when
    the log has no end of it.
    """

    stage: str
    name: str
    instance: str
    queued: int
    cause: Firing | None
    status: str = "RUNNING"
    ended: int | None = None
    spans: list[Span] = field(default_factory=list)
    steps: list[Step] = field(default_factory=list)

    def turn(self, doing: Doing, at: int) -> None:
        """Begin to do something else."""
        self.stop(at)
        self.spans.append(Span(doing, at, at))

    def stop(self, at: int) -> None:
        """End what it does now; only bodies are told of that were done at once."""
        if self.spans:
            self.spans[-1].end = at
            if not self.spans[-1].length and self.doing is not Doing.RUNNING:
                self.spans.pop()

    @property
    def doing(self) -> Doing:
        """What it does now."""
        return self.spans[-1].doing

    @property
    def end(self) -> int:
        """When it ended, or how far it is known, in ms since the epoch."""
        return self.spans[-1].end if self.spans else self.queued

    def total(self, doing: Doing) -> int:
        """How long it did something, in ms."""
        return sum(span.length for span in self.spans if span.doing is doing)


@dataclass(slots=True)
class RunPast:
    """
    What the frame says of a run; times are ms since the epoch, firings in the order in which they began.

    A run that was forked from `origin` begins with the fork; what it has taken over was done by that one.
    """

    run_id: str
    workflow: str
    begin: int
    end: int
    status: str = "RUNNING"
    firings: list[Firing] = field(default_factory=list)
    origin: str = ""
    taken_over: list[Firing] = field(default_factory=list)


#: Events whose `data` is looked at: it may be made only then.
_READ: Final = frozenset({
    "workflow.created", "workflow.forked", "join.fired", "instance.added", "child.started", "signal.delivered",
    "task.settled",
})  # fmt: skip


def pasts_of(frame: pd.DataFrame) -> list[RunPast]:
    """Fold a frame of events to its runs, in the order in which they began."""
    folds: dict[str, _Fold] = {}
    for row in rows_of(frame, _READ.__contains__):
        if row.run_id not in folds:
            folds[row.run_id] = _Fold(RunPast(row.run_id, row.workflow or row.run_id, row.at, row.at))
        folds[row.run_id].take(row)
    for fold in folds.values():
        fold.close()
    return sorted((fold.past for fold in folds.values()), key=lambda past: (past.begin, past.run_id))


#: Event -> transition of the stage that it is about, where that has a firing.
_STEPS: Final[Mapping[str, str]] = {
    "stage.started": "start",
    "stage.completed": "complete",
    "stage.failed": "ate_abort",
    "stage.canceled": "ate_abort",
    "stage.suspended": "suspend",
    "stage.paused": "suspend",
    "task.lost": "suspend",
    "stage.resumed": "resume",
    "signal.delivered": "resume",
    "task.settled": "resume",
}
_TURNS: Final[Mapping[str, Doing]] = {
    "stage.started": Doing.QUEUED,
    "task.started": Doing.RUNNING,
    "task.completed": Doing.QUEUED,
    "task.failed": Doing.QUEUED,
    "task.retried": Doing.QUEUED,
    "task.polled": Doing.QUEUED,
    "stage.suspended": Doing.WAITING,
    "task.lost": Doing.WAITING,
    "stage.paused": Doing.QUEUED,
    "stage.resumed": Doing.QUEUED,
    "signal.delivered": Doing.QUEUED,
    "task.settled": Doing.QUEUED,
}
#: What an attempt ends with that does not count; one that is begun while another is at work takes its place.
_FAILURES: Final = frozenset({"task.failed", "task.retried", "task.lost", "task.started"})
_ENDS: Final = frozenset({"stage.completed", "stage.failed", "stage.canceled", "stage.skipped"})


class _Fold:
    """Folds the rows of one run."""

    def __init__(self, past: RunPast) -> None:
        self.past = past
        self._open: dict[str, Firing] = {}
        self._last: dict[str, Firing] = {}
        self._latest: Firing | None = None
        self._queued: dict[str, tuple[int, Firing | None]] = {}
        self._names: dict[str, str] = {}
        self._count: dict[str, int] = {}

    def take(self, row: Row) -> None:
        """Take in the next row."""
        past, id_ = self.past, row.stage_id or ""
        past.end = row.at
        match row.type:
            case "workflow.created":
                self._define(row.data.get("definition", {}))
            case "workflow.started":
                past.begin = row.at
            case "workflow.forked":
                self._fork(row)
            case "join.fired":
                self._queued[row.data.get("row", id_)] = row.at, self._cause(row.data.get("triggers", ()))
            case "instance.added":
                self._names[row.data.get("row", "")] = f"{row.stage}_instance"
            case "stage.reset" | "stage.retired":
                self._break_off(id_, row)
                self._forget(id_, row)
                self._queued[id_] = row.at, self._latest
            case "stage.started":
                self._begin(id_, row)
            case _:
                pass
        if row.type.startswith("workflow.") and row.status is not None:
            past.status = row.status
        if id_ in self._open:
            self._go_on(self._open[id_], row)

    def close(self) -> None:
        """Say of what has not ended how long it went on."""
        for firing in self._open.values():
            firing.stop(self.past.end)

    def _define(self, definition: Mapping[str, Any]) -> None:
        for stage in definition.get("stages", ()):
            context = stage.get("context", {})
            if is_instance(context):
                self._names[stage["id"]] = f"{context[PARENT_REF_ID]}_instance"

    def _fork(self, row: Row) -> None:
        past = self.past
        past.origin, past.begin = row.data.get("run", ""), row.at
        past.taken_over, past.firings = [*past.taken_over, *past.firings], []
        self._open, self._last, self._latest, self._queued = {}, {}, None, {}

    def _cause(self, triggers: Any) -> Firing | None:
        """Return the firing among the triggers that ended last: it is what the join had waited for."""
        ended = [self._last[each] for each in triggers if each in self._last]
        return max(ended, key=lambda firing: firing.end, default=self._latest)

    def _begin(self, id_: str, row: Row) -> None:
        queued, cause = self._queued.pop(id_, (self.past.begin, None))
        ref = row.stage or id_
        self._count[id_] = self._count.get(id_, 0) + 1
        name = self._names.get(id_, ref.partition("#")[0])
        firing = Firing(ref, name, f"{id_}:{self._count[id_]}", queued, cause)
        firing.turn(Doing.QUEUED, queued)
        self._open[id_] = firing
        self.past.firings.append(firing)

    def _go_on(self, firing: Firing, row: Row) -> None:
        if row.type in _STEPS:
            firing.steps.append(Step(row.sequence, row.at, _STEPS[row.type], _person(row.data)))
        if row.type in _TURNS and (firing.doing is Doing.RUNNING or _TURNS[row.type] is not firing.doing):
            firing.spans[-1].failed = firing.doing is Doing.RUNNING and row.type in _FAILURES
            firing.turn(_TURNS[row.type], row.at)
        if row.status is not None and (row.type in _STEPS or row.status == "REDIRECT"):
            firing.status = row.status
        if row.type in _ENDS:
            self._end(row.stage_id or "", row.at)

    def _break_off(self, id_: str, row: Row) -> None:
        """End a firing that is reset: by its own jump, or by that of another one."""
        firing = self._open.get(id_)
        if firing is None:
            return
        jumped = firing.status == "REDIRECT"
        firing.steps.append(Step(row.sequence, row.at, "complete" if jumped else "ate_abort"))
        self._end(id_, row.at)
        firing.status = "REDIRECT" if jumped else "CANCELED"

    def _forget(self, id_: str, row: Row) -> None:
        """Leave out what a fork has not taken over: it resets that by the commit by which it is made."""
        taken = self.past.taken_over
        if taken and row.at == self.past.begin:
            last = max((at for at, each in enumerate(taken) if each.instance.rpartition(":")[0] == id_), default=None)
            self.past.taken_over = [each for at, each in enumerate(taken) if at != last]

    def _end(self, id_: str, at: int) -> None:
        firing = self._open.pop(id_)
        firing.stop(at)
        firing.ended = at
        self._last[id_] = self._latest = firing


def _person(data: Mapping[str, Any]) -> str | None:
    given = data.get("data")
    user = data.get("user") or (given.get("user") if isinstance(given, dict) else None)
    return user if isinstance(user, str) and user else None


def critical_path(past: RunPast) -> list[Firing]:
    """
    Return the chain of firings that the end of a run waited for, the last one first.

    It goes from the firing that ended last to the one whose end let it begin, and so on to the beginning: the critical
    path of what did happen, as in J. E. Kelley and M. R. Walker, "Critical-Path Planning and Scheduling" (1959), and of
    programs in C.-Q. Yang and B. P. Miller, "Critical Path Analysis for the Execution of Parallel and Distributed
    Programs" (1988).
    """
    path = []
    at = max(past.firings, key=lambda firing: firing.end, default=None)
    while at is not None:
        path.append(at)
        at = at.cause
    return path
