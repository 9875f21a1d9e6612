"""The log at rest: reading it, and keeping a copy of it in a database of its own.

A step writes its facts in the transaction that makes them true (C1), so every database holds the log of its
workflows. A log at another URL is a copy that a relay makes: a thread that reads what was committed, in the order of
commits, and inserts what is not there, which (workflow, sequence) decides. So the copy may be late but never wrong, and
what a crash kept from it comes when the database is opened again. Nothing of this happens in a thread that commits.
"""

from __future__ import annotations

import atexit
import logging
import threading
import weakref
from contextlib import suppress
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING, Any

from stabilize_nb.errors import StoreError
from stabilize_nb.events.bus import Event, make_event
from stabilize_nb.store.codec import loads
from stabilize_nb.store.database import Database, off_open, on_open, open_databases
from stabilize_nb.store.waiting import Ticket

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from stabilize_nb.store.connection import Connection

log = logging.getLogger("stabilize_nb")
#: Facts copied in one transaction at most.
BATCH = 1_000
#: Seconds before a log that could not be written, or a store that could not be read, is tried again.
RETRY = 0.5
#: Seconds that the end of the interpreter waits for a relay.
EXIT_BUDGET = 1.0
_END = 2**62


class EventLog:
    """The log of one database. Events of a workflow have the sequence numbers 1, 2, ... without gaps."""

    def __init__(self, database: Database) -> None:
        self.database = database

    def get_events(self, workflow_id: str, after: int = 0, until: int | None = None) -> list[Event]:
        """Return the events of a workflow with `after` < sequence <= `until`, in order."""
        params = {"workflow_id": workflow_id, "after": after, "until": _END if until is None else until}
        rows = self.database.call_read(lambda connection: connection.all("events_of_workflow", params))
        return [_event(row) for row in rows]

    def last_sequence(self, workflow_id: str) -> int:
        """Return the sequence number of the last event of a workflow; 0 when there is none."""
        return self._end(workflow_id)[0]

    def count(self, workflow_id: str | None = None) -> int:
        """Return how many events there are, of one workflow or of all."""
        if workflow_id is not None:
            return self.last_sequence(workflow_id)
        found = self.database.call_read(lambda connection: connection.one("event_count", {}))
        return int(found[0]) if found else 0

    def __iter__(self) -> Iterator[Event]:
        """Go through the events of all workflows in the order in which they were committed."""
        position = 0
        while rows := self._page(position):
            yield from (_event(row) for row in rows)
            position = rows[-1][0]

    def _page(self, after: int) -> list[Sequence[Any]]:
        return self.database.call_read(lambda connection: _following(connection, after))

    def _end(self, workflow_id: str) -> tuple[int, int | None]:
        here = {"workflow_id": workflow_id}
        found = self.database.call_read(lambda connection: connection.one("log_end", here))
        return (found[0], found[1]) if found else (0, None)


class SqliteEventStore(EventLog):
    """The log in a SQLite database; the schema is made when it is opened.

    With the URL of a workflow store it is that store's own log. With another one it is filled by
    `configure_event_sourcing`.
    """

    def __init__(self, url: str, create_tables: bool = True, durability: str | None = None) -> None:
        super().__init__(Database.open(url, durability=durability))

    def close(self) -> None:
        """Give the database back."""
        self.database.close()


def _following(connection: Connection, after: int) -> list[Sequence[Any]]:
    """
    Return the next facts of all workflows, such that none will ever appear before the last of them.

    Positions are given when facts are written, and others may be committed earlier: where one is missing, who writes
    just now is waited for.
    """
    page = {"after": after, "most": BATCH}
    rows = connection.all("events_after", page)
    if not rows or rows[-1][0] - after == len(rows) or not connection.wait_for_writers():
        return rows
    last = rows[-1][0]
    return [row for row in connection.all("events_after", page) if row[0] <= last]


def _event(row: Sequence[Any]) -> Event:
    _position, workflow_id, sequence, kind, at, stage_id, data = row
    return make_event(kind, workflow_id, sequence, at, stage_id, loads(data))


def log_of(workflow_id: str) -> EventLog | None:
    """Return the log of the database, open in this process, that holds a workflow; it is never late."""
    here = {"workflow_id": workflow_id}
    for database in open_databases():
        found = database.call_read(lambda connection: connection.one("workflow_exists", here))
        if found and found[0]:
            return EventLog(database)
    return None


def configure_event_sourcing(event_store: EventLog | None) -> None:
    """
    Keep a copy of the log of every database of this process, open now or later, in `event_store`.

    History that the store lacks is copied too. One store at a time: another one takes its place, None ends it.
    """
    global _relaying  # noqa: PLW0603 - one choice a process
    with _relaying_lock:
        earlier = _relaying
        if earlier is not None and event_store is not None and earlier.target is event_store.database:
            return
        if earlier is not None:
            earlier.end()
        _relaying = None if event_store is None else _Relaying(event_store.database.driver.address)


