"""A body was begun and nothing came of it, since its process died: what its stage does, and what a person decides."""

from __future__ import annotations

from typing import TYPE_CHECKING

from stabilize_nb.core.facts import SignalRefused, TaskLost, TaskSettled
from stabilize_nb.handlers.task_finished import take
from stabilize_nb.models import settling
from stabilize_nb.models.gate import Refusal
from stabilize_nb.models.settling import FAIL, OUTPUTS, RETRY, SETTLEMENTS, fingerprint, quarantined, unknown
from stabilize_nb.models.status import WorkflowStatus
from stabilize_nb.queue.messages import Outcome, OutcomeKind

if TYPE_CHECKING:
    from stabilize_nb.core.draft import Draft
    from stabilize_nb.core.rows import StageRow, TaskRow
    from stabilize_nb.queue.messages import RunTask, SignalStage

S = WorkflowStatus


def is_given_up(draft: Draft, row: StageRow, task: TaskRow, message: RunTask) -> bool:
    """
    Do what a stage says of a lost body; return whether it is not run again.

    A run that is ending waits for nobody: there the stage fails. A body that is run again after each death is given up
    in the end; its message becomes a dead letter, which runs it once more when it is put back.
    """
    on_crash = row.spec.on_crash
    retries = on_crash == RETRY
    if retries and (message.cause or message.lost < draft.env.limits.deaths):
        return False
    doubt = quarantined(message.lost) if retries else unknown(message.cause)
    if on_crash == FAIL or draft.head.ending is not None:
        take(draft, row, task, _failure(doubt))
        return True
    if retries:
        draft.bury(doubt)
    draft.record(TaskLost(row.id, task.position, task.attempt, doubt))
    return True


def try_again(draft: Draft, row: StageRow, task: TaskRow) -> None:
    """Settle a doubt by the dead letter that was put back: the body is run once more."""
    draft.record(TaskSettled(row.id, task.position, {"decision": RETRY}, fingerprint(task.error or "", task.attempt)))


def settle(draft: Draft, row: StageRow, message: SignalStage) -> None:
    """Take what a person says became of a lost body; the first to say it counts."""
    task = draft.current_task(row) if row.status is S.SUSPENDED else None
    reason = _refusal(draft, row, task, message)
    if reason is not None or task is None:
        draft.record(
            SignalRefused(
                row.id, message.signal_name, message.signal_data, (reason or Refusal.NOT_WAITING).value,
                message.fingerprint, message.decision_id,
            )
        )  # fmt: skip
        return
    data = message.signal_data
    mark = fingerprint(task.error or "", task.attempt)
    draft.record(TaskSettled(row.id, task.position, data, mark, message.decision_id))
    row, doubt, task = draft.stage(row.id), task.error, draft.task(row.id, task.position)
    match data["decision"]:
        case settling.RETRY:
            draft.call(row, task)
        case settling.DONE:
            take(draft, row, task, Outcome(kind=OutcomeKind.DONE, outputs=data.get(OUTPUTS) or {}))
        case _:
            by = f" by {data['user']}" if data.get("user") else ""
            reason = data.get("reason") or data.get("note")
            why = f": {reason}" if reason else ""
            take(draft, row, task, _failure(f"{doubt}; settled as failed{by}{why}"))


def _refusal(draft: Draft, row: StageRow, task: TaskRow | None, message: SignalStage) -> Refusal | None:
    bound = bool(message.fingerprint)
    if not draft.is_current(message, row):
        return Refusal.CHANGED
    if task is None or not task.is_in_doubt:
        return Refusal.NOT_WAITING
    if bound and message.fingerprint != fingerprint(task.error or "", task.attempt):
        return Refusal.CHANGED
    return None if message.signal_data.get("decision") in SETTLEMENTS else Refusal.CHOICE


def _failure(error: str) -> Outcome:
    details = {"error": error, "type": "OutcomeUnknown", "transient": False}
    return Outcome(kind=OutcomeKind.DONE, status=S.TERMINAL, error=error, details=details)
