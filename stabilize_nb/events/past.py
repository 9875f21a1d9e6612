"""Past: the log of one run, from which the rows of any moment are had at once.

The log is folded once. On the way a copy of the rows is kept now and then, and a moment is folded from the nearest copy
before it, so going back and forth costs the same wherever one is. Rows are immutable and the copies share them; there
are at most `COPIES`, so that a long log is folded from a little further away instead of taking more memory.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

from stabilize_nb.errors import WorkflowNotFoundError
from stabilize_nb.events.history import Entry, Names, after, beginning, entries_of

if TYPE_CHECKING:
    from collections.abc import Iterable

    from stabilize_nb.core.view import View
    from stabilize_nb.store.database import Database

#: Facts between two copies of the rows, doubled whenever there are more than so many copies.
EVERY = 32
COPIES = 64


class Past:
    """The log of a run and the rows after each of its facts, as far as it was read; `refresh` reads on.

    `folded` counts the facts that were folded so far; a moment takes less than `every`.

    Raises WorkflowNotFoundError when the log has no such run.
    """

    def __init__(self, database: Database, run_id: str) -> None:
        self.run_id = run_id
        self.entries: list[Entry] = []
        self.names = Names()
        self.every = EVERY
        self.folded = 0
        self._database = database
        self._copies: list[View] = []
        found = entries_of(database, run_id)
        if not found:
            msg = f"run {run_id!r} is not in the log {database.url}"
            raise WorkflowNotFoundError(msg)
        self._newest = beginning(found[0])
        self._read(found)

    @property
    def last(self) -> int:
        """Number of the last fact that was read."""
        return len(self.entries)

    def entry(self, sequence: int) -> Entry:
        """Return a fact by its number."""
        return self.entries[sequence - 1]

    def time(self, sequence: int) -> datetime:
        """Return when a fact was committed (UTC)."""
        return datetime.fromtimestamp(self.entry(sequence).at / 1_000, UTC)

    def now(self) -> int:
        """Return the time of the log's database, in ms since the epoch (UTC)."""
        return self._database.clock()

    def count(self) -> int:
        """Return how many facts the run has now, also those that were not read yet."""
        here = {"workflow_id": self.run_id}
        found = self._database.call_read(lambda connection: connection.one("log_end", here))
        return int(found[0]) if found else 0

    def refresh(self) -> int:
        """Read the facts that were committed meanwhile and return how many they are."""
        found = entries_of(self._database, self.run_id, after=self.last)
        self._read(found)
        return len(found)

    def view(self, sequence: int) -> View:
        """Return the rows as they were right after a fact; they are complete and nobody else's."""
        copies = sequence // self.every
        view = self._copies[copies - 1].fork() if copies else beginning(self.entries[0])
        self._fold(view, self.entries[copies * self.every : sequence])
        return view

    def _read(self, entries: Iterable[Entry]) -> None:
        for entry in entries:
            self.entries.append(entry)
            self.names.learn(entry.data)
            self._fold(self._newest, (entry,))
            if self.last % self.every == 0:
                self._keep()

    def _keep(self) -> None:
        self._copies.append(self._newest.fork())
        if len(self._copies) > COPIES:
            self._copies = self._copies[1::2]
            self.every *= 2

    def _fold(self, view: View, entries: Iterable[Entry]) -> None:
        for entry in entries:
            after(view, entry)
            self.folded += 1
