"""CancelStage: one stage is withdrawn by a person; what needs it does not run (WCP-19)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from stabilize_nb.handlers.ending import withdraw
from stabilize_nb.models.status import OPEN, WorkflowStatus
from stabilize_nb.queue.messages import CancelStage, Token

if TYPE_CHECKING:
    from stabilize_nb.core.draft import Draft


def cancel_stage(draft: Draft, message: CancelStage) -> None:
    """Withdraw a run that is open, or a stage that has not begun; a finished one stays as it is."""
    row = draft.find(message.stage_id)
    if row is None or not draft.is_current(message, row) or draft.head.status.is_complete:
        return
    if row.status in OPEN:
        withdraw(draft, row, reason=message.reason, token=Token.HALT)
    elif row.status is WorkflowStatus.NOT_STARTED:
        first = draft.round(row, 1)
        blocked = first is not None and first.settled
        withdraw(draft, row, reason=message.reason, token=None if blocked else Token.HALT, settles=1)
