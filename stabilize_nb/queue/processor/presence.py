"""I am alive: a light that goes out at once when a process dies, so that its work is taken over at once (C8).

Every processor has a slot number in the database, and the light of that number is on while it lives (store/beacon.py).

A processor that hangs is there and does nothing: it has lost its claims when it has not renewed them for as long as
its lease is. Whoever watches measures that by its own monotonic clock: the clock of the machine may be set, and the
machine may sleep, without anybody having hung.
"""

from __future__ import annotations

import math
import os
import socket
import threading
import time
from typing import TYPE_CHECKING

from stabilize_nb.core.blame import after_death
from stabilize_nb.core.draft import Limits
from stabilize_nb.store.codec import dumps, loads

if TYPE_CHECKING:
    from stabilize_nb.store.beacon import Beacon
    from stabilize_nb.store.connection import Connection
    from stabilize_nb.store.database import Database

#: Share of the lease that is counted as silence between two looks at most: who was stopped or kept waiting did not
#: listen, and what it waited for may have kept the others from renewing theirs.
LISTENED = 1 / 3
#: Seconds without a look, or that share of the lease if it is longer, after which silence is counted anew: the others
#: were kept waiting as long, and have to wait in line before they can give a sign.
DEAF = 1.0
_lock = threading.Lock()
_alive_here: set[str] = set()


class Presence:
    """The announcement of one processor."""

    def __init__(self, database: Database, owner: str, lease: float, deaths: int = Limits().deaths) -> None:
        self._database = database
        self.owner = owner
        self._lease = round(lease * 1_000)
        self._deaths = deaths
        self._silent: dict[str, tuple[int, float]] = {}  # owner -> what it renewed last, and seconds since that
        self._looked = time.monotonic()
        self._beacon = database.driver.beacon()
        self._slot = 0
        self._held = False
        self._said: frozenset[str] = frozenset()
        self._entering = threading.Lock()

    def enter(self) -> None:
        """Announce the processor, unless it is; what fails may be tried again. Called by an engine thread."""
        with self._entering:
            if self._held:
                return
            with _lock:
                _alive_here.add(self.owner)
            beacon = self._beacon
            if beacon is not None:
                beacon.open()
                try:
                    self._slot = self._database.write(lambda connection: self._announce(connection, beacon))
                except BaseException:
                    beacon.close()
                    raise
            self._held = True

    def _announce(self, connection: Connection, beacon: Beacon) -> int:
        """Take a slot, unless a commit that failed has done so, and light its light before anybody can see the slot."""
        now = self._database.clock()
        me = {"owner": self.owner, "host": socket.gethostname(), "pid": os.getpid(), "started_at": now,
              "lease": self._lease}  # fmt: skip
        connection.run("insert_processor", me)
        row = connection.one("processor", {"owner": self.owner})
        slot = int(row[0]) if row else 0
        beacon.light(slot)
        return slot

    def say(self, names: frozenset[str]) -> None:
        """Have others know which tasks are run here; called by an engine thread."""
        if not self._held or self._beacon is None or names == self._said:
            return
        said = {"owner": self.owner, "takes": dumps(sorted(names))}
        self._database.write(lambda connection: connection.run("takes", said))
        self._said = names

    @property
    def watches(self) -> bool:
        """Whether others held claims when it looked last."""
        return bool(self._silent)

    def leave(self) -> None:
        """Withdraw the announcement; called by an engine thread."""
        if not self._held:
            return
        self._held = False
        if self._beacon is not None:
            self._database.write(lambda connection: connection.run("delete_processor", {"owner": self.owner}))
        with _lock:
            _alive_here.discard(self.owner)
        if self._beacon is not None:
            self._beacon.douse(self._slot)
            self._beacon.close()
        self._said = frozenset()

    def free_dead(self, connection: Connection) -> int:
        """Free the claims of processors that are gone, inside a transaction; return how many messages."""
        freed = 0
        for owner in self._lost(connection):
            freed += free_claims(connection, owner, self._deaths)
            if is_gone(self._database, connection, owner):  # one that hangs may go on, and then is still there
                connection.run("delete_processor", {"owner": owner})
        return freed

    def any_dead(self, connection: Connection) -> bool:
        """Whether claims of others could be freed; only reads."""
        if self._held and self._beacon is not None:
            self._beacon.keep()
        return bool(self._lost(connection))

    def _lost(self, connection: Connection) -> list[str]:
        """Return who holds claims and is gone, or was silent for the whole of its lease."""
        share, now = LISTENED * self._lease / 1_000, time.monotonic()
        pause, self._looked = now - self._looked, now
        earlier = self._silent if pause <= max(share, DEAF) else {}
        listened = min(pause, share)
        self._silent = {}
        for owner, until in connection.all("other_owners", {"owner": self.owner}):
            known, silence = earlier.get(owner, (None, 0.0))
            self._silent[owner] = until, silence + listened if known == until else 0.0
        return [
            owner
            for owner, (_, silence) in self._silent.items()
            if is_gone(self._database, connection, owner) or silence > _lease_of(connection, owner)
        ]


def free_claims(connection: Connection, owner: str, deaths: int) -> int:
    """Free what a processor held and count its death, inside a transaction; return how many messages."""
    held = connection.all("losses_of_owner", {"owner": owner})
    alone = len(held) == 1
    freed = [{"id": id_, "owner": owner, "lost": after_death(lost, alone=alone, deaths=deaths)} for id_, lost in held]
    connection.many("free_held", freed)
    return len(held)


def _lease_of(connection: Connection, owner: str) -> float:
    """Return the seconds that a processor may be silent; one that announces itself nowhere is only there or gone."""
    row = connection.one("processor", {"owner": owner})
    return row[2] / 1_000 if row else math.inf


def is_gone(database: Database, connection: Connection, owner: str) -> bool:
    """Whether a processor is not there any more; called by an engine thread, inside a transaction."""
    return not _is_there(database.driver.beacon(), connection, owner)


def takers(database: Database, connection: Connection) -> dict[str, frozenset[str]]:
    """Return the processors that are there, by owner, with the names of the tasks that each runs."""
    rows = connection.all("takers", {})
    return {owner: frozenset(loads(takes)) for owner, takes in rows if not is_gone(database, connection, owner)}


def is_at_work(beacon: Beacon | None, connection: Connection, owner: str) -> bool:
    """Whether a processor is there, by a connection alone."""
    return _is_there(beacon, connection, owner)


def _is_there(beacon: Beacon | None, connection: Connection, owner: str) -> bool:
    if owner in _alive_here:
        return True
    row = connection.one("processor", {"owner": owner}) if beacon is not None else None
    if beacon is None or row is None:
        return False
    slot, host, _ = row
    return beacon.is_lit(connection, slot, host)


def _forget() -> None:
    """Lights do not pass to a forked child: it starts without processors."""
    global _lock  # noqa: PLW0603 - one set of processors a process
    _lock = threading.Lock()
    _alive_here.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget)
