"""Why a run stands where it stands, in sentences."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from stabilize_nb.explain_stage import NAMED, to_settle
from stabilize_nb.gates import doubt_about
from stabilize_nb.models.limit import LIMIT
from stabilize_nb.models.status import WorkflowStatus
from stabilize_nb.queue.processor.presence import is_gone
from stabilize_nb.queue.queue import letters_in
from stabilize_nb.tasks.prints import plain_name
from stabilize_nb.versions import queued_code

if TYPE_CHECKING:
    from collections.abc import Sequence

    from stabilize_nb.run_record import RunRecord
    from stabilize_nb.store.connection import Connection

S = WorkflowStatus
#: What is said of a stage whose body was in hand when its process died.
LOST = "was at work in a process that is gone: a worker goes on with it, as run.engine.resume(run.id) does"


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
    bodies, waiting = _bodies(run), []
    for stage in workflow.stages:
        if stage.status is S.RUNNING:
            has_failed = any(task.exception_details for task in stage.tasks if not task.status.is_complete)
            if has_failed or LIMIT in stage.context:
                sentences.append(run.explain(stage.ref_id))
            elif stage.id in bodies.wanted:
                waiting.append(stage.ref_id)
            elif stage.id not in bodies.queued:
                sentences.append(f"stage {stage.ref_id!r} {LOST if stage.id in bodies.lost else 'runs'}")
        elif stage.status is S.SUSPENDED:
            doubt, _ = doubt_about(stage)
            words = to_settle(stage.ref_id, doubt) if doubt else "waits for a decision or signal"
            sentences.append(f"stage {stage.ref_id!r} {words}")
    if waiting:
        sentences.append(_for_a_place(waiting))
    return sentences or ["nothing has begun yet"]


class Bodies(NamedTuple):
    """Stages of a run by where their bodies are: `queued`, `wanted` here of these, or `lost` with their process."""

    queued: frozenset[str]
    wanted: frozenset[str]
    lost: frozenset[str]


def _bodies(run: RunRecord) -> Bodies:
    database, processor = run.engine.database, run.engine.processor

    def look(connection: Connection) -> tuple[list[Sequence[Any]], set[str]]:
        rows = connection.all("bodies_of", {"workflow_id": run.id})
        owners = {owner for *_, owner in rows if owner is not None}
        return rows, {owner for owner in owners if is_gone(database, connection, owner)}

    rows, gone = database.call_read(look)
    queued = {id_: code for id_, code, owner in rows if owner is None}
    wanted = (id_ for id_, code in queued.items() if code in processor.registry and processor.takes(code))
    return Bodies(frozenset(queued), frozenset(wanted), frozenset(id_ for id_, _, owner in rows if owner in gone))


def _for_a_place(waiting: Sequence[str]) -> str:
    """Say which stages are due and wait until somebody is free for them."""
    if len(waiting) == 1:
        return f"stage {waiting[0]!r} waits for a worker that is free"
    more = f" and {len(waiting) - NAMED} more" if len(waiting) > NAMED else ""
    return f"{len(waiting)} stages wait for workers that are free: {', '.join(map(repr, waiting[:NAMED]))}{more}"


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
