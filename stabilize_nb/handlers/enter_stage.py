"""EnterStage: a run that waited for a claim has it now, and goes on."""

from __future__ import annotations

from typing import TYPE_CHECKING

from stabilize_nb.core.facts import Claimed
from stabilize_nb.handlers.claims import choice_of, holder_of, mutex_of
from stabilize_nb.handlers.entering import enter
from stabilize_nb.models.status import WorkflowStatus

if TYPE_CHECKING:
    from stabilize_nb.core.draft import Draft
    from stabilize_nb.core.rows import StageRow
    from stabilize_nb.queue.messages import EnterStage

S = WorkflowStatus


def enter_stage(draft: Draft, message: EnterStage) -> None:
    """Take what was passed on and look again at everything that may stand in the way."""
    row = draft.find(message.stage_id)
    if row is None or not draft.is_current(message, row) or not row.waits or row.status is not S.NOT_STARTED:
        return
    holder = _holders(draft, row).get(row.waits)
    claim = draft.claim(row.waits)
    if holder is None or claim is None or claim.holder != holder:
        return
    draft.record(Claimed(row.id, row.waits, holder))
    enter(draft, draft.stage(row.id))


def _holders(draft: Draft, row: StageRow) -> dict[str, str]:
    """Return the claims that a row may wait for, and who holds them for it."""
    return {mutex_of(row): holder_of(draft, row), choice_of(draft, row): row.id}
