"""
RunTask: a task is due; its body is handed to a worker, under a limit when there is a permit for it.

A body that is begun again after its process died does not wait for the permit that it takes: whoever comes next does.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from stabilize_nb.core.draft import Body
from stabilize_nb.core.facts import StagePaused, TaskStarted
from stabilize_nb.core.inputs import delivered, upstream, visible
from stabilize_nb.handlers.permits import take_permit
from stabilize_nb.handlers.settling import is_given_up, try_again
from stabilize_nb.models.limit import limit_in
from stabilize_nb.models.status import WorkflowStatus

if TYPE_CHECKING:
    from stabilize_nb.core.draft import Draft
    from stabilize_nb.queue.messages import RunTask

S = WorkflowStatus


def run_task(draft: Draft, message: RunTask) -> None:
    """Begin another attempt; a workflow that is paused parks the stage instead."""
    row = draft.find(message.stage_id)
    if row is None or not draft.is_current(message, row) or row.status not in (S.RUNNING, S.SUSPENDED):
        return
    task = draft.task(row.id, message.position)
    if task.is_in_doubt:  # its dead letter was put back
        try_again(draft, row, task)
        row, task = draft.stage(row.id), draft.task(row.id, task.position)
    if row.status is not S.RUNNING or task.status.is_complete:
        return
    if message.lost and is_given_up(draft, row, task, message):
        return
    if draft.head.paused:
        draft.record(StagePaused(row.id, message.position))
        return
    limit = limit_in(row.context)
    if limit is not None and (message.lost or not message.permit):
        permit = take_permit(draft, row, task, limit)
        if permit.at > draft.env.now and not message.lost:
            draft.call(row, task, permit.at - draft.env.now, permit.number)
            return
    context = {**visible(draft, row), **delivered(task.signal)}
    sources = upstream(draft, row)
    draft.record(TaskStarted(row.id, message.position, task.attempt + 1))
    draft.run(Body(stage=row, task=draft.task(row.id, message.position), context=context, upstream=sources))
