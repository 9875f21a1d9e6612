"""Starting what is due by schedule; the keeper of any processor at the store does it, and each due time once."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from stabilize_nb.events.bus import announce
from stabilize_nb.store.schedules import fire

if TYPE_CHECKING:
    from stabilize_nb.core.facts import WorkflowCreated
    from stabilize_nb.store.database import Database

#: Seconds between two looks for what others have scheduled: after a commit of theirs, and when none was seen.
LOOK, SELDOM = 1.0, 5.0


class Timetable:
    """What is due next, as far as this process knows."""

    def __init__(self, database: Database, owner: str) -> None:
        self._database = database
        self._owner = owner
        self._next: int | None = None
        self._looked = -SELDOM
        self._has_news = True

    def go_on(self, *, has_news: bool) -> bool:
        """
        Start what is due, and return whether there was something; called by an engine thread.

        `has_news`: whether somebody else has committed since the last time.
        """
        self._has_news |= has_news
        if time.monotonic() - self._looked >= (LOOK if self._has_news else SELDOM):
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
        self._has_news = False

    def _tell(self, made: list[WorkflowCreated]) -> None:
        for fact in made:
            announce(self._database.bus, fact.definition["id"], 1, [fact], self._database.clock())
