"""The rows of a workflow as the database has them, and as the fold of its log has them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from stabilize_nb.core.rows import AttributeRow
from stabilize_nb.core.view import ArrivalKey, AttributeKey, RoundKey, SignalKey, StageKey, TaskKey
from stabilize_nb.store import rows
from stabilize_nb.store.codec import dumps
from stabilize_nb.store.reader import load_head

if TYPE_CHECKING:
    from stabilize_nb.core.view import View
    from stabilize_nb.store.connection import Connection


def stored(connection: Connection, workflow_id: str) -> tuple[Any, dict[Any, Any]]:
    """Return the header and every row of a workflow as the database has them, by key."""
    raw = connection.raw

    def found(columns: str, table: str) -> list[Any]:
        return raw.execute(f"SELECT {columns} FROM {table} WHERE workflow_id = ?", (workflow_id,)).fetchall()

    stages = [rows.stage(row) for row in connection.all("stages_of_workflow", {"workflow_id": workflow_id})]
    task_rows = connection.all("tasks", {"ids": dumps([row.id for row in stages])})
    there: dict[Any, Any] = {StageKey(row.id): row for row in stages}
    there |= {TaskKey(row.stage_id, row.position): row for row in map(rows.task, task_rows)}
    for row in found("stage_id, generation, number, live, dead, halt, settled", "round"):
        there[RoundKey(*row[:3])] = rows.round_(row)
    for row in found("stage_id, generation, number, via, token, source, held, position", "arrival"):
        there[ArrivalKey(*row[:4])] = rows.arrival(row)
    for row in found("id, position, stage_id, name, data", "signal"):
        there[SignalKey(row[0])] = rows.signal(row)
    there |= {AttributeKey(row[0]): AttributeRow(*row) for row in found("name, value", "attribute")}
    return load_head(connection, workflow_id), there


def rebuilt(view: View) -> tuple[Any, dict[Any, Any]]:
    """Return the header and every row of a fold, by key."""
    of_the_store = ("claim", "waiter", "permit")
    rows = {key: row for key, row in view.changed.items() if row is not None and key.kind not in of_the_store}
    return view.head, rows
