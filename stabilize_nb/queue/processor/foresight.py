"""
What decisions will most likely ask for, asked for all at once where each question is a round trip.

It changes no result: what was not foreseen is asked for when it is needed. What was foreseen of a workflow is about its
next decision only, since that changes it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from stabilize_nb.core.view import StageKey
from stabilize_nb.queue.messages import StageMessage, StartWorkflow
from stabilize_nb.store.connection import Read

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from stabilize_nb.queue.messages import Message
    from stabilize_nb.queue.processor.commit import Leased
    from stabilize_nb.store.connection import Connection

Order = tuple["Leased", "Message"]


def foresee(connection: Connection, leased: Leased, message: Message) -> None:
    """Lock a workflow and read what a decision about it will ask for, unless that was done."""
    if connection.FORESEES and not connection.foresaw("lock_head", {"workflow_id": leased.workflow_id}):
        foresee_all(connection, [(leased, message)])


def foresee_all(connection: Connection, orders: Iterable[Order], name: str = "lock_head") -> list[str]:
    """Lock the workflows of messages, in the order of their ids so that nobody waits in a circle; return the ids."""
    by_workflow = together(orders)
    ids = sorted(by_workflow)
    if connection.FORESEES and ids:
        heads = [Read(id_, name, {"workflow_id": id_}, "lock_head") for id_ in ids]
        reads = (read for id_ in ids for order in by_workflow[id_] for read in reads_of(*order))
        connection.foresee([*heads, *{(read.name, *read.params.values()): read for read in reads}.values()])
    return ids


def together(orders: Iterable[Order]) -> dict[str, list[Order]]:
    """Return orders by the id of the workflow they are about, those of one workflow as they came."""
    found: dict[str, list[Order]] = {}
    for order in orders:
        found.setdefault(order[0].workflow_id, []).append(order)
    return found


def within_reach(connection: Connection, found: Sequence[Leased]) -> list[Leased]:
    """Lock the workflows of messages that nobody has; leave out those of workflows that somebody else has in hand."""
    if not connection.FORESEES:
        return list(found)
    ids = foresee_all(connection, ((leased, leased.message) for leased in found), "lock_free_head")
    missed = [here for id_ in ids if not connection.foresaw("lock_head", here := {"workflow_id": id_})]
    taken = {here["workflow_id"] for here in missed if (connection.one("workflow_exists", here) or (0,))[0]}
    return [leased for leased in found if leased.workflow_id not in taken]


def reads_of(leased: Leased, message: Message, *, is_current: bool = True) -> list[Read]:
    """Return what a decision will ask for beside the header; `is_current`: what was seen last is as it was."""
    here = leased.workflow_id
    if isinstance(message, StartWorkflow):
        return [Read(here, "roots", {"workflow_id": here})]
    if not isinstance(message, StageMessage):
        return []
    position = getattr(message, "position", 0)
    own = [] if leased.seen is not None and is_current else _stage(here, message.stage_id, position)
    row = None if leased.seen is None else leased.seen.rows.get(StageKey(message.stage_id))
    if row is None or len(row.spec.edges) != 1 or position + 1 < len(row.spec.tasks):
        return own
    return own + _stage(here, row.spec.edges[0].stage_id, 0)


def _stage(workflow_id: str, stage_id: str, position: int) -> list[Read]:
    """Return the queries for a stage and one of its tasks."""
    return [
        Read(workflow_id, "stage", {"workflow_id": workflow_id, "stage_id": stage_id}),
        Read(workflow_id, "task", {"stage_id": stage_id, "position": position}),
    ]
