"""Writes what a step has decided: the rows it changed, its facts, its messages. One transaction, made by the caller."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from stabilize_nb.core.facts import Fact, event_type, to_data
from stabilize_nb.core.rows import (
    ArrivalRow,
    AttributeRow,
    ClaimRow,
    PermitRow,
    RoundRow,
    SignalRow,
    StageRow,
    TaskRow,
    WaiterRow,
)
from stabilize_nb.core.view import ClaimKey, PermitKey, SignalKey, StageKey, TaskKey, View, WaiterKey
from stabilize_nb.models.ids import serial_id
from stabilize_nb.queue.messages import Message, RunTask, StageMessage, to_payload
from stabilize_nb.store import rows

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from stabilize_nb.core.rows import Head
    from stabilize_nb.store.connection import Connection
    from stabilize_nb.store.rows import Text


def write_view(connection: Connection, view: View, before: Head) -> None:
    """Write every row that differs from what was loaded, and the header, which was `before`."""
    workflow_id = view.head.id
    text = partial(connection.text, workflow_id)
    for key, row in view.changed.items():
        known = view.loaded.get(key)
        if row is not None:
            _put(connection, workflow_id, row, known, text)
        elif known is not None or key.kind in ("task", "claim", "waiter", "permit"):
            _delete(connection, key)
    head = view.head
    if head.created_at != before.created_at:
        begun = {"id": head.id, "context": text(dict(head.context)), "created_at": head.created_at}
        connection.run("begin_anew", begun)
    if head == before._replace(active=head.active, sequence=head.sequence):
        connection.run("count_head", {"id": head.id, "active": head.active, "sequence": head.sequence})
    else:
        connection.run("update_head", rows.head_params(head))


def _put(connection: Connection, workflow_id: str, row: Any, known: Any, text: Text) -> None:
    match row:
        case StageRow():
            _put_stage(connection, workflow_id, row, known, text)
        case TaskRow():
            _put_task(connection, workflow_id, row, known, text)
        case RoundRow():
            connection.run("put_round", {**row._asdict(), "settled": int(row.settled), "workflow_id": workflow_id})
        case ArrivalRow():
            params = {
                **row._asdict(),
                "token": row.token.value,
                "held": int(row.held),
                "workflow_id": workflow_id,
            }
            connection.run("put_arrival", params)
        case ClaimRow():
            connection.run("put_claim", {**row._asdict(), "settled": int(row.settled)})
        case WaiterRow():
            connection.run("put_waiter", row._asdict())
        case SignalRow():
            connection.run("insert_signal", _signal_params(workflow_id, row, text))
        case PermitRow():
            connection.run("put_permit", row._asdict())
        case AttributeRow():
            connection.run("put_attribute", {**row._asdict(), "workflow_id": workflow_id})
        case _:
            msg = f"no table for a {type(row).__name__}"
            raise TypeError(msg)


def _put_stage(connection: Connection, workflow_id: str, row: StageRow, known: StageRow | None, text: Text) -> None:
    if known is None:
        connection.run("insert_stage", rows.new_stage_params(row, workflow_id, text))
        return
    if row.spec is not known.spec:
        connection.run("redefine_stage", {"id": row.id, "spec": rows.spec_text(row.spec)})
    if row.spec is known.spec and rows.same_documents(row, known):
        connection.run("move_stage", rows.stage_state(row))
    else:
        connection.run("update_stage", rows.stage_params(row, text))


def _put_task(connection: Connection, workflow_id: str, row: TaskRow, known: TaskRow | None, text: Text) -> None:
    if known is None:
        connection.run("put_task", rows.task_params(row, text))
        return
    if row.implementing_class != known.implementing_class:
        _replace_code(connection, workflow_id, row, known)
    connection.run("update_task", rows.task_state(row, text))


def _replace_code(connection: Connection, workflow_id: str, row: TaskRow, known: TaskRow) -> None:
    """Have a task and the messages that ask for it name other code."""
    code = {"old": known.implementing_class, "new": row.implementing_class}
    connection.run("recode_task", {"stage_id": row.stage_id, "position": row.position, "new": code["new"]})
    connection.run("recode_messages", {"workflow_id": workflow_id, "stage_id": row.stage_id, **code})


def _signal_params(workflow_id: str, row: SignalRow, text: Text) -> dict[str, Any]:
    return {
        "id": row.id, "position": row.position, "workflow_id": workflow_id, "stage_id": row.stage_id,
        "name": row.name, "data": text(dict(row.data)),
    }  # fmt: skip


def _delete(connection: Connection, key: Any) -> None:
    match key:
        case StageKey(id=stage_id):
            connection.run("delete_stage", {"id": stage_id})
        case TaskKey(stage_id=stage_id, position=position):
            connection.run("delete_task", {"stage_id": stage_id, "position": position})
        case SignalKey(id=signal_id):
            connection.run("delete_signal", {"id": signal_id})
        case ClaimKey(name=name):
            connection.run("delete_claim", {"name": name})
        case WaiterKey(claim=claim, stage_id=stage_id):
            connection.run("delete_waiter", {"claim": claim, "stage_id": stage_id})
        case PermitKey(name=name, number=number):
            connection.run("delete_permit", {"name": name, "number": number})
        case _:
            msg = f"a {type(key).__name__} is never deleted"
            raise TypeError(msg)


def write_facts(connection: Connection, workflow_id: str, last: int, facts: Sequence[Fact], at: int) -> None:
    """Write facts into the log; `last` is the sequence number of the last one."""
    write_log(connection, workflow_id, ((fact, to_data(fact), at) for fact in facts), last - len(facts) + 1)


def write_log(
    connection: Connection, workflow_id: str, told: Iterable[tuple[Fact, dict[str, Any], int]], first: int = 1
) -> None:
    """Write facts with their data and times into the log; `first` is the sequence number of the first one."""
    found = [
        {
            "workflow_id": workflow_id, "sequence": sequence, "type": event_type(fact), "at": at,
            "stage_id": getattr(fact, "stage", None), "data": connection.record_text(workflow_id, data),
        }
        for sequence, (fact, data, at) in enumerate(told, first)
    ]  # fmt: skip
    connection.many("insert_event", found)


def write_message(
    connection: Connection,
    message: Message,
    due_at: int,
    *,
    id_: str | None = None,
    owner: str | None = None,
    lease_until: int | None = None,
) -> None:
    """Queue a message; with an owner it is written already claimed (hand-over)."""
    params = {
        "id": id_ or serial_id(), "workflow_id": message.execution_id,
        "stage_id": message.stage_id if isinstance(message, StageMessage) else None,
        "kind": type(message).__name__, "task_type": message.task_type if isinstance(message, RunTask) else None,
        "payload": connection.record_text(message.execution_id, to_payload(message)),
        "counts": int(message.COUNTS), "timer": int(message.TIMER),
        "due_at": due_at, "owner": owner, "lease_until": lease_until, "deliveries": 0 if owner is None else 1,
    }  # fmt: skip
    connection.run("insert_message", params)


def write_messages(connection: Connection, messages: Iterable[tuple[Message, int]]) -> None:
    """Queue messages, each with the time (ms since the epoch) from which it may be taken."""
    for message, due_at in messages:
        write_message(connection, message, due_at)
