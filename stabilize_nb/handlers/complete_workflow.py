"""CompleteWorkflow: nothing is left that could move; the first rule that applies says how it ended.

Source of the rules and their order: patterns.md 2.8.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from stabilize_nb.core.facts import SignalDropped, WorkflowEnded
from stabilize_nb.core.view import Arrived, Buffered, Unsettled
from stabilize_nb.models.status import WorkflowStatus
from stabilize_nb.queue.messages import CompleteWorkflow

if TYPE_CHECKING:
    from stabilize_nb.core.draft import Draft
    from stabilize_nb.core.rows import RoundRow, StageRow

S = WorkflowStatus


def complete_workflow(draft: Draft, _message: CompleteWorkflow) -> None:
    """End the workflow, and drop the signals that nobody will ask for."""
    head = draft.head
    if head.active or head.status is not S.RUNNING:
        return
    status, error = _verdict(draft)
    signals = draft.view.members(Buffered(""), "signal", lambda _signal: True)
    for signal in signals:
        draft.record(SignalDropped(signal.stage_id, signal.name, signal.id))
    draft.record(WorkflowEnded(status, error))


def _verdict(draft: Draft) -> tuple[WorkflowStatus, str | None]:
    head = draft.head
    if head.ending is not None:
        return head.ending, None
    stuck = _stuck(draft)
    if stuck:
        return S.TERMINAL, f"deadlock: {', '.join(stuck)} hold a thread that nothing can consume any more"
    if head.late_failure:
        return S.TERMINAL, "a branch that had stopped asked for failure once the others were done"
    if head.cancels and not _has_arrived(draft):
        return S.CANCELED, None
    return S.SUCCEEDED, None


def _stuck(draft: Draft) -> list[str]:
    """Return the ref_ids of stages that hold a thread and have neither run nor said that they never will."""
    rounds: list[RoundRow] = draft.view.members(Unsettled(), "round", lambda round_: _waits(draft, round_))
    stages = {round_.stage_id: draft.stage(round_.stage_id) for round_ in rounds}
    return [row.ref_id for row in sorted(stages.values(), key=lambda row: row.ordinal)]


def _waits(draft: Draft, round_: RoundRow) -> bool:
    if round_.settled or not round_.live:
        return False
    base = draft.stage(round_.stage_id)
    return not base.fired and not base.sent and base.generation == round_.generation


def _has_arrived(draft: Draft) -> bool:
    """Whether a thread has come through to a stage without outgoing edges."""
    return bool(draft.view.members(Arrived(), "stage", _is_end))


def _is_end(row: StageRow) -> bool:
    pruned = row.status is S.SKIPPED and row.spec.requisites and not row.depth
    ended_well = row.status in (S.SUCCEEDED, S.FAILED_CONTINUE, S.SKIPPED) and not pruned
    return ended_well and not row.spec.edges
