"""RestartStage, and the reset of a region that jumps share with it (patterns.md 2.6)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from stabilize_nb.core.facts import ContextUpdated, StageReset, StageRetired, TokenArrived, WorkflowRestarted
from stabilize_nb.core.view import Arrivals, Region
from stabilize_nb.dag.region import kept
from stabilize_nb.handlers.ending import withdraw
from stabilize_nb.handlers.start_stage import activate, enter
from stabilize_nb.models.status import OPEN
from stabilize_nb.queue.messages import RestartStage, Token

if TYPE_CHECKING:
    from stabilize_nb.core.draft import Draft
    from stabilize_nb.core.rows import ArrivalRow, StageRow


def restart_stage(draft: Draft, message: RestartStage) -> None:
    """Run a stage and all that follows it again; an ended workflow goes on."""
    row = draft.find(message.stage_id)
    if row is None or draft.head.paused:
        return
    target = draft.stage(row.base_id)
    region = load_region(draft, target)
    if draft.head.status.is_complete or draft.head.ending is not None:
        draft.record(WorkflowRestarted())
    arrivals = reset_region(draft, target, region, keep_open=None)
    begin_again(draft, draft.stage(target.id), arrivals, {}, None)


def load_region(draft: Draft, target: StageRow) -> list[str]:
    """Return the ids of the target and of all that follows it."""
    return list(draft.view.get(Region(target.id)))


def reset_region(draft: Draft, target: StageRow, region: list[str], *, keep_open: str | None) -> list[ArrivalRow]:
    """
    Reset every stage of the region and put back what had come from outside it.

    Open runs are withdrawn first, except `keep_open`, the source of a jump. Returns the target's outcomes that
    were put back.
    """
    inside = set(region)
    rows: list[StageRow] = draft.view.members(Region(target.id), "stage", lambda row: row.base_id in inside)
    for row in rows:
        if row.status in OPEN and row.id != keep_open:
            withdraw(draft, row, reason="jump")
    for row in rows:
        if row.id != row.base_id:
            draft.record(StageRetired(row.id))
    of_target: list[ArrivalRow] = []
    for row in rows:
        if row.id == row.base_id:
            arrivals = kept(_arrivals(draft, row), inside)
            draft.record(StageReset(row.id, row.generation + 1))
            for arrival in arrivals:
                draft.record(TokenArrived(row.id, arrival.number, arrival.via, arrival.source, arrival.token))
            if row.id == target.id:
                of_target = arrivals
    return of_target


def _arrivals(draft: Draft, row: StageRow) -> list[ArrivalRow]:
    found: list[ArrivalRow] = draft.view.members(
        Arrivals(row.id, row.generation, 0), "arrival", lambda arrival: arrival[:2] == (row.id, row.generation)
    )
    return found


def begin_again(
    draft: Draft, target: StageRow, arrivals: list[ArrivalRow], context: dict[str, Any], source: str | None
) -> None:
    """Activate the target at once whatever its join says; edges still pending only complete its round."""
    if context:
        draft.record(ContextUpdated(target.id, context))
        target = draft.stage(target.id)
    sources = [arrival.source for arrival in arrivals if arrival.token is Token.LIVE]
    if source is not None:
        sources.append(source)
    if sources or target.spec.requisites:
        activate(draft, target, 1, sources)
    else:
        enter(draft, target)
