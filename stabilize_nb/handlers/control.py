"""PauseWorkflow and ResumeWorkflow: no task is begun in between, and nothing that was due is lost."""

from __future__ import annotations

from typing import TYPE_CHECKING

from stabilize_nb.core.facts import StageResumed, WorkflowPaused, WorkflowResumed
from stabilize_nb.models.status import WorkflowStatus
from stabilize_nb.queue.messages import PauseWorkflow, ResumeWorkflow

if TYPE_CHECKING:
    from stabilize_nb.core.draft import Draft

S = WorkflowStatus


def pause_workflow(draft: Draft, message: PauseWorkflow) -> None:
    """Begin no further task; bodies that run now end as usual."""
    if draft.head.status is S.RUNNING and draft.head.ending is None:
        draft.record(WorkflowPaused(message.user))


def resume_workflow(draft: Draft, message: ResumeWorkflow) -> None:
    """Go on: every task that was due during the pause is due now."""
    if not draft.head.paused:
        return
    parked = [row for row in draft.open_stages() if row.status is S.PAUSED]
    tasks = [draft.current_task(row) for row in parked]
    draft.record(WorkflowResumed(message.user))
    for row, task in zip(parked, tasks, strict=True):
        draft.record(StageResumed(row.id))
        if task is not None:
            draft.call(draft.stage(row.id), task)
