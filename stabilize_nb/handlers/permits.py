"""Permits: when a body may begin under a limit that all workflows of a store share. Who waits has a timer."""

from __future__ import annotations

from typing import TYPE_CHECKING

from stabilize_nb.core.facts import PermitTaken
from stabilize_nb.core.rows import PermitRow
from stabilize_nb.core.view import LastPermit, PermitKey
from stabilize_nb.models.limit import permitted

if TYPE_CHECKING:
    from stabilize_nb.core.draft import Draft
    from stabilize_nb.core.rows import StageRow, TaskRow
    from stabilize_nb.models.limit import Limit


def take_permit(draft: Draft, row: StageRow, task: TaskRow, limit: Limit) -> PermitRow:
    """Take the next permit of a limit for a body, and return it."""
    view, name = draft.view, limit.name
    number = (view.get(LastPermit(name)) or 0) + 1
    while PermitKey(name, number) in view.changed:  # taken in this step
        number += 1
    at = permitted(limit, draft.env.now, _time(draft, name, number - limit.count), _time(draft, name, number - 1))
    forgets = max(0, number - 2 * limit.count)  # as many again are kept: the count may be raised
    draft.record(PermitTaken(row.id, task.position, name, number, at, forgets))
    return PermitRow(name, number, at)


def _time(draft: Draft, name: str, number: int) -> int | None:
    row = draft.view.get(PermitKey(name, number)) if number > 0 else None
    return None if row is None else row.at
