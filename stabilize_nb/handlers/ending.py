"""How a run of a stage ends, whichever message ended it: the split chooses, the edges speak, failure halts."""

from __future__ import annotations

from typing import TYPE_CHECKING

from stabilize_nb.core.draft import Body, Purpose
from stabilize_nb.core.facts import PhaseEntered, StageEnded, WorkflowEnding
from stabilize_nb.core.inputs import visible
from stabilize_nb.core.rows import is_over
from stabilize_nb.handlers.conditions import holds
from stabilize_nb.models.stage import SplitType, SyntheticStageOwner
from stabilize_nb.models.status import WorkflowStatus
from stabilize_nb.models.values import EMPTY
from stabilize_nb.queue.messages import CancelWorkflow, StartStage, Token

if TYPE_CHECKING:
    from collections.abc import Collection

    from stabilize_nb.core.draft import Draft
    from stabilize_nb.core.rows import StageRow

S = WorkflowStatus
FAILURE = SyntheticStageOwner.STAGE_FAILURE


def end_stage(
    draft: Draft,
    row: StageRow,
    status: WorkflowStatus,
    *,
    token: Token | None,
    settles: int = 0,
    reason: str = "",
    error: str | None = None,
) -> None:
    """End a run; every outgoing edge says `token`, or DEAD where a split did not choose it (patterns.md 2.1)."""
    not_taken = _not_taken(draft, row) if token is Token.LIVE else []
    draft.record(
        StageEnded(row.id, status, token=token, not_taken=not_taken, settles=settles, reason=reason, error=error)
    )
    if token is not None:
        send_tokens(draft, draft.stage(row.base_id), row.id, token, not_taken)


def send_tokens(draft: Draft, base: StageRow, source: str, token: Token, not_taken: Collection[str] = ()) -> None:
    """Send the outcomes that have just been counted in `base.sent` along every edge: one for each thread.

    The live outcome of a multi-instance parent for its own join is not sent: its instances take that edge's place.
    """
    spec = base.spec
    for edge in spec.edges:
        if edge.stage_id == spec.mi_join and token is Token.LIVE:
            continue
        for number in range(base.sent - spec.thread_split + 1, base.sent + 1):
            draft.send(
                StartStage(
                    execution_id=draft.head.id, stage_id=edge.stage_id, via=base.id, via_generation=base.generation,
                    source=source, number=number, token=Token.DEAD if edge.ref_id in not_taken else token,
                )
            )  # fmt: skip


def has_children(row: StageRow, owner: SyntheticStageOwner) -> bool:
    """Whether a stage has synthetic stages that run at that time."""
    return any(child.owner == owner.value for child in row.spec.children)


def _not_taken(draft: Draft, row: StageRow) -> list[str]:
    spec = row.spec
    if spec.split_type is SplitType.AND:
        return []
    edges = spec.edges
    seen = {**visible(draft, row), **row.outputs}
    taken = (_one if spec.split_type is SplitType.XOR else _some)(draft, row, seen)
    if not taken and spec.split_default:
        taken = {spec.split_default}
    return [edge.ref_id for edge in edges if edge.ref_id not in taken]


def _some(draft: Draft, row: StageRow, seen: dict[str, object]) -> set[str]:
    conditions = row.spec.split_conditions
    return {
        edge.ref_id
        for edge in row.spec.edges
        if (edge.ref_id not in conditions and edge.ref_id != row.spec.split_default)
        or (edge.ref_id in conditions and holds(draft, row, conditions[edge.ref_id], seen, edge=edge.ref_id))
    }


def _one(draft: Draft, row: StageRow, seen: dict[str, object]) -> set[str]:
    there = {edge.ref_id for edge in row.spec.edges}
    for ref_id, condition in row.spec.split_conditions.items():
        if ref_id in there and holds(draft, row, condition, seen, edge=ref_id):
            return {ref_id}
    return set()


def fail_stage(draft: Draft, row: StageRow, *, error: str) -> None:
    """End a run that failed, as its context says failure is to be taken (api.md 2.2); first comes what it has for that.

    What a synthetic stage cannot do its parent cannot: the reaction to its end fails the parent.
    """
    if has_children(row, FAILURE) and row.phase != FAILURE.value and draft.head.ending is not S.CANCELED:
        draft.record(PhaseEntered(row.id, FAILURE.value, error=error))
    elif row.context.get("continuePipelineOnFailure"):
        end_stage(draft, row, S.FAILED_CONTINUE, token=Token.LIVE, error=error)
    elif row.context.get("failPipeline") is False or row.context.get("completeOtherBranchesThenFail"):
        end_stage(draft, row, S.STOPPED, token=Token.HALT, error=error)
    elif row.spec.parent_stage_id:
        end_stage(draft, row, S.TERMINAL, token=None, error=error)
    else:
        waiting = _waiting(draft) if draft.head.ending is None else []
        end_stage(draft, row, S.TERMINAL, token=None, error=error)
        if draft.head.ending is None:
            draft.record(WorkflowEnding(S.TERMINAL, f"stage {row.ref_id!r} failed: {error}"))
            for other in waiting:
                if other.id != row.id:
                    withdraw(draft, draft.stage(other.id), reason="workflow_failed")


def _waiting(draft: Draft) -> list[StageRow]:
    """Return the open rows that wait for a person or poll: nobody wants their end any more."""
    if draft.head.active <= 1:
        return []
    return [row for row in draft.open_stages() if row.status is not S.RUNNING or _is_polling(draft, row)]


def _is_polling(draft: Draft, row: StageRow) -> bool:
    task = draft.current_task(row)
    return task is not None and task.is_polling


def withdraw(draft: Draft, row: StageRow, *, reason: str, token: Token | None = None) -> None:
    """
    Cancel a run, with its synthetic stages and its child workflow; its clean-up hook is called when one of its tasks
    had begun (patterns.md 2.7).

    A stage that has not fired absorbs the first outcome that still comes. One that was blocked has spoken already.
    """
    if row.status.is_complete:
        return
    task = draft.current_task(row)
    begun = task is not None and task.attempt > 0
    unfired = row.status is S.NOT_STARTED and row.id == row.base_id and not row.fired
    end_stage(
        draft, row, S.CANCELED, token=None if is_over(row) else token, settles=int(unfired), reason=reason
    )  # fmt: skip
    for child in row.spec.children:
        withdraw(draft, draft.stage(child.stage_id), reason=reason)
    cancel_child(draft, row, reason)
    if task is not None and begun:
        draft.run(
            Body(
                stage=draft.stage(row.id), task=task, context={**draft.head.context, **row.context},
                upstream=EMPTY, purpose=Purpose.ON_CANCEL,
            )
        )  # fmt: skip


def cancel_child(draft: Draft, row: StageRow, reason: str) -> None:
    """
    Cancel the child workflow that a run waits for: nobody wants its end any more (WCP-22).

    One that was paused or signalled waits for it, too, once its body has looked.
    """
    if "_sub_workflow_id" not in row.context:
        return
    task = draft.current_task(row)
    if row.status is S.SUSPENDED or (task is not None and task.implementing_class == "sub_workflow"):
        draft.send(CancelWorkflow(execution_id=row.context["_sub_workflow_id"], reason=f"parent stage: {reason}"))
