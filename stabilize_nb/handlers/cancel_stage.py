"""CancelStage: one stage is withdrawn by a person; what needs it does not run (WCP-19, WCP-26)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from stabilize_nb.handlers.ending import withdraw
from stabilize_nb.handlers.multi_instance import cancel_activity
from stabilize_nb.queue.messages import CancelStage, Token

if TYPE_CHECKING:
    from stabilize_nb.core.draft import Draft
    from stabilize_nb.core.rows import StageRow


def cancel_stage(draft: Draft, message: CancelStage) -> None:
    """Withdraw a run that is open or has not begun, or an open activity; what has finished stays as it is."""
    row = draft.find(message.stage_id)
    if row is None or not draft.is_current(message, row) or draft.head.status.is_complete:
        return
    cancel_run(draft, row, message.reason)


def cancel_run(draft: Draft, row: StageRow, reason: str) -> None:
    """Withdraw a run, or the multi-instance activity whose parent has ended."""
    if not row.status.is_complete:
        withdraw(draft, row, reason=reason, token=Token.HALT)
    elif row.spec.mi_config and draft.head.ending is None:
        cancel_activity(draft, row)
