"""TaskFinished: a body's outcome moves its stage on, unless the stage has moved on without it."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any

from stabilize_nb.core.facts import (
    AttributesSet,
    ChildStarted,
    PhaseEntered,
    ResultDiscarded,
    SignalDelivered,
    StageSuspended,
    TaskEnded,
    TaskPolled,
    TaskPrinted,
    TaskRetried,
)
from stabilize_nb.core.view import Buffered
from stabilize_nb.handlers import gates
from stabilize_nb.handlers.choice import choose
from stabilize_nb.handlers.claims import offer
from stabilize_nb.handlers.ending import end_stage, fail_stage, has_children, withdraw
from stabilize_nb.models.ids import derived_id
from stabilize_nb.models.priority import PRIORITY
from stabilize_nb.models.stage import SyntheticStageOwner
from stabilize_nb.models.status import WorkflowStatus
from stabilize_nb.queue.messages import JumpToStage, Outcome, OutcomeKind, TaskFinished, Token

if TYPE_CHECKING:
    from stabilize_nb.core.draft import Draft, Limits
    from stabilize_nb.core.rows import StageRow, TaskRow

S = WorkflowStatus


def task_finished(draft: Draft, message: TaskFinished) -> None:
    """Take the outcome of the attempt that is current; any other result is discarded and said to be."""
    row = draft.find(message.stage_id)
    if row is None or not draft.is_current(message, row):
        _discard(draft, message, "the stage was reset")
        return
    task = draft.task(row.id, message.position)
    if message.outcome.output:
        draft.record(TaskPrinted(row.id, message.position, message.attempt, message.outcome.output))
    if row.status is not S.RUNNING:
        _discard(draft, message, f"the stage is {row.status}")
    elif task.attempt != message.attempt:
        _discard(draft, message, f"attempt {task.attempt} has taken over")
    elif task.status is not S.RUNNING or task.due is not None:
        _discard(draft, message, f"attempt {task.attempt} has ended before")
    else:
        if message.outcome.attributes:
            draft.record(AttributesSet(row.id, message.outcome.attributes))
        take(draft, row, task, message.outcome)


def _discard(draft: Draft, message: TaskFinished, reason: str) -> None:
    draft.record(ResultDiscarded(message.stage_id, message.position, message.attempt, reason))


def take(draft: Draft, row: StageRow, task: TaskRow, outcome: Outcome) -> None:
    """Move a stage on with what became of its body."""
    if row.spec.deferred_choice_group and outcome.kind is not OutcomeKind.SUSPENDED:
        choose(draft, row)
    match outcome.kind:
        case OutcomeKind.DONE:
            _done(draft, row, task, outcome)
        case OutcomeKind.RUNNING | OutcomeKind.SUSPENDED | OutcomeKind.JUMP | OutcomeKind.CHILD if (
            draft.head.ending is not None
        ):
            withdraw(draft, row, reason="workflow_failed")
        case OutcomeKind.RUNNING:
            due = draft.env.now + outcome.after
            draft.record(TaskPolled(row.id, task.position, due, outcome.context))
            draft.call(row, task, outcome.after)
        case OutcomeKind.SUSPENDED:
            _suspend(draft, row, task, outcome)
        case OutcomeKind.CHILD:
            _begin_child(draft, row, task, outcome)
        case OutcomeKind.JUMP:
            _jump(draft, row, task, outcome)
        case OutcomeKind.RETRY:
            _retry(draft, row, task, outcome)
        case OutcomeKind.TIMED_OUT:
            _fail(draft, row, task, outcome)


def _done(draft: Draft, row: StageRow, task: TaskRow, outcome: Outcome) -> None:
    if outcome.status is S.TERMINAL:
        _fail(draft, row, task, outcome)
        return
    ended = S.SUCCEEDED if outcome.status is S.REDIRECT else outcome.status
    following = task.position + 1
    more = following < len(row.spec.tasks)
    draft.record(TaskEnded(row.id, task.position, ended, task.attempt, outcome.context, outcome.outputs, outcome.error))
    row = draft.stage(row.id)
    match ended:
        case S.STOPPED:
            end_stage(draft, row, S.STOPPED, token=Token.HALT, error=outcome.error)
        case S.CANCELED:
            end_stage(draft, row, S.CANCELED, token=Token.HALT, reason="command")
        case S.SKIPPED:
            end_stage(draft, row, S.SKIPPED, token=Token.LIVE)
        case _ if more:
            draft.call(row, draft.task(row.id, following))
        case _ if has_children(row, SyntheticStageOwner.STAGE_AFTER):
            draft.record(PhaseEntered(row.id, SyntheticStageOwner.STAGE_AFTER.value))
        case _:
            status = S.FAILED_CONTINUE if row.softly_failed else S.SUCCEEDED
            end_stage(draft, row, status, token=Token.LIVE)


def _fail(draft: Draft, row: StageRow, task: TaskRow, outcome: Outcome) -> None:
    error = outcome.error or f"task {task.name!r} gave no reason"
    context = {**outcome.context, "error": error}
    if outcome.details:
        context["exception"] = {"details": outcome.details}
    draft.record(
        TaskEnded(row.id, task.position, S.TERMINAL, task.attempt, context, outcome.outputs, error, outcome.details)
    )
    fail_stage(draft, draft.stage(row.id), error=error)


def _suspend(draft: Draft, row: StageRow, task: TaskRow, outcome: Outcome) -> None:
    if wrong := gates.fault(row, task):
        error = f"approval {row.ref_id!r} cannot wait: {wrong}"
        _fail(draft, row, task, Outcome(kind=OutcomeKind.DONE, status=S.TERMINAL, error=error))
        return
    kept = draft.view.members(Buffered(row.id), "signal", lambda signal: signal.stage_id == row.id)
    draft.record(StageSuspended(row.id, task.position, outcome.context))
    row = draft.stage(row.id)
    first = next((signal for signal in kept if not gates.refused_kept(draft, row, signal)), None)
    if first is not None:
        signal = SignalDelivered(row.id, task.position, first.name, dict(first.data), first.id)
        gates.deliver(draft, row, task, signal)
        return
    gates.set_timer(draft, row, task)
    if row.spec.deferred_choice_group:
        offer(draft, row)


def _begin_child(draft: Draft, row: StageRow, task: TaskRow, outcome: Outcome) -> None:
    """Have the child stored and started with this commit; its end comes as a signal (WCP-22)."""
    earlier = row.context.get("_sub_workflow_id", "")
    child = derived_id(row.id, f"child:{row.generation}:{task.position}:{earlier}", task.polls)
    draft.record(ChildStarted(row.id, task.position, child))
    draft.record(StageSuspended(row.id, task.position, outcome.context))
    parent: dict[str, Any] = {
        "_parent_workflow_id": draft.head.id,
        "_parent_stage_id": row.id,
        "_parent_generation": row.generation,
    }
    if PRIORITY in draft.head.context:
        parent[PRIORITY] = draft.head.context[PRIORITY]
    definition = outcome.child
    draft.begin_workflow(
        {
            **definition, "id": child, "application": definition["application"] or draft.head.application,
            "context": {**definition["context"], **parent},
        }
    )  # fmt: skip


def _jump(draft: Draft, row: StageRow, task: TaskRow, outcome: Outcome) -> None:
    draft.record(TaskEnded(row.id, task.position, S.REDIRECT, task.attempt, outputs=outcome.outputs))
    draft.send(
        JumpToStage(
            execution_id=draft.head.id, stage_id=row.id, generation=row.generation,
            target_stage_ref_id=outcome.target or "", jump_context=outcome.context, jump_outputs=outcome.outputs,
            counted=outcome.counted,
        )
    )  # fmt: skip


def _retry(draft: Draft, row: StageRow, task: TaskRow, outcome: Outcome) -> None:
    limits = draft.env.limits
    attempts = outcome.max_attempts or limits.attempts
    if task.retries + 1 >= attempts:
        _fail(draft, row, task, outcome)
        return
    after = max(backoff(limits, task), outcome.after)
    due = draft.env.now + after
    draft.record(TaskRetried(row.id, task.position, task.attempt, due, outcome.error, outcome.context, outcome.anew))
    draft.call(row, task, after)


def backoff(limits: Limits, task: TaskRow) -> int:
    """Return ms to wait before the next attempt: doubling, with a jitter that the same attempt always gets."""
    base: int = min(limits.backoff_min * 2**task.retries, limits.backoff_max)
    digest = hashlib.blake2b(f"{task.id}:{task.attempt}".encode(), digest_size=4).digest()
    spread = int.from_bytes(digest, "big") / 0xFFFFFFFF * 2 - 1
    return max(1, round(base * (1 + limits.jitter * spread)))
