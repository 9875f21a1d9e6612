"""Queue: pushing messages and looking at what is queued. Taking them is the processor's work."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from stabilize_nb.errors import StageNotFoundError, WorkflowNotFoundError
from stabilize_nb.models.ids import new_id
from stabilize_nb.models.values import plain_mapping
from stabilize_nb.queue.messages import Message, SignalStage, StageMessage
from stabilize_nb.store.database import Database
from stabilize_nb.store.writer import message_params

if TYPE_CHECKING:
    from stabilize_nb.store.sqlite import Connection


class Queue:
    """The messages of one database. Messages are kept after they are done: their ids make a push idempotent."""

    def __init__(self, database: Database) -> None:
        self.database = database

    def push(self, message: Message, delay: float = 0.0, message_id: str | None = None) -> str:
        """
        Queue a message to be taken `delay` seconds from now and return its id; a known id changes nothing.

        Raises WorkflowNotFoundError or StageNotFoundError when it speaks of something that is not stored, and
        ValueNotStorableError when JSON cannot hold its data.
        """
        if isinstance(message, SignalStage):
            plain_mapping(message.signal_data, f"data of signal {message.signal_name!r}")
        id_ = message_id or new_id()

        def write(connection: Connection) -> None:
            _check_target(connection, message)
            due_at = self.database.clock() + int(delay * 1_000)
            connection.run("insert_message", message_params(message, due_at, id_=id_))

        self.database.call_write(write)
        return id_

    def size(self) -> int:
        """Return how many messages are neither done nor dead."""
        row = self.database.call_read(lambda connection: connection.one("queue_size", {}))
        return int(row[0]) if row else 0

    def clear(self) -> None:
        """Delete every message, done or not."""
        self.database.call_write(lambda connection: connection.run("clear_messages", {}))

    def dead_letters(self) -> list[dict[str, Any]]:
        """Return the messages that could not be processed, oldest first, with `error` as the cause."""
        names = ("id", "workflow_id", "stage_id", "kind", "payload", "deliveries", "dead_at", "error")
        rows = self.database.call_read(lambda connection: connection.all("dead_letters", {}))
        return [dict(zip(names, row, strict=True)) for row in rows]

    def close(self) -> None:
        """Give the database back."""
        self.database.close()


def _check_target(connection: Connection, message: Message) -> None:
    here = {"workflow_id": message.execution_id}
    found = connection.one("workflow_exists", here)
    if not found or not found[0]:
        msg = f"{type(message).__name__} names workflow {message.execution_id!r}, which is not in this store"
        raise WorkflowNotFoundError(msg)
    if isinstance(message, StageMessage) and connection.one("stage", here | {"stage_id": message.stage_id}) is None:
        msg = (
            f"{type(message).__name__} names stage id {message.stage_id!r}, which workflow {message.execution_id} does "
            "not have; use the id of one of its stages (stage.id)"
        )
        raise StageNotFoundError(msg)


class SqliteQueue(Queue):
    """The queue in a SQLite database; it shares the database with a store of the same URL."""

    def __init__(self, url: str, **_legacy: Any) -> None:
        super().__init__(Database.open(url))

    def _create_table(self) -> None:
        """Do nothing: the schema is made when the database is opened. Kept for programs that call it."""
