"""CompleteWorkflow: nothing is left that could move; the first rule that applies says how it ended.

Source of the rules and their order: patterns.md 2.8.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from stabilize_nb.core.facts import SignalDropped, WorkflowEnded
from stabilize_nb.core.rows import MILESTONE, is_pruned
from stabilize_nb.core.view import Arrived, Buffered, Everything, Unsettled, Waiting
from stabilize_nb.handlers.ending import end_stage
from stabilize_nb.models.status import WorkflowStatus
from stabilize_nb.queue.messages import CompleteWorkflow, SignalStage, Token

if TYPE_CHECKING:
    from stabilize_nb.core.draft import Draft
    from stabilize_nb.core.rows import RoundRow, StageRow

S = WorkflowStatus


def complete_workflow(draft: Draft, _message: CompleteWorkflow) -> None:
    """End the workflow, and drop the signals that nobody will ask for."""
    head = draft.head
    if head.active or head.status is not S.RUNNING:
        return
    if _give_up_milestones(draft):
        return
    status, error = _verdict(draft)
    signals = draft.view.members(Buffered(""), "signal", lambda _signal: True)
    for signal in signals:
        draft.record(SignalDropped(signal.stage_id, signal.name, signal.id))
    draft.record(WorkflowEnded(status, error))
    if "_parent_workflow_id" in head.context:
        _tell_parent(draft, status)


def _give_up_milestones(draft: Draft) -> bool:
    """Let runs whose milestone nothing can bring about any more go on without it; return whether there were any."""
    waiting: list[StageRow] = draft.view.members(Waiting(), "stage", lambda row: row.waits == MILESTONE)
    for row in waiting:
        end_stage(draft, row, S.SKIPPED, token=Token.LIVE, reason="milestone")
    return bool(waiting)


def _tell_parent(draft: Draft, status: WorkflowStatus) -> None:
    """Wake the stage that waits for this workflow (WCP-22)."""
    head = draft.head
    rows: list[StageRow] = draft.view.members(Everything(), "stage", lambda _row: True)
    outputs: dict[str, Any] = {}
    for row in rows:
        outputs.update(row.outputs)
    context = head.context
    draft.send(
        SignalStage(
            execution_id=context["_parent_workflow_id"], stage_id=context["_parent_stage_id"],
            generation=context["_parent_generation"], signal_name="_child_ended", persistent=True,
            signal_data={"workflow_id": head.id, "status": status.name, "outputs": outputs, "error": head.error},
        )
    )  # fmt: skip


def _verdict(draft: Draft) -> tuple[WorkflowStatus, str | None]:
    head = draft.head
    if head.ending is not None:
        return head.ending, None
    stuck = _stuck(draft)
    if stuck:
        return S.TERMINAL, f"deadlock: {', '.join(stuck)} hold a thread that nothing can consume any more"
    if head.late_failures:
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
    ended_well = row.status in (S.SUCCEEDED, S.FAILED_CONTINUE, S.SKIPPED) and not is_pruned(row)
    return ended_well and not row.spec.edges and not row.spec.parent_stage_id
