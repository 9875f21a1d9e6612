"""Slots: how many workflows of one lane run at once; the rest waits as BUFFERED, the oldest is next."""

from __future__ import annotations

from typing import TYPE_CHECKING

from stabilize_nb.core.evolve import slots
from stabilize_nb.core.facts import SlotDeclined, SlotReleased, SlotTaken, WorkflowBuffered
from stabilize_nb.core.view import WaiterKey
from stabilize_nb.handlers.claims import in_line
from stabilize_nb.models.status import WorkflowStatus
from stabilize_nb.queue.messages import CancelWorkflow, RestartStage, StartWorkflow

if TYPE_CHECKING:
    from stabilize_nb.core.draft import Draft

S = WorkflowStatus


def take_slot(draft: Draft, restarts: str = "") -> bool:
    """
    Take a slot, or wait for one; return whether the workflow may start.

    `restarts` is the stage with which a workflow that has ended goes on; with the slot comes the order to restart it.
    """
    head = draft.head
    if not head.limit:
        return True
    if head.status is S.BUFFERED:
        if draft.view.get(WaiterKey(slots(head.lane), head.id)) is not None:
            return False
        draft.record(SlotTaken(head.lane, passed_on=True))
        return True
    claim = draft.claim(slots(head.lane))
    if claim is None or claim.taken < head.limit:
        draft.record(SlotTaken(head.lane))
        return True
    if not head.keeps_waiting:
        for older in in_line(draft, slots(head.lane)):
            draft.send(CancelWorkflow(execution_id=older.workflow_id, reason=f"workflow {head.id} waits in its place"))
    draft.record(WorkflowBuffered(restarts))
    return False


def give_slot_back(draft: Draft) -> None:
    """Let the workflow that has waited longest have the slot."""
    lane = draft.head.lane
    following = next(in_line(draft, slots(lane)), None)
    draft.record(SlotReleased(lane, following.workflow_id if following else ""))
    if following is None:
        return
    if following.holder == following.workflow_id:
        draft.send(StartWorkflow(execution_id=following.workflow_id))
    else:
        draft.send(RestartStage(execution_id=following.workflow_id, stage_id=following.holder))


def decline_slot(draft: Draft) -> None:
    """Wait no longer; a slot that was given meanwhile goes on to the next."""
    lane = draft.head.lane
    if draft.view.get(WaiterKey(slots(lane), draft.head.id)) is None:
        give_slot_back(draft)
    else:
        draft.record(SlotDeclined(lane))
