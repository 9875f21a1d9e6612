"""CancelRegion: a set of stages is withdrawn; the rest goes on without them (WCP-25)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from stabilize_nb.core.view import Members
from stabilize_nb.handlers.ending import withdraw
from stabilize_nb.queue.messages import Token

if TYPE_CHECKING:
    from stabilize_nb.core.draft import Draft
    from stabilize_nb.core.rows import StageRow
    from stabilize_nb.queue.messages import CancelRegion


def cancel_region(draft: Draft, message: CancelRegion) -> None:
    """Withdraw the members that are not complete; an unknown region changes nothing."""
    if message.region and not draft.head.status.is_complete:
        cancel_region_of(draft, message.region)


def cancel_region_of(draft: Draft, region: str) -> None:
    """Withdraw every run of a region that is not complete; its edges say DEAD."""
    rows: list[StageRow] = draft.view.members(
        Members("cancel_region", region), "stage", lambda row: row.spec.cancel_region == region
    )
    for row in rows:
        withdraw(draft, draft.stage(row.id), reason=f"region:{region}", token=Token.DEAD)
