"""CancelWorkflow: everything that is not complete is withdrawn (WCP-20)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from stabilize_nb.core.facts import WorkflowEnding, WorkflowResumed, WorkflowStarted
from stabilize_nb.core.view import Unfinished
from stabilize_nb.handlers.ending import withdraw
from stabilize_nb.handlers.slots import decline_slot
from stabilize_nb.models.status import WorkflowStatus
from stabilize_nb.queue.messages import CancelWorkflow

if TYPE_CHECKING:
    from stabilize_nb.core.draft import Draft

S = WorkflowStatus


def cancel_workflow(draft: Draft, message: CancelWorkflow) -> None:
    """Withdraw all; a workflow that has ended stays as it is."""
    waits = draft.head.status is S.BUFFERED
    if draft.head.status.is_complete or (draft.head.ending is S.CANCELED and not waits):
        return
    if waits:
        decline_slot(draft)
    if draft.head.status in (S.NOT_STARTED, S.BUFFERED):
        draft.record(WorkflowStarted())
    if draft.head.paused:
        draft.record(WorkflowResumed(message.user))
    end_all(draft, S.CANCELED, message.reason, "workflow_canceled", message.user)


def end_all(draft: Draft, status: WorkflowStatus, reason: str, why: str, user: str = "") -> None:
    """Begin the end of the workflow as `status`: everything that is not complete is withdrawn because of `why`."""
    rows = draft.view.members(Unfinished(all=True), "stage", lambda row: not row.status.is_complete)
    draft.record(WorkflowEnding(status, reason, user))
    for row in rows:
        withdraw(draft, draft.stage(row.id), reason=why)
