"""RestartStage, and the reset of a region that jumps share with it (patterns.md 2.6)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from stabilize_nb.core.facts import ContextUpdated, StageReset, StageRetired, StageWaits, WorkflowRestarted
from stabilize_nb.core.view import Broken, Held, Region, Roots, RoundKey
from stabilize_nb.dag.region import kept
from stabilize_nb.handlers.claims import let_go_of_reset
from stabilize_nb.handlers.ending import withdraw
from stabilize_nb.handlers.entering import activate, enter
from stabilize_nb.handlers.instances import made_instances, reopen
from stabilize_nb.handlers.slots import take_slot
from stabilize_nb.models.stage import JoinType
from stabilize_nb.models.status import OPEN, WorkflowStatus
from stabilize_nb.queue.messages import RestartStage, StartStage, Token

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping

    from stabilize_nb.core.draft import Draft
    from stabilize_nb.core.rows import ArrivalRow, StageRow

S = WorkflowStatus


#: Why a run was withdrawn by the end of its workflow: a restart brings it back.
BROKEN_OFF = frozenset({"workflow_failed", "workflow_canceled"})


def restart_stage(draft: Draft, message: RestartStage) -> None:
    """
    Run a stage and all that follows it again; an ended workflow goes on, with all that its end broke off.

    It needs a slot again, and waits for one if need be; another order to restart it has no effect until then.
    """
    row = draft.find(message.stage_id)
    head = draft.head
    if row is None or head.paused or head.started_at is None:
        return
    over = head.status.is_complete or head.status is S.BUFFERED
    if over and not take_slot(draft, row.base_id):
        return
    again = [*region_of(draft, row.base_id)]
    ended = over or head.ending is not None
    if ended:
        again.extend(broken_off(draft))
        _look_ahead(draft, row.base_id)
        draft.record(WorkflowRestarted())
    arrivals = reset(draft, again, row.base_id)
    if not _begins_by_itself(draft, row.base_id, arrivals):
        begin_again(draft, row.base_id, arrivals, {})
    if ended:
        _release(draft, again)


def _begins_by_itself(draft: Draft, base_id: str, arrivals: Mapping[str, list[ArrivalRow]]) -> bool:
    """Whether a stage runs for each of its threads, and they come again."""
    each = draft.stage(base_id).spec.join_type is JoinType.MULTI_MERGE
    return each and any(arrival.token is Token.LIVE for arrival in arrivals[base_id])


def go_on(draft: Draft) -> None:
    """Let an ended workflow go on with what its end broke off, and repeat nothing else."""
    again = broken_off(draft)
    draft.record(WorkflowRestarted())
    if again:
        reset(draft, again, again[0])
    _release(draft, again)


def broken_off(draft: Draft) -> list[str]:
    """Return the first rows of the stages that failed or that the end of the workflow withdrew."""
    rows: list[StageRow] = draft.view.members(
        Broken(),
        "stage",
        lambda row: (
            row.status is S.TERMINAL
            or row.context.get("_cancel_reason") in BROKEN_OFF
            or (row.status is S.NOT_STARTED and row.fired > 0)
        ),
    )
    return [row.base_id for row in rows]


def _release(draft: Draft, again: Collection[str]) -> None:
    """Let the stages without requisites and the outcomes that came too late have their effect."""
    for stage_id in draft.view.get(Roots()):
        draft.send(StartStage(execution_id=draft.head.id, stage_id=stage_id))
    held: list[ArrivalRow] = draft.view.members(Held(), "arrival", lambda arrival: _is_held(draft, arrival))
    for arrival in kept(held, again):
        resend(draft, arrival)


def _look_ahead(draft: Draft, base_id: str) -> None:
    """Ask before there is much to decide anew: who misses something begins again with the answer."""
    draft.view.get(Roots())
    draft.view.get(Held())
    draft.view.get(RoundKey(base_id, draft.stage(base_id).generation + 1, 1))


def _is_held(draft: Draft, arrival: ArrivalRow) -> bool:
    return arrival.held and draft.stage(arrival.stage_id).generation == arrival.generation


def region_of(draft: Draft, base_id: str) -> tuple[str, ...]:
    """Return the first rows of a stage and of all that follows it."""
    region: tuple[str, ...] = draft.view.get(Region(base_id))
    return region


def reset(
    draft: Draft, base_ids: Iterable[str], target: str, *, leaving: str | None = None
) -> dict[str, list[ArrivalRow]]:
    """
    Put stages back to before they ran; what had come from outside them comes again.

    Open runs are withdrawn first, except the row `leaving`, the source of a jump. A lock that `target`, which begins
    again at once, holds alone or with its section stays with it. Returns by first row the outcomes that come again.
    """
    bases = draft.stages(base_ids)
    inside = {base.id for base in bases}
    gone: dict[str, StageRow] = {}
    for base in bases:
        runs = [*draft.runs(base), *made_instances(draft, base)]
        for row in map(draft.stage, [run.id for run in runs]):
            if row.status in OPEN and row.id != leaving:
                withdraw(draft, row, reason="jump")
        for row in runs[1:]:
            if row.waits:
                draft.record(StageWaits(row.id, ""))
            gone[row.id] = draft.stage(row.id)
            draft.record(StageRetired(row.id))
    bases = [base for base in bases if base.id not in gone]
    outside = {base.id: kept(draft.all_arrivals(base), inside | gone.keys()) for base in bases}
    for base in bases:
        draft.record(StageReset(base.id, base.generation + 1))
        for arrival in outside[base.id]:
            resend(draft, arrival)
    keeper = draft.stage(target)
    for row in gone.values():
        let_go_of_reset(draft, row, keeper)
    for base in bases:
        let_go_of_reset(draft, draft.stage(base.id), keeper)
        if base.spec.mi_parent and base.spec.mi_parent not in inside and draft.head.ending is None:
            reopen(draft, draft.stage(base.id))
    return outside


def resend(draft: Draft, arrival: ArrivalRow) -> None:
    """Have an outcome arrive again, by the way on which it came."""
    draft.send(
        StartStage(
            execution_id=draft.head.id,
            stage_id=arrival.stage_id,
            via=arrival.via,
            via_generation=draft.stage(arrival.via).generation,
            source=arrival.source,
            number=arrival.number,
            token=arrival.token,
        )
    )


def begin_again(
    draft: Draft,
    base_id: str,
    arrivals: Mapping[str, list[ArrivalRow]],
    context: dict[str, Any],
    source: str | None = None,
) -> None:
    """Activate a stage at once whatever its join says; its first round is over with that."""
    if context:
        draft.record(ContextUpdated(base_id, context))
    sources = [arrival.source for arrival in arrivals[base_id] if arrival.token is Token.LIVE and arrival.number == 1]
    if source is not None:
        sources.append(source)
    enter(draft, activate(draft, draft.stage(base_id), 1, sources))
