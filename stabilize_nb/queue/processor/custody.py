"""
Which processor works at which workflow, where processors of one store do not share their work.

A script shares: whoever is free takes what is due. A notebook does not: a kernel works at the runs that were started
or taken up there, and leaves those of an earlier kernel, or of another one, alone. Each workflow has at most one owner;
the owner's presence says whether it lives (presence.py), and a workflow whose owner is gone may be taken up.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from stabilize_nb.queue.processor.presence import Presence, is_gone

if TYPE_CHECKING:
    from stabilize_nb.store.connection import Connection
    from stabilize_nb.store.database import Database


@dataclass(frozen=True, slots=True, kw_only=True)
class Owner:
    """A living processor that works at a workflow, and the process it belongs to."""

    id: str
    pid: int
    host: str


class Custody:
    """The workflows of one processor. `wanted`: those it takes up when their owner is gone."""

    def __init__(self, database: Database, owner: str, lease: float, deaths: int) -> None:
        self.presence = Presence(database, owner, lease, deaths)
        self.shares = True
        self.wanted: set[str] = set()
        self._database = database
        self._owner = owner

    @property
    def filter(self) -> str | None:
        """Whose messages are taken; None: those of everybody."""
        return None if self.shares else self._owner

    def adopt(self, workflow_id: str) -> bool:
        """Take a workflow up, now or once its owner is gone; called by an engine thread. Returns whether it is now."""
        self.presence.enter()  # who takes something up is seen to live
        taken = self._database.write(lambda connection: self._take(connection, workflow_id))
        (self.wanted.discard if taken else self.wanted.add)(workflow_id)
        return taken

    def take_wanted(self) -> bool:
        """Take up what is wanted and has no owner any more; return whether there was something."""
        free = [each for each in sorted(self.wanted) if owner_of(self._database, each) is None]
        return sum(map(self.adopt, free)) > 0

    def _take(self, connection: Connection, workflow_id: str) -> bool:
        row = connection.one("custody_of", {"workflow_id": workflow_id})
        if row is not None and row[0] == self._owner:
            return True
        if row is not None and not is_gone(self._database, connection, row[0]):
            return False
        connection.run("take_custody", {"workflow_id": workflow_id, "owner": self._owner})
        return True


def owner_of(database: Database, workflow_id: str) -> Owner | None:
    """Return who works at a workflow; None when nobody does. Called by an engine thread."""

    def look(connection: Connection) -> Owner | None:
        row = connection.one("custody_of", {"workflow_id": workflow_id})
        if row is None or is_gone(database, connection, row[0]):
            return None
        return Owner(id=row[0], pid=row[1] or 0, host=row[2] or "")

    return database.read(look)