class _Relaying:
    """The choice of a log for all databases of this process."""

    def __init__(self, url: str) -> None:
        self.target = Database.open(url)
        self._relays: list[Relay] = []
        on_open(self._greet)

    def _greet(self, database: Database) -> None:
        if database is not self.target:
            relay = Relay(database, self.target)
            self._relays.append(relay)
            database.followers.append(relay)

    def end(self) -> None:
        off_open(self._greet)
        for relay in self._relays:
            relay.close()
        self.target.close()


_relaying: _Relaying | None = None
_relaying_lock = threading.Lock()


class Relay:
    """Copies the log of one database into another, in the order of commits, in a thread of its own."""

    def __init__(self, source: Database, target: Database) -> None:
        self._source = source
        self._target = target
        self._news: SimpleQueue[Ticket | None] = SimpleQueue()
        self._closing = False
        self._complained = False
        self._after: int | None = None  # position after which the next look begins; None: find out
        self._newest: Sequence[Any] | None = None  # the last row that was copied
        self._thread = threading.Thread(target=self._work, name="stabilize-relay", daemon=True)
        source.changes.subscribe(self._changed)
        self._news.put(None)
        self._thread.start()
        _relays.add(self)

    def flush(self, timeout: float = 5.0) -> bool:
        """Wait until everything committed so far was copied or could not be, at most `timeout` seconds."""
        if not self._thread.is_alive() or threading.current_thread() is self._thread:
            return False
        ticket = Ticket()
        self._news.put(ticket)
        return ticket.wait(timeout)

    def close(self) -> None:
        """Copy what was committed so far, then stop."""
        self._source.changes.unsubscribe(self._changed)
        self._closing = True
        self.flush()
        if self in self._source.followers:
            self._source.followers.remove(self)

    def _changed(self) -> None:
        self._news.put(None)

    def _work(self) -> None:
        patience: float | None = None
        while True:
            tickets = self._wait(patience)
            closing = self._closing
            patience = None if self._copy_all() else RETRY
            for ticket in tickets:
                ticket.done()
            if closing:
                return

    def _wait(self, patience: float | None) -> list[Ticket]:
        """Wait for news and return who waits for them to be dealt with."""
        news: list[Ticket | None] = []
        with suppress(Empty):
            news.append(self._news.get(timeout=patience))
            while True:
                news.append(self._news.get_nowait())
        return [ticket for ticket in news if ticket is not None]

    def _copy_all(self) -> bool:
        try:
            while self._copy_some():
                pass
        except StoreError as error:
            if not self._complained:
                log.warning("%s; the log at %s is late and catches up by itself", error, self._target.url)
            self._complained = True
            return False
        self._complained = False
        return True

    def _copy_some(self) -> bool:
        """Copy the next facts; return whether there may be more."""
        if self._after is None:
            self._after = self._behind()
        after = self._after
        rows = self._source.read(lambda connection: _following(connection, after))
        if self._newest is not None and (not rows or rows[0] != self._newest):
            # A workflow was deleted and the newest positions with it: they may be taken again by other facts.
            self._after = self._newest = None
            return True
        fresh = rows if self._newest is None else rows[1:]
        if fresh:
            self._target.write(lambda connection: _insert(connection, fresh))
            self._target.changes.notify()
            self._newest = fresh[-1]
            self._after = fresh[-1][0] - 1
        return len(rows) == BATCH

    def _behind(self) -> int:
        """Return the position before the first fact that the target lacks, or before the last one of all."""
        last = self._source.read(lambda connection: connection.one("last_position", {}))
        self._source.read(lambda connection: connection.wait_for_writers())
        heads = self._source.read(lambda connection: connection.all("log_heads", {}))
        wanted = self._target.read(lambda connection: _first_missing(connection, heads))
        found = self._source.read(lambda connection: [connection.one("position_of", fact) for fact in wanted])
        positions: list[int] = [row[0] for row in (*found, last) if row]
        return min(positions, default=0) - 1


_relays: weakref.WeakSet[Relay] = weakref.WeakSet()


def _first_missing(target: Connection, heads: Sequence[Sequence[Any]]) -> list[dict[str, Any]]:
    """Return for each workflow whose log goes further than the target's the first fact to copy."""
    missing = []
    for workflow_id, last, begun in heads:
        here = {"workflow_id": workflow_id}
        end, began = target.one("log_end", here) or (0, None)
        known = end if began == begun else 0
        if known < last:
            missing.append(here | {"sequence": known + 1})
    return missing


def _insert(target: Connection, rows: Sequence[Sequence[Any]]) -> None:
    names = ("workflow_id", "sequence", "type", "at", "stage_id", "data")
    facts = [dict(zip(names, row[1:], strict=True)) for row in rows]
    for fact in facts:
        fact["data"] = target.own(fact["workflow_id"], fact["data"])
        if fact["sequence"] == 1:
            target.run("forget_other_log", {"workflow_id": fact["workflow_id"], "at": fact["at"]})
    target.many("copy_event", facts)


def _flush_all() -> None:
    for relay in list(_relays):
        relay.flush(EXIT_BUDGET)


atexit.register(_flush_all)
