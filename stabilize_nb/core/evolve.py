"""evolve: what each fact does to the rows. No other code changes state, so rows, log and replay cannot disagree.

Every status goes through `_move`, which refuses moves that the table in models/status.py does not have and keeps
the count of rows that hold the workflow open.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from stabilize_nb.core import facts as f
from stabilize_nb.core.rows import (
    ArrivalRow,
    Edge,
    Head,
    RoundRow,
    SignalRow,
    StageRow,
    StageSpec,
    TaskRow,
    spec_from_data,
)
from stabilize_nb.core.view import ArrivalKey, RoundKey, SignalKey, StageKey, TaskKey, View
from stabilize_nb.models.ids import derived_id
from stabilize_nb.models.status import OPEN, WorkflowStatus, validate_transition
from stabilize_nb.models.values import EMPTY
from stabilize_nb.queue.messages import Token

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from stabilize_nb.core.facts import Fact

S = WorkflowStatus


def evolve(view: View, fact: Fact, at: int) -> View:
    """Apply a fact that happened at `at` to the view's changes and return the view."""
    _APPLY[type(fact)](view, fact, at)
    view.head = _counted(view.head)
    return view


def _counted(head: Head) -> Head:
    """Return the head one fact later; `_replace` by name would cost three times as much, at every fact."""
    values: list[Any] = list(head)
    values[_SEQUENCE] = head.sequence + 1
    return Head._make(values)


_SEQUENCE = Head._fields.index("sequence")


def genesis(definition: Mapping[str, Any]) -> View:
    """Return the complete, empty view from which WorkflowCreated makes the rows."""
    head = Head(
        id=definition["id"], application=definition.get("application", ""), name=definition.get("name", ""),
        status=S.NOT_STARTED, paused=False, ending=None, cancels=False, late_failure=False, active=0, sequence=0,
        jumps=0, error=None, context=definition.get("context", EMPTY), created_at=0, started_at=None, ended_at=None,
    )  # fmt: skip
    return View(head, complete=True)


def _move(view: View, row: StageRow, status: WorkflowStatus, **changes: Any) -> StageRow:
    validate_transition(row.status, status, "stage", f"{row.ref_id!r} ({row.id})")
    opened = (status in OPEN) - (row.status in OPEN)
    if opened:
        view.head = view.head._replace(active=view.head.active + opened)
    moved = row._replace(status=status, **changes)
    view.put(StageKey(row.id), moved)
    return moved


def _stage(view: View, stage_id: str) -> StageRow:
    row: StageRow = view.get(StageKey(stage_id))
    return row


def _task(view: View, stage_id: str, position: int) -> TaskRow:
    row: TaskRow = view.get(TaskKey(stage_id, position))
    return row


def _merged(old: Mapping[str, Any], new: Mapping[str, Any]) -> Mapping[str, Any]:
    return {**old, **new} if new else old


def _fresh_tasks(view: View, stage_id: str, spec: StageSpec) -> None:
    for position, (name, implementing) in enumerate(spec.tasks):
        row = TaskRow(
            id=derived_id(stage_id, "task", position), stage_id=stage_id, position=position, name=name,
            implementing_class=implementing, status=S.NOT_STARTED, attempt=0, retries=0, polls=0, due=None, signal=None,
            error=None, first_started_at=None, started_at=None, ended_at=None,
        )  # fmt: skip
        view.put(TaskKey(stage_id, position), row)


def _workflow_created(view: View, fact: f.WorkflowCreated, at: int) -> None:
    view.head = view.head._replace(created_at=at)
    specs = [spec_from_data(stage["spec"]) for stage in fact.definition["stages"]]
    edges: dict[str, list[Edge]] = {spec.ref_id: [] for spec in specs}
    for stage, spec in zip(fact.definition["stages"], specs, strict=True):
        for ref_id in spec.requisites:
            edges[ref_id].append(Edge(stage["id"], spec.ref_id))
    for ordinal, stage in enumerate(fact.definition["stages"]):
        spec = specs[ordinal]._replace(edges=tuple(edges[specs[ordinal].ref_id]))
        row = StageRow(
            id=stage["id"], base_id=stage["id"], ref_id=spec.ref_id, ordinal=ordinal, spec=spec,
            status=S.NOT_STARTED, generation=0, activation=1, fired=0, sent=0, depth=0, softly_failed=False,
            triggers=(), inherited=EMPTY, context=stage.get("context", EMPTY), outputs=EMPTY, error=None,
            started_at=None, ended_at=None,
        )  # fmt: skip
        view.put(StageKey(row.id), row)
        _fresh_tasks(view, row.id, spec)


