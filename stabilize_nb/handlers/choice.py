"""Deferred choice: the first member that does anything but wait for an event, or gets its event, wins (WCP-16)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from stabilize_nb.core.facts import ChoiceMade
from stabilize_nb.core.view import Members
from stabilize_nb.handlers.claims import choice_of
from stabilize_nb.handlers.ending import withdraw
from stabilize_nb.queue.messages import Token

if TYPE_CHECKING:
    from stabilize_nb.core.draft import Draft
    from stabilize_nb.core.rows import StageRow


def is_lost(draft: Draft, row: StageRow) -> bool:
    """Whether the choice of a member has fallen on another one."""
    claim = draft.claim(choice_of(draft, row))
    return claim is not None and claim.settled and claim.holder != row.id


def choose(draft: Draft, row: StageRow) -> None:
    """Let a member win; all others that are not complete are withdrawn. Does nothing once the choice is made."""
    name = choice_of(draft, row)
    claim = draft.claim(name)
    if claim is not None and claim.settled:
        return
    group = row.spec.deferred_choice_group
    members: list[StageRow] = draft.view.members(
        Members("deferred_choice_group", group), "stage", lambda other: other.spec.deferred_choice_group == group
    )
    draft.record(ChoiceMade(row.id, name))
    for other in members:
        if other.id != row.id:
            withdraw(draft, draft.stage(other.id), reason="deferred_choice", token=Token.DEAD)
