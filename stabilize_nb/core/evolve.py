"""evolve: what each fact does to the rows. No other code changes state, so rows, log and replay cannot disagree.

Every status goes through `_move`, which refuses moves that the table in models/status.py does not have and keeps
the count of rows that hold the workflow open.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from stabilize_nb.core import facts as f
from stabilize_nb.core.graph import connected, instance_spec
from stabilize_nb.core.rows import (
    ADDITIONS,
    MILESTONE,
    ArrivalRow,
    AttributeRow,
    ClaimRow,
    Edge,
    Head,
    PermitRow,
    RoundRow,
    SignalRow,
    StageRow,
    StageSpec,
    TaskRow,
    WaiterRow,
    with_codes,
)
from stabilize_nb.core.view import (
    ArrivalKey,
    AttributeKey,
    ClaimKey,
    PermitKey,
    RoundKey,
    SignalKey,
    StageKey,
    TaskKey,
    View,
    WaiterKey,
)
from stabilize_nb.models.ids import derived_id
from stabilize_nb.models.multi_instance import join_ref
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
    view.head = view.head.with_next_fact()
    return view


def genesis(definition: Mapping[str, Any]) -> View:
    """Return the complete, empty view from which WorkflowCreated makes the rows."""
    head = Head(
        id=definition["id"], application=definition.get("application", ""), name=definition.get("name", ""),
        status=S.NOT_STARTED, paused=False, ending=None, cancels=False, late_failures=0, active=0, sequence=0,
        jumps=0, error=None, context=definition.get("context", EMPTY), created_at=0, started_at=None, ended_at=None,
        **definition.get("concurrency", {}),
    )  # fmt: skip
    return View(head, complete=True)


def _move(view: View, row: StageRow, status: WorkflowStatus, **changes: Any) -> StageRow:
    """Change the status of a row; whatever it waited for, it does not wait any more."""
    validate_transition(row.status, status, "stage", f"{row.ref_id!r} ({row.id})")
    return _put(view, row, row._replace(status=status, waits="", **changes))


def _move_head(view: View, status: WorkflowStatus, **changes: Any) -> None:
    """Change the status of the workflow."""
    validate_transition(view.head.status, status, "workflow", view.head.id)
    view.head = view.head._replace(status=status, **changes)


def _put(view: View, row: StageRow, changed: StageRow) -> StageRow:
    """Put a row in the place of another and count what holds the workflow open."""
    if row.status is not changed.status or row.waits != changed.waits:
        opened = _holds(changed) - _holds(row)
        if opened:
            view.head = view.head._replace(active=view.head.active + opened)
        if row.waits and row.waits != changed.waits:
            _leave(view, row)
    view.put(StageKey(row.id), changed)
    return changed


def _holds(row: StageRow) -> bool:
    """Whether a row holds its workflow open."""
    return row.status in OPEN or row.waits not in ("", MILESTONE)


def _leave(view: View, row: StageRow) -> None:
    if row.waits not in (MILESTONE, ADDITIONS):
        view.put(WaiterKey(row.waits, row.id), None)


def _stage(view: View, stage_id: str) -> StageRow:
    row: StageRow = view.stage(stage_id)
    return row


def _task(view: View, stage_id: str, position: int) -> TaskRow:
    row: TaskRow = view.task(stage_id, position)
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
    stages = fact.definition["stages"]
    for ordinal, (stage, spec) in enumerate(zip(stages, connected(stages), strict=True)):
        row = StageRow(
            id=stage["id"], base_id=stage["id"], ref_id=spec.ref_id, ordinal=ordinal, spec=spec,
            status=S.NOT_STARTED, generation=0, activation=1, fired=0, sent=0, depth=0, softly_failed=False,
            triggers=(), inherited=EMPTY, context=stage.get("context", EMPTY), outputs=EMPTY, error=None,
            started_at=None, ended_at=None,
        )  # fmt: skip
        view.put(StageKey(row.id), row)
        _fresh_tasks(view, row.id, spec)
    _find_by(view, fact.definition.get("attributes", EMPTY))


def _find_by(view: View, attributes: Mapping[str, str]) -> None:
    for name, value in attributes.items():
        view.put(AttributeKey(name), AttributeRow(name, value))


def _permit_taken(view: View, fact: f.PermitTaken, at: int) -> None:
    view.put(PermitKey(fact.limit, fact.number), PermitRow(fact.limit, fact.number, fact.due))
    if fact.forgets:
        view.put(PermitKey(fact.limit, fact.forgets), None)
    if fact.due > at:
        task = _task(view, fact.stage, fact.position)
        view.put(TaskKey(fact.stage, fact.position), task._replace(due=fact.due))


def _attributes_set(view: View, fact: f.AttributesSet, _at: int) -> None:
    _find_by(view, fact.attributes)


def _workflow_started(view: View, _fact: f.WorkflowStarted, at: int) -> None:
    _move_head(view, S.RUNNING, started_at=at)


def _workflow_paused(view: View, _fact: f.WorkflowPaused, _at: int) -> None:
    _move_head(view, S.PAUSED, paused=True)


def _workflow_resumed(view: View, _fact: f.WorkflowResumed, _at: int) -> None:
    _move_head(view, S.RUNNING, paused=False)


def _workflow_ending(view: View, fact: f.WorkflowEnding, _at: int) -> None:
    view.head = view.head._replace(ending=fact.status, error=view.head.error or fact.reason or None)


def _workflow_ended(view: View, fact: f.WorkflowEnded, at: int) -> None:
    _move_head(view, fact.status, ended_at=at, paused=False, error=fact.error or view.head.error)


def _workflow_restarted(view: View, _fact: f.WorkflowRestarted, _at: int) -> None:
    view.head = view.head._replace(status=S.RUNNING, ended_at=None, ending=None, error=None, cancels=False)


def _workflow_forked(view: View, fact: f.WorkflowForked, at: int) -> None:
    context = _merged(view.head.context, fact.inputs)
    view.head = view.head._replace(context=context, created_at=at, started_at=at)


def _outputs_replaced(view: View, fact: f.OutputsReplaced, _at: int) -> None:
    row = _stage(view, fact.stage)
    view.put(StageKey(row.id), row._replace(outputs=fact.outputs))
    producer = [row.depth, row.ref_id, row.id]
    for heir in [_stage(view, id_) for id_ in fact.heirs]:
        others = {key: [each for each in known if each != producer] for key, known in heir.inherited.items()}
        inherited = {key: known for key, known in others.items() if known}
        for key in fact.outputs:
            inherited[key] = sorted([*inherited.get(key, []), producer]) if key in heir.inherited else [producer]
        view.put(StageKey(heir.id), heir._replace(inherited=inherited))


def _token_arrived(view: View, fact: f.TokenArrived, _at: int) -> None:
    generation = _stage(view, fact.stage).generation
    view.put(
        ArrivalKey(fact.stage, generation, fact.number, fact.via),
        ArrivalRow(
            fact.stage, generation, fact.number, fact.via, fact.token, fact.source, fact.held, view.head.sequence + 1
        ),
    )  # fmt: skip
    if fact.held:
        return
    base = _stage(view, fact.stage)
    number = POOL if base.spec.thread_merge > 1 else fact.number
    row = _round(view, fact.stage, generation, number)
    match fact.token:
        case Token.LIVE:
            row = row._replace(live=row.live + 1)
        case Token.DEAD:
            row = row._replace(dead=row.dead + 1)
        case Token.HALT:
            row = row._replace(halt=row.halt + 1)
    view.put(RoundKey(fact.stage, generation, number), row)


#: The round that a stage with `thread_merge` counts all its outcomes in.
POOL = 0


def _round(view: View, stage_id: str, generation: int, number: int) -> RoundRow:
    row: RoundRow | None = view.get(RoundKey(stage_id, generation, number))
    return row or RoundRow(stage_id, generation, number, live=0, dead=0, halt=0, settled=False)


def _settle(view: View, base: StageRow, number: int) -> None:
    if base.spec.thread_merge > 1:
        number = POOL
    row = _round(view, base.id, base.generation, number)
    view.put(RoundKey(base.id, base.generation, number), row._replace(settled=True))


def _join_fired(view: View, fact: f.JoinFired, _at: int) -> None:
    base = _stage(view, fact.stage)
    via = base.via
    if fact.via and fact.number == 1:
        via = fact.via  # which stands for the arrival
    elif fact.via:
        arrival = ArrivalKey(base.id, base.generation, fact.number, fact.via)
        view.put(arrival, ArrivalRow(*arrival[:4], Token.LIVE, fact.triggers[0], False, view.head.sequence + 1))
    elif fact.number:
        _settle(view, base, fact.number)
    waits = "" if base.waits == ADDITIONS else base.waits
    base = _put(view, base, base._replace(fired=fact.activation, waits=waits, via=via))
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
        error=None, started_at=None, ended_at=None, waits="", phase="", added=0, closed=False, via="", **heritage,
    )  # fmt: skip
    view.put(StageKey(row.id), row)
    _fresh_tasks(view, row.id, row.spec)


def _join_passed(view: View, fact: f.JoinPassed, _at: int) -> None:
    base = _stage(view, fact.stage)
    if fact.number:  # a pool goes on: threads that come later are merged all the same
        _settle(view, base, fact.number)
    waits = "" if base.waits == ADDITIONS else base.waits
    _put(view, base, base._replace(sent=base.sent + base.spec.thread_split, waits=waits))


def _stage_started(view: View, fact: f.StageStarted, at: int) -> None:
    row = _stage(view, fact.stage)
    _move(view, row, S.RUNNING, started_at=at, fired=row.fired or (1 if row.id == row.base_id else 0))


def _stage_ended(view: View, fact: f.StageEnded, at: int) -> None:
    row = _stage(view, fact.stage)
    is_base = row.id == row.base_id
    context = row.context
    if fact.reason and fact.status is S.CANCELED:
        context = {**context, "_cancel_reason": fact.reason}
        view.head = view.head._replace(cancels=view.head.cancels or _is_ordered(fact.reason))
    if fact.status is S.STOPPED and row.context.get("completeOtherBranchesThenFail"):
        view.head = view.head._replace(late_failures=view.head.late_failures + 1)
    row = _move(
        view, row, fact.status, ended_at=at, error=fact.error or row.error, context=context,
        fired=row.fired or int(is_base),
    )  # fmt: skip
    if fact.settles:
        _settle(view, row, fact.settles)
    if fact.token is not None:
        base = row if is_base else _stage(view, row.base_id)
        view.put(StageKey(base.id), base._replace(sent=base.sent + base.spec.thread_split))


def _is_ordered(reason: str) -> bool:
    """Whether a person or the model cancelled the stage, and not the control flow (rule 5 of patterns.md 2.8)."""
    return reason in ("command", "mi_canceled") or reason.startswith("region:")


def _stage_suspended(view: View, fact: f.StageSuspended, _at: int) -> None:
    row = _stage(view, fact.stage)
    _move(view, row, S.SUSPENDED, context=_merged(row.context, fact.context))
    task = _task(view, fact.stage, fact.position)
    view.put(TaskKey(fact.stage, fact.position), task._replace(status=S.SUSPENDED, due=None, signal=None, error=None))


def _stage_paused(view: View, fact: f.StagePaused, _at: int) -> None:
    _move(view, _stage(view, fact.stage), S.PAUSED)
    task = _task(view, fact.stage, fact.position)
    view.put(TaskKey(fact.stage, fact.position), task._replace(status=S.PAUSED))


def _stage_resumed(view: View, fact: f.StageResumed, _at: int) -> None:
    _move(view, _stage(view, fact.stage), S.RUNNING)


def _stage_reset(view: View, fact: f.StageReset, _at: int) -> None:
    row = _stage(view, fact.stage)
    _forgive(view, row)
    context = {key: value for key, value in row.context.items() if key not in ENGINE_KEYS}
    _put(
        view,
        row,
        row._replace(
            status=S.NOT_STARTED, generation=fact.generation, fired=0, sent=0, depth=0, softly_failed=False,
            triggers=(), inherited=EMPTY, context=context, outputs=EMPTY, error=None, started_at=None, ended_at=None,
            waits="", phase="", added=0, closed=False, via="",
        ),
    )  # fmt: skip
    _fresh_tasks(view, row.id, row.spec)


#: What the engine itself writes into a stage's context and a reset takes away.
ENGINE_KEYS = frozenset(
    {
        "_cancel_reason", "_activation", "_triggered_by", "_sub_workflow_id", "_mi_refused", "jump_error", "exception",
        "error",
    }
)  # fmt: skip


def _forgive(view: View, row: StageRow) -> None:
    """Forget that a row had stopped and asked for the failure of the workflow at its end."""
    if row.status is S.STOPPED and row.context.get("completeOtherBranchesThenFail"):
        view.head = view.head._replace(late_failures=view.head.late_failures - 1)


def _stage_retired(view: View, fact: f.StageRetired, _at: int) -> None:
    row = _stage(view, fact.stage)
    _forgive(view, row)
    _put(view, row, row._replace(status=S.NOT_STARTED, waits=""))
    view.put(StageKey(row.id), None)
    for position in range(len(row.spec.tasks)):
        view.put(TaskKey(row.id, position), None)


def _context_updated(view: View, fact: f.ContextUpdated, _at: int) -> None:
    _tell(view, fact.stage, fact.context)


def _tell(view: View, stage_id: str, context: Mapping[str, Any]) -> None:
    row = _stage(view, stage_id)
    view.put(StageKey(row.id), row._replace(context=_merged(row.context, context)))


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
    changed = task._replace(retries=task.retries + 1, due=fact.due, error=fact.error)
    if fact.anew:
        changed = changed._replace(polls=task.polls + 1, first_started_at=None)
    view.put(TaskKey(fact.stage, fact.position), changed)
    if fact.context:
        _tell(view, fact.stage, fact.context)


def _task_lost(view: View, fact: f.TaskLost, _at: int) -> None:
    """A signal that was with the body stays: it is run again with it, if at all."""
    _move(view, _stage(view, fact.stage), S.SUSPENDED)
    task = _task(view, fact.stage, fact.position)
    view.put(TaskKey(fact.stage, fact.position), task._replace(status=S.SUSPENDED, error=fact.error))


def _task_settled(view: View, fact: f.TaskSettled, at: int) -> None:
    _move(view, _stage(view, fact.stage), S.RUNNING)
    task = _task(view, fact.stage, fact.position)
    view.put(TaskKey(fact.stage, fact.position), task._replace(status=S.RUNNING, due=None, error=None))


def _task_polled(view: View, fact: f.TaskPolled, _at: int) -> None:
    task = _task(view, fact.stage, fact.position)
    view.put(
        TaskKey(fact.stage, fact.position),
        task._replace(polls=task.polls + 1, due=fact.due, signal=None, error=None),
    )
    if fact.context:
        _tell(view, fact.stage, fact.context)


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


def _signal_dropped(view: View, fact: f.SignalDropped | f.SignalRefused, _at: int) -> None:
    if fact.signal is not None:
        view.put(SignalKey(fact.signal), None)


def _jump_executed(view: View, fact: f.JumpExecuted, _at: int) -> None:
    view.head = view.head._replace(jumps=fact.number)


def _workflow_buffered(view: View, fact: f.WorkflowBuffered, _at: int) -> None:
    if not fact.restarts:
        validate_transition(view.head.status, S.BUFFERED, "workflow", view.head.id)
    view.head = view.head._replace(status=S.BUFFERED, ended_at=None)
    _queue_up(view, slots(view.head.lane), view.head.id, fact.restarts or view.head.id, 0)


def slots(lane: str) -> str:
    """Return the name of the claim that counts the slots of a lane."""
    return f"slots:{lane}"


def _queue_up(view: View, name: str, who: str, holder: str, generation: int) -> None:
    """Put somebody at the end of the line for a claim."""
    claim = _claim(view, name)
    view.put(ClaimKey(name), claim._replace(tickets=claim.tickets + 1))
    view.put(
        WaiterKey(name, who), WaiterRow(name, who, view.head.id, generation, claim.tickets + 1, holder)
    )  # fmt: skip


def _claim(view: View, name: str) -> ClaimRow:
    row: ClaimRow | None = view.get(ClaimKey(name))
    return row or ClaimRow(name, "", "", settled=False, taken=0, tickets=0)


def _stage_waits(view: View, fact: f.StageWaits, _at: int) -> None:
    row = _stage(view, fact.stage)
    _put(view, row, row._replace(waits=fact.waits))
    if fact.waits not in ("", MILESTONE, ADDITIONS):
        _queue_up(view, fact.waits, row.id, fact.holder, row.generation)


def _claimed(view: View, fact: f.Claimed, _at: int) -> None:
    claim = _claim(view, fact.claim)
    view.put(ClaimKey(fact.claim), claim._replace(workflow_id=view.head.id, holder=fact.holder))
    row = _stage(view, fact.stage)
    _put(view, row, row._replace(waits=""))


def _released(view: View, fact: f.Released, _at: int) -> None:
    if not fact.to_holder:
        view.put(ClaimKey(fact.claim), None)
        return
    claim = _claim(view, fact.claim)
    view.put(ClaimKey(fact.claim), claim._replace(workflow_id=fact.to_workflow, holder=fact.to_holder, settled=False))


def _choice_made(view: View, fact: f.ChoiceMade, _at: int) -> None:
    claim = _claim(view, fact.claim)
    view.put(ClaimKey(fact.claim), claim._replace(workflow_id=view.head.id, holder=fact.stage, settled=True))


def _slot_taken(view: View, fact: f.SlotTaken, _at: int) -> None:
    view.head = view.head._replace(slot=True)
    if not fact.passed_on:
        claim = _claim(view, slots(fact.lane))
        view.put(ClaimKey(claim.name), claim._replace(taken=claim.taken + 1))


def _slot_released(view: View, fact: f.SlotReleased, _at: int) -> None:
    view.head = view.head._replace(slot=False)
    claim = _claim(view, slots(fact.lane))
    if fact.to_workflow:
        view.put(WaiterKey(claim.name, fact.to_workflow), None)
    else:
        left = claim._replace(taken=claim.taken - 1)
        view.put(ClaimKey(claim.name), left if left.taken > 0 else None)


def _slot_declined(view: View, fact: f.SlotDeclined, _at: int) -> None:
    view.put(WaiterKey(slots(fact.lane), view.head.id), None)


def _phase_entered(view: View, fact: f.PhaseEntered, _at: int) -> None:
    row = _stage(view, fact.stage)
    view.put(
        StageKey(row.id),
        row._replace(
            phase=fact.phase, error=fact.error or row.error, depth=max(row.depth, fact.depth),
            inherited=fact.inherited or row.inherited,
        ),
    )  # fmt: skip


#: Ordinals of instances made while a workflow runs come after those of its stages, in the order of their indexes.
_LATER = 1_000_000


def _instance_added(view: View, fact: f.InstanceAdded, _at: int) -> None:
    parent = _stage(view, fact.stage)
    view.put(StageKey(parent.id), parent._replace(added=parent.added + 1))
    join = Edge(parent.spec.mi_join, join_ref(parent.spec.ref_id)) if parent.spec.mi_join else None
    spec = instance_spec(parent.spec, parent.id, join, fact.index)
    row = StageRow(
        id=fact.row, base_id=fact.row, ref_id=spec.ref_id, ordinal=_LATER * (1 + parent.ordinal) + fact.index,
        spec=spec, status=S.NOT_STARTED, generation=0, activation=1, fired=0, sent=0, depth=0, softly_failed=False,
        triggers=(), inherited=EMPTY, context=fact.context, outputs=EMPTY, error=None, started_at=None, ended_at=None,
    )  # fmt: skip
    view.put(StageKey(row.id), row)
    _fresh_tasks(view, row.id, spec)


def _instance_refused(view: View, fact: f.InstanceRefused, _at: int) -> None:
    row = _stage(view, fact.stage)
    refused = [*row.context.get("_mi_refused", ()), fact.reason]
    view.put(StageKey(row.id), row._replace(context={**row.context, "_mi_refused": refused}))


def _activity_closed(view: View, fact: f.ActivityClosed, _at: int) -> None:
    row = _stage(view, fact.stage)
    view.put(StageKey(row.id), row._replace(closed=True))


def _child_started(view: View, fact: f.ChildStarted, _at: int) -> None:
    row = _stage(view, fact.stage)
    view.put(StageKey(row.id), row._replace(context={**row.context, "_sub_workflow_id": fact.child}))


def _code_replaced(view: View, fact: f.CodeReplaced, _at: int) -> None:
    row = _stage(view, fact.stage)
    view.put(StageKey(row.id), row._replace(spec=with_codes(row.spec, fact.codes)))
    for position in range(len(row.spec.tasks)):
        task = _task(view, row.id, position)
        if not task.status.is_complete and task.implementing_class in fact.codes:
            code = fact.codes[task.implementing_class]
            view.put(TaskKey(row.id, position), task._replace(implementing_class=code))


def _unchanged(_view: View, _fact: f.Fact, _at: int) -> None:
    """Some facts say what did not happen, or what changes nothing."""


_APPLY: dict[type[f.Fact], Callable[[View, Any, int], None]] = {
    f.WorkflowCreated: _workflow_created,
    f.WorkflowStarted: _workflow_started,
    f.WorkflowPaused: _workflow_paused,
    f.WorkflowResumed: _workflow_resumed,
    f.WorkflowEnding: _workflow_ending,
    f.WorkflowEnded: _workflow_ended,
    f.WorkflowRestarted: _workflow_restarted,
    f.WorkflowForked: _workflow_forked,
    f.OutputsReplaced: _outputs_replaced,
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
    f.TaskPrinted: _unchanged,
    f.TaskLost: _task_lost,
    f.TaskSettled: _task_settled,
    f.SignalBuffered: _signal_buffered,
    f.SignalDelivered: _signal_delivered,
    f.SignalDropped: _signal_dropped,
    f.SignalRefused: _signal_dropped,
    f.JumpExecuted: _jump_executed,
    f.WorkflowBuffered: _workflow_buffered,
    f.StageWaits: _stage_waits,
    f.Claimed: _claimed,
    f.Released: _released,
    f.ChoiceMade: _choice_made,
    f.SlotTaken: _slot_taken,
    f.SlotReleased: _slot_released,
    f.SlotDeclined: _slot_declined,
    f.PhaseEntered: _phase_entered,
    f.InstanceAdded: _instance_added,
    f.InstanceRefused: _instance_refused,
    f.ActivityClosed: _activity_closed,
    f.ConditionFailed: _unchanged,
    f.ChildStarted: _child_started,
    f.CodeReplaced: _code_replaced,
    f.PermitTaken: _permit_taken,
    f.AttributesSet: _attributes_set,
    f.ResultDiscarded: _unchanged,
}
