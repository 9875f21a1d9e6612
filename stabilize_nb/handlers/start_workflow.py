"""StartWorkflow: the stages without requisites get their thread."""

from __future__ import annotations

from typing import TYPE_CHECKING

from stabilize_nb.core.facts import WorkflowEnding, WorkflowStarted
from stabilize_nb.core.view import Roots
from stabilize_nb.handlers.slots import take_slot
from stabilize_nb.models.status import WorkflowStatus
from stabilize_nb.queue.messages import StartStage, StartWorkflow

if TYPE_CHECKING:
    from stabilize_nb.core.draft import Draft


def start_workflow(draft: Draft, message: StartWorkflow) -> None:
    """Begin, once, as soon as there is a slot; a workflow without stages fails: nothing can have been meant by it."""
    if draft.head.status not in (WorkflowStatus.NOT_STARTED, WorkflowStatus.BUFFERED) or draft.head.started_at:
        return
    if not take_slot(draft):
        return
    roots = draft.view.get(Roots())
    draft.record(WorkflowStarted())
    if not roots:
        draft.record(WorkflowEnding(WorkflowStatus.TERMINAL, "the workflow has no stages: there is nothing to run"))
    for stage_id in roots:
        draft.send(StartStage(execution_id=message.execution_id, stage_id=stage_id))
