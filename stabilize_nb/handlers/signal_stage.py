"""SignalStage: resume a suspended stage, or keep the signal for when it suspends (WCP-23, WCP-24)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from stabilize_nb.core.facts import SignalBuffered, SignalDelivered, SignalDropped
from stabilize_nb.handlers.gates import deliver, refused
from stabilize_nb.handlers.settling import settle
from stabilize_nb.models.ids import derived_id
from stabilize_nb.models.settling import SETTLE
from stabilize_nb.models.status import WorkflowStatus
from stabilize_nb.queue.messages import SignalStage

if TYPE_CHECKING:
    from stabilize_nb.core.draft import Draft

S = WorkflowStatus


def signal_stage(draft: Draft, message: SignalStage) -> None:
    """Deliver, buffer or drop; first come, first served."""
    row = draft.find(message.stage_id)
    if row is not None and message.signal_name == SETTLE:
        settle(draft, row, message)
        return
    if row is None or refused(draft, row, message) or not draft.is_current(message, row):
        return
    task = draft.current_task(row) if row.status is S.SUSPENDED else None
    if task is not None and not task.is_in_doubt:
        signal = SignalDelivered(row.id, task.position, message.signal_name, message.signal_data)
        deliver(draft, row, task, signal, message.decision_id)
    elif message.persistent and not row.status.is_complete and not draft.head.status.is_complete:
        name = derived_id(row.id, "signal", draft.head.sequence)
        draft.record(SignalBuffered(row.id, name, message.signal_name, message.signal_data))
    else:
        draft.record(SignalDropped(row.id, message.signal_name))
