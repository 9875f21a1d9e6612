"""CompleteWorkflow: nothing is left that could move; the first rule that applies says how it ended (patterns.md 2.8)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from stabilize_nb.core.facts import SignalDropped, WorkflowEnded
from stabilize_nb.core.view import Arrived, Buffered, Stuck
from stabilize_nb.models.status import WorkflowStatus
from stabilize_nb.queue.messages import CompleteWorkflow

if TYPE_CHECKING:
    from stabilize_nb.core.draft import Draft

S = WorkflowStatus


def complete_workflow(draft: Draft, _message: CompleteWorkflow) -> None:
    """End the workflow, and drop the signals that nobody will ask for."""
    head = draft.head
    if head.active or head.status is not S.RUNNING:
        return
    status, error = _verdict(draft)
    signals = draft.view.members(Buffered(""), "signal", lambda _signal: True)
    for signal in signals:
        draft.record(SignalDropped(signal.stage_id, signal.name, signal.id))
    draft.record(WorkflowEnded(status, error))


def _verdict(draft: Draft) -> tuple[WorkflowStatus, str | None]:
    head = draft.head
    if head.ending is not None:
        return head.ending, None
    stuck = draft.view.get(Stuck())
    if stuck:
        return S.TERMINAL, f"deadlock: {', '.join(stuck)} hold a thread that nothing can consume any more"
    if head.late_failure:
        return S.TERMINAL, "a branch that had stopped asked for failure once the others were done"
    if head.cancels and not draft.view.get(Arrived()):
        return S.CANCELED, None
    return S.SUCCEEDED, None
