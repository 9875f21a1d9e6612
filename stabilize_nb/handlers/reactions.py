"""What follows from a fact beside the outcomes of edges, as a table: locks, choices, milestones, instances, ends.

`react` runs after every handler, within the same decision: so a lock is passed on, a milestone is seen and a choice
is open again in the transaction that caused it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from stabilize_nb.core import facts as f
from stabilize_nb.core.rows import MILESTONE, is_over
from stabilize_nb.core.view import ByRef, Claims, Waiting
from stabilize_nb.dag.milestone import Gate
from stabilize_nb.handlers.cancel_region import cancel_region_of
from stabilize_nb.handlers.cancel_stage import cancel_run
from stabilize_nb.handlers.cancel_workflow import end_all
from stabilize_nb.handlers.claims import give_back, let_go
from stabilize_nb.handlers.entering import enter, milestone_of
from stabilize_nb.handlers.instances import parent_ended
from stabilize_nb.handlers.joins import judge_again
from stabilize_nb.handlers.phases import begun, child_over, not_needed, phase_entered
from stabilize_nb.handlers.slots import give_slot_back
from stabilize_nb.models.status import WorkflowStatus

if TYPE_CHECKING:
    from collections.abc import Callable

    from stabilize_nb.core.draft import Draft
    from stabilize_nb.core.rows import StageRow

S = WorkflowStatus


def react(draft: Draft) -> None:
    """Let follow what follows, until nothing does. A row that is gone by then was dealt with by what took it away."""
    done = 0
    while done < len(draft.facts):
        fact = draft.facts[done]
        reaction = REACTIONS.get(type(fact))
        if reaction is not None:
            reaction(draft, fact)
        done += 1


def _stage_started(draft: Draft, fact: f.StageStarted) -> None:
    row = draft.find(fact.stage)
    if row is not None and row.spec.consequences:
        begun(draft, row)
        _look_up(draft, row)


def _stage_moved(draft: Draft, fact: Any) -> None:
    row = draft.find(fact.stage)
    if row is not None and row.spec.watchers:
        _look_up(draft, row)


def _look_up(draft: Draft, row: StageRow) -> None:
    """Let those that wait for a milestone look at it again."""
    for watcher in row.spec.watchers:
        for run in draft.runs(draft.stage(watcher)):
            if run.waits == MILESTONE and draft.head.ending is None and milestone_of(draft, run) is not Gate.WAIT:
                draft.record(f.StageWaits(run.id, ""))
                enter(draft, draft.stage(run.id))


def _stage_ended(draft: Draft, fact: f.StageEnded) -> None:
    row = draft.find(fact.stage)
    if row is None or row.status is not fact.status or not row.spec.consequences:
        return  # gone or reset meanwhile
    spec = row.spec
    not_needed(draft, row)
    let_go(draft, row)
    _look_up(draft, row)
    parent_ended(draft, row, fact.token)
    if spec.parent_stage_id:
        child_over(draft, draft.stage(row.id))
    if fact.status in (S.SUCCEEDED, S.FAILED_CONTINUE):
        _cancel_others(draft, row)
    if fact.status is S.SUCCEEDED and spec.ends_workflow:
        _end_workflow(draft, row)
    if spec.jump_targets:
        judge_again(draft)


def _end_workflow(draft: Draft, row: StageRow) -> None:
    """End the workflow as the stage says, unless it is ending already; being cancelled comes before failing (2.8)."""
    status = WorkflowStatus[row.spec.ends_workflow]
    if draft.head.ending is None or (status is S.CANCELED and draft.head.ending is S.TERMINAL):
        end_all(draft, status, f"stage {row.ref_id!r} ends the workflow", "workflow_ended")


def _cancel_others(draft: Draft, row: StageRow) -> None:
    for ref_id in row.spec.cancels_stages:
        for run in draft.runs(draft.stage(draft.view.get(ByRef(ref_id)))):
            cancel_run(draft, draft.stage(run.id), "command")
    for region in row.spec.cancels_regions:
        cancel_region_of(draft, region)


def _join_passed(draft: Draft, fact: f.JoinPassed) -> None:
    row = draft.find(fact.stage)
    if row is not None and row.spec.consequences and is_over(row):
        let_go(draft, row)
        _look_up(draft, row)
        parent_ended(draft, row, fact.token)
        if row.spec.parent_stage_id:
            child_over(draft, row)
        if row.spec.jump_targets:
            judge_again(draft)


def _workflow_ending(draft: Draft, _fact: f.WorkflowEnding) -> None:
    """No stage becomes enabled any more: nobody waits for anything."""
    waiting: list[StageRow] = draft.view.members(Waiting(), "stage", lambda row: bool(row.waits))
    for row in waiting:
        draft.record(f.StageWaits(row.id, ""))
        let_go(draft, draft.stage(row.id))


def _workflow_ended(draft: Draft, _fact: f.WorkflowEnded) -> None:
    """Give back everything that the workflow still holds."""
    claims = draft.view.members(Claims(), "claim", lambda claim: claim.workflow_id == draft.head.id)
    for claim in claims:
        give_back(draft, "", claim.name)
    if draft.head.slot:
        give_slot_back(draft)


REACTIONS: dict[type[f.Fact], Callable[[Draft, Any], None]] = {
    f.StageStarted: _stage_started,
    f.StageEnded: _stage_ended,
    f.StageSuspended: _stage_moved,
    f.TaskLost: _stage_moved,
    f.TaskSettled: _stage_moved,
    f.SignalDelivered: _stage_moved,
    f.StagePaused: _stage_moved,
    f.StageResumed: _stage_moved,
    f.StageReset: _stage_moved,
    f.JoinPassed: _join_passed,
    f.PhaseEntered: phase_entered,
    f.WorkflowEnding: _workflow_ending,
    f.WorkflowEnded: _workflow_ended,
}