def _workflow_started(view: View, _fact: f.WorkflowStarted, at: int) -> None:
    validate_transition(view.head.status, S.RUNNING, "workflow", view.head.id)
    view.head = view.head._replace(status=S.RUNNING, started_at=at)


def _workflow_paused(view: View, _fact: f.WorkflowPaused, _at: int) -> None:
    validate_transition(view.head.status, S.PAUSED, "workflow", view.head.id)
    view.head = view.head._replace(status=S.PAUSED, paused=True)


def _workflow_resumed(view: View, _fact: f.WorkflowResumed, _at: int) -> None:
    validate_transition(view.head.status, S.RUNNING, "workflow", view.head.id)
    view.head = view.head._replace(status=S.RUNNING, paused=False)


def _workflow_ending(view: View, fact: f.WorkflowEnding, _at: int) -> None:
    view.head = view.head._replace(ending=fact.status, error=view.head.error or fact.reason or None)


def _workflow_ended(view: View, fact: f.WorkflowEnded, at: int) -> None:
    validate_transition(view.head.status, fact.status, "workflow", view.head.id)
    view.head = view.head._replace(status=fact.status, ended_at=at, paused=False, error=fact.error or view.head.error)


def _workflow_restarted(view: View, _fact: f.WorkflowRestarted, _at: int) -> None:
    view.head = view.head._replace(
        status=S.RUNNING, ended_at=None, ending=None, error=None, cancels=False, late_failure=False
    )


def _token_arrived(view: View, fact: f.TokenArrived, _at: int) -> None:
    generation = _stage(view, fact.stage).generation
    view.put(
        ArrivalKey(fact.stage, generation, fact.number, fact.via),
        ArrivalRow(fact.stage, generation, fact.number, fact.via, fact.token, fact.source, fact.held),
    )
    if fact.held:
        return
    row = _round(view, fact.stage, generation, fact.number)
    match fact.token:
        case Token.LIVE:
            row = row._replace(live=row.live + 1)
        case Token.DEAD:
            row = row._replace(dead=row.dead + 1)
        case Token.HALT:
            row = row._replace(halt=row.halt + 1)
    view.put(RoundKey(fact.stage, generation, fact.number), row)


def _round(view: View, stage_id: str, generation: int, number: int) -> RoundRow:
    row: RoundRow | None = view.get(RoundKey(stage_id, generation, number))
    return row or RoundRow(stage_id, generation, number, live=0, dead=0, halt=0, settled=False)


def _settle(view: View, base: StageRow, number: int) -> None:
    row = _round(view, base.id, base.generation, number)
    view.put(RoundKey(base.id, base.generation, number), row._replace(settled=True))


def _join_fired(view: View, fact: f.JoinFired, _at: int) -> None:
    base = _stage(view, fact.stage)
    if fact.via:
        arrival = ArrivalKey(base.id, base.generation, fact.number, fact.via)
        view.put(arrival, ArrivalRow(*arrival[:4], Token.LIVE, fact.triggers[0], held=False))
    elif fact.number:
        _settle(view, base, fact.number)
    base = base._replace(fired=fact.activation)
    refs = sorted(_stage(view, source).ref_id for source in fact.triggers)
    heritage: dict[str, Any] = {
        "triggers": tuple(fact.triggers), "inherited": fact.inherited, "depth": fact.depth,
        "context": {**base.context, "_activation": fact.activation, "_triggered_by": refs},
    }  # fmt: skip
    if fact.row == base.id:
        view.put(StageKey(base.id), base._replace(**heritage))
        return
    view.put(StageKey(base.id), base)
    row = base._replace(
        id=fact.row, ref_id=f"{base.ref_id}#{fact.activation}", spec=base.spec._replace(requisites=tuple(refs)),
        status=S.NOT_STARTED, activation=fact.activation, fired=0, sent=0, softly_failed=False, outputs=EMPTY,
        error=None, started_at=None, ended_at=None, **heritage,
    )  # fmt: skip
    view.put(StageKey(row.id), row)
    _fresh_tasks(view, row.id, row.spec)


