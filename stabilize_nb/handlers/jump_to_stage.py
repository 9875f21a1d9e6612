"""JumpToStage: a task sends the workflow on to another stage, forward or back (WCP-10)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from stabilize_nb.core.facts import ContextUpdated, JumpExecuted, StageResumed
from stabilize_nb.core.view import ByRef
from stabilize_nb.handlers.ending import end_stage, fail_stage, withdraw
from stabilize_nb.handlers.restart_stage import begin_again, region_of, reset
from stabilize_nb.models.status import WorkflowStatus
from stabilize_nb.queue.messages import JumpToStage, Token

if TYPE_CHECKING:
    from stabilize_nb.core.draft import Draft
    from stabilize_nb.core.rows import StageRow

S = WorkflowStatus


def jump_to_stage(draft: Draft, message: JumpToStage) -> None:
    """Reset the target and what follows it, leave the source, start the target: one commit, counted."""
    source = draft.find(message.stage_id)
    if source is None or not draft.is_current(message, source) or source.status is not S.REDIRECT:
        return
    if draft.head.ending is not None:
        withdraw(draft, source, reason="workflow_failed")
        return
    target_id = draft.view.get(ByRef(message.target_stage_ref_id))
    limit = _limit(draft, source)
    if target_id is None:
        _refuse(draft, source, f"Target stage not found: {message.target_stage_ref_id}")
    elif message.counted and draft.head.jumps >= limit:
        _refuse(draft, source, f"Max jump count exceeded: {draft.head.jumps + 1}/{limit}")
    else:
        _carry_out(draft, source, draft.stage(target_id), message)


def _limit(draft: Draft, source: StageRow) -> int:
    for context in (draft.head.context, source.context):
        if context.get("_max_jumps") is not None:
            limit = context["_max_jumps"]
            return int(limit) if type(limit) in (int, float) else 0
    return draft.env.limits.jumps


def _refuse(draft: Draft, source: StageRow, error: str) -> None:
    draft.record(StageResumed(source.id))
    draft.record(ContextUpdated(source.id, {"jump_error": error}))
    fail_stage(draft, draft.stage(source.id), error=error)


def _carry_out(draft: Draft, source: StageRow, target: StageRow, message: JumpToStage) -> None:
    region = region_of(draft, target.id)
    backward = source.base_id in region
    note = _note(draft, source, target, message) if message.counted else {}
    draft.record(JumpExecuted(source.id, target.ref_id, draft.head.jumps + int(message.counted)))
    if note:
        draft.record(ContextUpdated(source.id, note))
    arrivals = reset(draft, region, target.id, leaving=source.id)
    if not backward:
        end_stage(draft, draft.stage(source.id), S.SUCCEEDED, token=Token.DEAD)
    outputs = {"_jump_outputs": message.jump_outputs} if message.jump_outputs else {}
    context = {**message.jump_context, **outputs, **note}
    begin_again(draft, target.id, arrivals, context, None if backward else source.id)


def _note(draft: Draft, source: StageRow, target: StageRow, message: JumpToStage) -> dict[str, Any]:
    number = draft.head.jumps + 1
    history = [*source.context.get("_jump_history", ()), *target.context.get("_jump_history", ())]
    earlier = {entry["jump_number"]: entry for entry in history}
    earlier[number] = {
        "from_stage": source.ref_id,
        "to_stage": target.ref_id,
        "jump_number": number,
        "context_keys": sorted(message.jump_context),
    }
    return {"_jump_count": number, "_jump_history": [earlier[key] for key in sorted(earlier)]}
