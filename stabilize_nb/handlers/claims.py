"""Claims: a mutex of the store, a deferred choice of a workflow. Whoever gives one back wakes who waited longest.

Nothing polls: who has to wait stands in line as a row, and the step that frees the claim passes it on (WCP-16, 17,
39, 40).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from stabilize_nb.core.facts import Claimed, Released, StageWaits
from stabilize_nb.core.rows import is_over
from stabilize_nb.core.view import Line, Members
from stabilize_nb.models.status import WorkflowStatus
from stabilize_nb.queue.messages import EnterStage

if TYPE_CHECKING:
    from collections.abc import Iterator

    from stabilize_nb.core.draft import Draft
    from stabilize_nb.core.rows import StageRow, WaiterRow
    from stabilize_nb.core.view import WaiterKey


def mutex_of(row: StageRow) -> str:
    """Return the name of the claim of a stage's mutex; all workflows of a store share it."""
    return f"mutex:{row.spec.mutex_key}"


def choice_of(draft: Draft, row: StageRow) -> str:
    """Return the name of the claim of a stage's deferred choice."""
    return f"choice:{draft.head.id}:{row.spec.deferred_choice_group}"


def holder_of(draft: Draft, row: StageRow) -> str:
    """Return who holds a mutex for a row: the row, or its section of the workflow."""
    section = row.spec.critical_section
    return f"{draft.head.id}/{section}" if section else row.id


def take(draft: Draft, row: StageRow, name: str, holder: str) -> bool:
    """Take a claim, or stand in line for it; return whether it was taken."""
    claim = draft.claim(name)
    if claim is None or claim.holder in ("", holder):
        draft.record(Claimed(row.id, name, holder))
        return True
    draft.record(StageWaits(row.id, name, holder))
    return False


def give_back(draft: Draft, stage_id: str, name: str) -> None:
    """Give the claim of a stage back: the one who has waited longest has it, with the others of its section."""
    line = in_line(draft, name)
    first = next(line, None)
    if first is None:
        draft.record(Released(stage_id, name))
        return
    draft.record(Released(stage_id, name, first.holder, first.stage_id, first.workflow_id))
    mates = [waiter for waiter in line if waiter.holder == first.holder] if first.holder != first.stage_id else []
    for waiter in (first, *mates):
        draft.send(
            EnterStage(execution_id=waiter.workflow_id, stage_id=waiter.stage_id, generation=waiter.generation)
        )  # fmt: skip


def in_line(draft: Draft, name: str) -> Iterator[WaiterRow]:
    """Yield who waits for a claim, longest first."""
    view = draft.view
    after = 0
    while keys := view.get(Line(name, after)):
        for key in keys:
            row = view.get(key)
            if row is not None and row.ticket == view.loaded[key].ticket:
                yield row
        after = view.loaded[keys[-1]].ticket
    fresh = [row for key, row in view.changed.items() if key.kind == "waiter" and _is_new(draft, key, row)]
    yield from sorted((row for row in fresh if row.claim == name), key=lambda row: row.ticket)


def _is_new(draft: Draft, key: WaiterKey, row: WaiterRow | None) -> bool:
    """Whether somebody took a place in a line in this very step."""
    before = draft.view.loaded.get(key)
    return row is not None and (before is None or before.ticket != row.ticket)


def let_go(draft: Draft, row: StageRow) -> None:
    """Give back what a run held that is over; a section holds its mutex until all its stages are over."""
    if row.status is WorkflowStatus.RUNNING:
        return  # it was withdrawn, reset and begun again meanwhile
    if row.spec.mutex_key:
        _give_back_mutex(draft, row)
    if row.spec.deferred_choice_group:
        offer(draft, row)


def offer(draft: Draft, row: StageRow) -> None:
    """Leave a choice open that a member holds and that has not fallen: the next member may begin."""
    name = choice_of(draft, row)
    claim = draft.claim(name)
    if claim is not None and claim.holder == row.id and not claim.settled:
        give_back(draft, row.id, name)


def let_go_of_reset(draft: Draft, row: StageRow, keeper: StageRow) -> None:
    """Give back what a stage held that was reset, unless `keeper` holds it, too, and begins again at once.

    Its choice is open again (patterns.md 2.6).
    """
    spec = row.spec
    kept = keeper.spec.mutex_key == spec.mutex_key and holder_of(draft, keeper) == holder_of(draft, row)
    if spec.mutex_key and not kept:
        _give_back_mutex(draft, row)
    if spec.deferred_choice_group:
        name = choice_of(draft, row)
        claim = draft.claim(name)
        if claim is not None and (claim.settled or claim.holder == row.id):
            give_back(draft, row.id, name)


def _give_back_mutex(draft: Draft, row: StageRow) -> None:
    claim = draft.claim(mutex_of(row))
    if claim is not None and claim.holder == holder_of(draft, row) and not _is_needed(draft, row):
        give_back(draft, row.id, claim.name)


def _is_needed(draft: Draft, row: StageRow) -> bool:
    """Whether a section still needs its mutex: one of its stages has begun, and one is not over."""
    mates = _mates(draft, row)
    return any(mate.started_at is not None for mate in mates) and any(not is_over(mate) for mate in mates)


def _mates(draft: Draft, row: StageRow) -> list[StageRow]:
    """Return the rows of a stage's section."""
    spec = row.spec
    if not spec.critical_section:
        return []
    section = Members("critical_section", spec.critical_section)
    return draft.view.members(
        section,
        "stage",
        lambda mate: (
            mate.spec.critical_section == spec.critical_section and mate.spec.mutex_key == spec.mutex_key
        ),
    )  # fmt: skip