def _join_passed(view: View, fact: f.JoinPassed, _at: int) -> None:
    base = _stage(view, fact.stage)
    _settle(view, base, fact.number)
    view.put(StageKey(base.id), base._replace(sent=base.sent + 1))


def _stage_started(view: View, fact: f.StageStarted, at: int) -> None:
    row = _stage(view, fact.stage)
    _move(view, row, S.RUNNING, started_at=at, fired=row.fired or (1 if row.id == row.base_id else 0))


def _stage_ended(view: View, fact: f.StageEnded, at: int) -> None:
    row = _stage(view, fact.stage)
    is_base = row.id == row.base_id
    context = row.context
    if fact.reason and fact.status is S.CANCELED:
        context = {**context, "_cancel_reason": fact.reason}
        view.head = view.head._replace(cancels=view.head.cancels or fact.reason == "command")
    if fact.status is S.STOPPED and row.context.get("completeOtherBranchesThenFail"):
        view.head = view.head._replace(late_failure=True)
    row = _move(
        view, row, fact.status, ended_at=at, error=fact.error or row.error, context=context,
        fired=row.fired or int(is_base),
    )  # fmt: skip
    if fact.settles:
        _settle(view, row, fact.settles)
    if fact.token is not None:
        base = row if is_base else _stage(view, row.base_id)
        view.put(StageKey(base.id), base._replace(sent=base.sent + 1))


def _stage_suspended(view: View, fact: f.StageSuspended, _at: int) -> None:
    row = _stage(view, fact.stage)
    _move(view, row, S.SUSPENDED, context=_merged(row.context, fact.context))
    task = _task(view, fact.stage, fact.position)
    view.put(TaskKey(fact.stage, fact.position), task._replace(status=S.SUSPENDED, due=None, signal=None))


def _stage_paused(view: View, fact: f.StagePaused, _at: int) -> None:
    _move(view, _stage(view, fact.stage), S.PAUSED)
    task = _task(view, fact.stage, fact.position)
    view.put(TaskKey(fact.stage, fact.position), task._replace(status=S.PAUSED))


def _stage_resumed(view: View, fact: f.StageResumed, _at: int) -> None:
    _move(view, _stage(view, fact.stage), S.RUNNING)


def _stage_reset(view: View, fact: f.StageReset, _at: int) -> None:
    row = _stage(view, fact.stage)
    if row.status in OPEN:
        view.head = view.head._replace(active=view.head.active - 1)
    context = {key: value for key, value in row.context.items() if key not in ENGINE_KEYS}
    view.put(
        StageKey(row.id),
        row._replace(
            status=S.NOT_STARTED, generation=fact.generation, fired=0, sent=0, depth=0, softly_failed=False,
            triggers=(), inherited=EMPTY, context=context, outputs=EMPTY, error=None, started_at=None, ended_at=None,
        ),
    )  # fmt: skip
    _fresh_tasks(view, row.id, row.spec)


#: What the engine itself writes into a stage's context and a reset takes away.
ENGINE_KEYS = frozenset({"_cancel_reason", "_activation", "_triggered_by", "jump_error", "exception", "error"})


def _stage_retired(view: View, fact: f.StageRetired, _at: int) -> None:
    row = _stage(view, fact.stage)
    if row.status in OPEN:
        view.head = view.head._replace(active=view.head.active - 1)
    view.put(StageKey(row.id), None)
    for position in range(len(row.spec.tasks)):
        view.put(TaskKey(row.id, position), None)


def _context_updated(view: View, fact: f.ContextUpdated, _at: int) -> None:
    row = _stage(view, fact.stage)
    view.put(StageKey(row.id), row._replace(context=_merged(row.context, fact.context)))


def _task_started(view: View, fact: f.TaskStarted, at: int) -> None:
    task = _task(view, fact.stage, fact.position)
    view.put(
        TaskKey(fact.stage, fact.position),
        task._replace(
            status=S.RUNNING,
            attempt=fact.attempt,
            due=None,
            started_at=at,
            first_started_at=at if task.first_started_at is None else task.first_started_at,
        ),
    )


