"""TimeoutStage: a stage took longer than its `stageTimeoutMs`, whatever it was doing."""

from __future__ import annotations

from typing import TYPE_CHECKING

from stabilize_nb.core.facts import StageResumed, TaskEnded
from stabilize_nb.handlers.ending import FAILURE, cancel_child, fail_stage, withdraw
from stabilize_nb.models.status import OPEN, WorkflowStatus
from stabilize_nb.queue.messages import TimeoutStage

if TYPE_CHECKING:
    from stabilize_nb.core.draft import Draft

S = WorkflowStatus


def timeout_stage(draft: Draft, message: TimeoutStage) -> None:
    """Fail the run if it is still open; a body that is at work is told, and its result will be discarded."""
    row = draft.find(message.stage_id)
    if row is None or not draft.is_current(message, row) or row.status not in OPEN:
        return
    error = f"stage {row.ref_id!r} timed out after {row.context.get('stageTimeoutMs')} ms"
    if row.phase == FAILURE.value and row.error == error:
        return  # what runs on failure runs because of this very timer
    cancel_child(draft, row, "timed out")
    for child in row.spec.children:
        part = draft.stage(child.stage_id)
        if part.status in OPEN:
            withdraw(draft, part, reason="workflow_failed")
    task = draft.current_task(row)
    if row.status is not S.RUNNING:
        draft.record(StageResumed(row.id))
    if task is not None:
        draft.record(TaskEnded(row.id, task.position, S.TERMINAL, task.attempt, {"error": error}, error=error))
    fail_stage(draft, draft.stage(row.id), error=error)
