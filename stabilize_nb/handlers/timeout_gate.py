"""TimeoutGate: nobody decided in time, so the gate decides as its author said."""

from __future__ import annotations

from typing import TYPE_CHECKING

from stabilize_nb.core.facts import SignalDelivered
from stabilize_nb.handlers.gates import deliver, set_timer
from stabilize_nb.models.gate import at_deadline, deadline_of
from stabilize_nb.models.status import WorkflowStatus

if TYPE_CHECKING:
    from stabilize_nb.core.draft import Draft
    from stabilize_nb.queue.messages import TimeoutGate


def timeout_gate(draft: Draft, message: TimeoutGate) -> None:
    """Decide if the gate still waits; a clock that was set back gives it the time that is left."""
    row = draft.find(message.stage_id)
    if row is None or not draft.is_current(message, row) or row.status is not WorkflowStatus.SUSPENDED:
        return
    task = draft.current_task(row)
    deadline = None if task is None else deadline_of(row.context, task.first_started_at)
    if task is None or task.is_in_doubt or deadline is None:
        return
    if draft.env.now < deadline:
        set_timer(draft, row, task)
        return
    name, data = at_deadline(row.context)
    deliver(draft, row, task, SignalDelivered(row.id, task.position, name, data))