def _task_ended(view: View, fact: f.TaskEnded, at: int) -> None:
    task = _task(view, fact.stage, fact.position)
    view.put(
        TaskKey(fact.stage, fact.position),
        task._replace(status=fact.status, ended_at=at, error=fact.error, due=None, signal=None),
    )
    row = _stage(view, fact.stage)
    redirected = fact.status is S.REDIRECT
    changes: dict[str, Any] = {
        "context": _merged(row.context, fact.context),
        "outputs": _merged(row.outputs, fact.outputs),
        "softly_failed": row.softly_failed or fact.status is S.FAILED_CONTINUE,
        "error": fact.error or row.error,
    }
    if redirected:
        _move(view, row, S.REDIRECT, **changes)
    else:
        view.put(StageKey(row.id), row._replace(**changes))


def _task_retried(view: View, fact: f.TaskRetried, _at: int) -> None:
    task = _task(view, fact.stage, fact.position)
    view.put(
        TaskKey(fact.stage, fact.position),
        task._replace(retries=task.retries + 1, due=fact.due, error=fact.error),
    )
    if fact.context:
        row = _stage(view, fact.stage)
        view.put(StageKey(row.id), row._replace(context=_merged(row.context, fact.context)))


def _task_polled(view: View, fact: f.TaskPolled, _at: int) -> None:
    task = _task(view, fact.stage, fact.position)
    view.put(
        TaskKey(fact.stage, fact.position),
        task._replace(polls=task.polls + 1, due=fact.due, signal=None, error=None),
    )
    if fact.context:
        row = _stage(view, fact.stage)
        view.put(StageKey(row.id), row._replace(context=_merged(row.context, fact.context)))


def _signal_buffered(view: View, fact: f.SignalBuffered, _at: int) -> None:
    view.put(
        SignalKey(fact.signal),
        SignalRow(fact.signal, view.head.sequence + 1, fact.stage, fact.name, fact.data),
    )


def _signal_delivered(view: View, fact: f.SignalDelivered, at: int) -> None:
    if fact.signal is not None:
        view.put(SignalKey(fact.signal), None)
    _move(view, _stage(view, fact.stage), S.RUNNING)
    task = _task(view, fact.stage, fact.position)
    view.put(
        TaskKey(fact.stage, fact.position),
        task._replace(status=S.RUNNING, due=at, signal={"name": fact.name, "data": fact.data}),
    )


def _signal_dropped(view: View, fact: f.SignalDropped, _at: int) -> None:
    if fact.signal is not None:
        view.put(SignalKey(fact.signal), None)


def _jump_executed(view: View, fact: f.JumpExecuted, _at: int) -> None:
    view.head = view.head._replace(jumps=fact.number)


def _unchanged(_view: View, _fact: f.Fact, _at: int) -> None:
    """Some facts only say what did not happen."""


_APPLY: dict[type[f.Fact], Callable[[View, Any, int], None]] = {
    f.WorkflowCreated: _workflow_created,
    f.WorkflowStarted: _workflow_started,
    f.WorkflowPaused: _workflow_paused,
    f.WorkflowResumed: _workflow_resumed,
    f.WorkflowEnding: _workflow_ending,
    f.WorkflowEnded: _workflow_ended,
    f.WorkflowRestarted: _workflow_restarted,
    f.TokenArrived: _token_arrived,
    f.JoinFired: _join_fired,
    f.JoinPassed: _join_passed,
    f.StageStarted: _stage_started,
    f.StageEnded: _stage_ended,
    f.StageSuspended: _stage_suspended,
    f.StagePaused: _stage_paused,
    f.StageResumed: _stage_resumed,
    f.StageReset: _stage_reset,
    f.StageRetired: _stage_retired,
    f.ContextUpdated: _context_updated,
    f.TaskStarted: _task_started,
    f.TaskEnded: _task_ended,
    f.TaskRetried: _task_retried,
    f.TaskPolled: _task_polled,
    f.SignalBuffered: _signal_buffered,
    f.SignalDelivered: _signal_delivered,
    f.SignalDropped: _signal_dropped,
    f.JumpExecuted: _jump_executed,
    f.ResultDiscarded: _unchanged,
}
