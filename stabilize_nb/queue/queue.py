"""Queue: pushing messages and looking at what is queued. Taking them is the processor's work."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from stabilize_nb.errors import ConfigError, StageNotFoundError, WorkflowNotFoundError
from stabilize_nb.models.ids import new_id
from stabilize_nb.queue.messages import Message, StageMessage, storable
from stabilize_nb.store.database import Database
from stabilize_nb.store.writer import write_message

if TYPE_CHECKING:
    from collections.abc import Sequence

    from stabilize_nb.store.connection import Connection


class DeadLetter(NamedTuple):
    """A message that could not be processed, as it is kept: nothing takes it before it is put back.

    `deliveries`: how often it was taken; `lost`: how often the body was begun that it asks for, and nothing came of
    it. `dead_at`: ms since the epoch (UTC). `ref_id`: of the stage that it is about, None when it is about none that
    is stored.
    """

    id: str
    workflow_id: str
    stage_id: str | None
    kind: str
    payload: str
    deliveries: int
    dead_at: int
    error: str
    lost: int
    ref_id: str | None

    @property
    def said(self) -> str:
        """A sentence: what it is, why it is dead, and what to do."""
        about = "" if self.ref_id is None else f" for stage {self.ref_id!r}"
        return (
            f"the message {self.kind}{about} could not be processed and is a dead letter: {self.error}; "
            f"engine.redrive({self.id!r}) tries it again once that is mended"
        )


def letters_in(database: Database, run_id: str | None = None) -> list[DeadLetter]:
    """Return the dead letters of a database, or those of one run, oldest first."""
    name = "dead_letters" if run_id is None else "dead_letters_of"
    here = {"workflow_id": run_id}
    rows = database.call_read(lambda connection: connection.all(name, here))
    return [DeadLetter(*row) for row in rows]


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
        message = storable(message)
        id_ = message_id or new_id()

        def write(connection: Connection) -> None:
            _check_target(connection, message)
            due_at = self.database.clock() + int(delay * 1_000)
            write_message(connection, message, due_at, id_=id_)

        self.database.order(write)
        return id_

    def is_left(self, message_id: str) -> bool:
        """Whether a message is still to be processed."""
        row = self.database.call_read(lambda connection: connection.one("is_left", {"id": message_id}))
        return row is not None and bool(row[0])

    def size(self) -> int:
        """Return how many messages are neither done nor dead."""
        row = self.database.call_read(lambda connection: connection.one("queue_size", {}))
        return int(row[0]) if row else 0

    def clear(self) -> None:
        """Delete every message, done or not."""
        self.database.call_write(lambda connection: connection.run("clear_messages", {}))

    def dead_letters(self) -> list[dict[str, Any]]:
        """Return the messages that could not be processed, oldest first, with `error` as the cause."""
        return [letter._asdict() for letter in letters_in(self.database)]

    def redrive(self, *ids: str) -> list[str]:
        """
        Put dead letters back as they were, with fresh attempts, in one transaction; without ids all of them.

        Returns the id of the workflow of each. Raises ConfigError, and nothing is put back, for an id that is none of a
        dead letter.
        """
        return self.database.call_write(lambda connection: _redrive(connection, ids, self.database.clock()))

    def close(self) -> None:
        """Give the database back."""
        self.database.close()


def _redrive(connection: Connection, ids: Sequence[str], now: int) -> list[str]:
    dead = {row[0]: row[1] for row in connection.all("dead_letters", {})}
    for each in ids or tuple(dead):
        if each not in dead:
            raise ConfigError(
                f"{each!r} is not the id of a dead letter, or it was put back already; nothing was put back: "
                "engine.dead_letters() lists those that there are"
            )
        connection.run("redrive", {"id": each, "now": now})
    return [dead[each] for each in dict.fromkeys(ids or dead)]


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


class PostgresQueue(Queue):
    """The queue in a PostgreSQL database; it shares the database with a store of the same URL."""

    def __init__(self, url: str, **_legacy: Any) -> None:
        super().__init__(Database.open(url))

    def _create_table(self) -> None:
        """Do nothing: the schema is made when the database is opened. Kept for programs that call it."""


class SqliteQueue(Queue):
    """The queue in a SQLite database; it shares the database with a store of the same URL."""

    def __init__(self, url: str, **_legacy: Any) -> None:
        super().__init__(Database.open(url))

    def _create_table(self) -> None:
        """Do nothing: the schema is made when the database is opened. Kept for programs that call it."""
