"""MigrateWorkflow: what has not run yet uses other code; bodies at work end with the code they began with."""

from __future__ import annotations

from typing import TYPE_CHECKING

from stabilize_nb.core.facts import CodeReplaced
from stabilize_nb.core.rows import with_codes
from stabilize_nb.core.view import Everything

if TYPE_CHECKING:
    from stabilize_nb.core.draft import Draft
    from stabilize_nb.core.rows import StageRow
    from stabilize_nb.queue.messages import MigrateWorkflow


def migrate_workflow(draft: Draft, message: MigrateWorkflow) -> None:
    """Replace the code in every row that has any of it: one that is complete may be run again."""
    rows: list[StageRow] = draft.view.members(Everything(), "stage", lambda _row: True)
    for row in rows:
        if with_codes(row.spec, message.codes) != row.spec:
            draft.record(CodeReplaced(row.id, dict(message.codes)))
