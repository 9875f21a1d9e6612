"""ForkWorkflow: a copy of another run's past goes its own way; what was finished there is not repeated."""

from __future__ import annotations

from typing import TYPE_CHECKING

from stabilize_nb.core.facts import CodeReplaced, OutputsReplaced, WorkflowEnded, WorkflowForked
from stabilize_nb.core.rows import with_codes
from stabilize_nb.core.view import Everything
from stabilize_nb.handlers.cancel_workflow import cancel_workflow
from stabilize_nb.handlers.restart_stage import go_on, region_of
from stabilize_nb.models.status import WorkflowStatus
from stabilize_nb.queue.messages import CancelWorkflow, RestartStage

if TYPE_CHECKING:
    from collections.abc import Iterable

    from stabilize_nb.core.draft import Draft
    from stabilize_nb.core.rows import StageRow
    from stabilize_nb.queue.messages import ForkWorkflow

S = WorkflowStatus
#: What a stage that is kept has come to; any other is run again.
KEPT = frozenset({S.SUCCEEDED, S.FAILED_CONTINUE, S.SKIPPED})


def fork_workflow(draft: Draft, message: ForkWorkflow) -> None:
    """
    Replace what is to be other than it was, then run a stage and what follows it again.

    What was at work in the other run ends here as by a cancel, which a restart undoes; its bodies and its child
    workflows belong to the other run and are left alone.
    """
    base = draft.find(message.stage_id)
    draft.record(WorkflowForked(message.run, message.until, base.ref_id if base else "", dict(message.inputs)))
    rows: list[StageRow] = draft.view.members(Everything(), "stage", lambda _row: True)
    for stage_id, outputs in message.outputs.items():
        draft.record(OutputsReplaced(stage_id, outputs, _heirs(rows, stage_id)))
    if not draft.head.status.is_complete:
        cancel_workflow(draft, CancelWorkflow(execution_id=draft.head.id, reason="forked"))
        draft.record(WorkflowEnded(S.CANCELED))
    draft.bodies.clear()
    draft.sends[:] = [send for send in draft.sends if send.message.execution_id == draft.head.id]
    region = region_of(draft, base.id) if base else ()
    for row in rows:
        if (row.status not in KEPT or row.base_id in region) and with_codes(row.spec, message.codes) != row.spec:
            draft.record(CodeReplaced(row.id, dict(message.codes)))
    if base is None:
        go_on(draft)
    else:
        draft.send(RestartStage(execution_id=draft.head.id, stage_id=base.id))


def _heirs(rows: Iterable[StageRow], stage_id: str) -> list[str]:
    """Return the rows that threads of a stage have led to, by whichever way."""
    followers: dict[str, list[str]] = {}
    for row in rows:
        for source in row.triggers:
            followers.setdefault(source, []).append(row.id)
    found: dict[str, None] = {}
    todo = [stage_id]
    while todo:
        new = [id_ for id_ in followers.get(todo.pop(), ()) if id_ not in found]
        found.update(dict.fromkeys(new))
        todo.extend(new)
    return list(found)
