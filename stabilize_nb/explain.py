"""Why a run stands where it stands, in sentences."""

from __future__ import annotations

from typing import TYPE_CHECKING

from stabilize_nb.explain_stage import to_settle
from stabilize_nb.gates import doubt_about
from stabilize_nb.models.limit import LIMIT
from stabilize_nb.models.status import WorkflowStatus
from stabilize_nb.queue.queue import letters_in
from stabilize_nb.tasks.prints import plain_name
from stabilize_nb.versions import queued_code

if TYPE_CHECKING:
    from stabilize_nb.run_record import RunRecord

S = WorkflowStatus


def explain(run: RunRecord) -> list[str]:
    """Return one sentence for each thing a run waits for or works at."""
    workflow = run.workflow
    if workflow.status.is_complete:
        return [f"ended {workflow.status}" + (f": {workflow.error}" if workflow.error else "")]
    trouble = run.engine.processor.desk.trouble
    sentences = [] if trouble is None else [f"cannot go on: {trouble}"]
    sentences += _waits_for_workers(run)
    sentences += [letter.said for letter in letters_in(run.engine.database, run.id)]
    if workflow.status is S.PAUSED:
        sentences.append("paused: run.resume() goes on")
    for stage in workflow.stages:
        if stage.status is S.RUNNING:
            has_failed = any(task.exception_details for task in stage.tasks if not task.status.is_complete)
            may_wait = has_failed or LIMIT in stage.context
            sentences.append(run.explain(stage.ref_id) if may_wait else f"stage {stage.ref_id!r} runs")
        elif stage.status is S.SUSPENDED:
            doubt, _ = doubt_about(stage)
            words = to_settle(stage.ref_id, doubt) if doubt else "waits for a decision or signal"
            sentences.append(f"stage {stage.ref_id!r} {words}")
    return sentences or ["nothing has begun yet"]


def _waits_for_workers(run: RunRecord) -> list[str]:
    """Return a sentence for each task that is due and that this process does not run."""
    processor, database = run.engine.processor, run.engine.database
    names, taken = database.call_read(lambda connection: queued_code(run, connection))
    sentences: dict[str, None] = {}
    for name in sorted(names):
        known, said = name in processor.registry, f"task {plain_name(name)!r}"
        if known and processor.takes(name):
            continue
        if taken[name]:
            text = f"waits for a worker: {said} is run by {taken[name]} of those at work"
        elif known:
            queue = processor.registry.queue_of(name)
            text = f"waits for a worker: {said} is in the queue {queue!r}, and no worker takes it"
        else:
            text = f"waits for code: {said} is not registered in this process, and no worker knows it"
        sentences[text] = None
    return list(sentences)
