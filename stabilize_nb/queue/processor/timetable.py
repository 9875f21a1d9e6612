"""Starting what is due by schedule; the keeper of any processor at the store does it, and each due time once."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from stabilize_nb.events.bus import announce
from stabilize_nb.store.schedules import fire

if TYPE_CHECKING:
    from stabilize_nb.core.facts import WorkflowCreated
    from stabilize_nb.store.database import Database

#: Seconds between two looks for what others have scheduled.
LOOK = 1.0


class Timetable:
    """What is due next, as far as this process knows."""

    def __init__(self, database: Database, owner: str) -> None:
        self._database = database
        self._owner = owner
        self._next: int | None = None
        self._looked = -LOOK

    def go_on(self) -> bool:
        """Start what is due, and return whether there was something; called by an engine thread."""
        if time.monotonic() - self._looked >= LOOK:
            self._look()
        if self._next is None or self._next > self._database.clock():
            return False
        made = self._database.write(
            lambda connection: fire(connection, self._database.clock(), self._owner), self._tell
        )
        self._look()
        return bool(made)

    def _look(self) -> None:
        row = self._database.read(lambda connection: connection.one("next_schedule", {}))
        self._next = row[0] if row is not None else None
        self._looked = time.monotonic()

    def _tell(self, made: list[WorkflowCreated]) -> None:
        for fact in made:
            announce(self._database.bus, fact.definition["id"], 1, [fact], self._database.clock())
