"""I am alive: a lock that the system frees at once when a process dies, so that its work is taken over at once (C8).

Every processor has a slot number in the database and holds a POSIX record lock on that byte of a private file beside
it. Who can lock the byte of another knows that the other is dead. Record locks belong to a process: closing any
descriptor of the file would free them, so one descriptor a process stays open while anybody uses it.
"""

from __future__ import annotations

import os
import socket
import threading
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from stabilize_nb.store.database import Database
    from stabilize_nb.store.sqlite import Connection

try:
    import fcntl
except ImportError:  # pragma: no cover - Windows: only the lease tells
    fcntl = None  # type: ignore[assignment]

_lock = threading.Lock()
_files: dict[str, tuple[int, int]] = {}  # path -> (descriptor, users)
_alive_here: set[str] = set()


class Presence:
    """The announcement of one processor."""

    def __init__(self, database: Database, owner: str) -> None:
        self._database = database
        self.owner = owner
        self._path = "" if database.in_memory or fcntl is None else f"{database.path}.alive"
        self._slot = 0
        self._held = False

    def enter(self) -> None:
        """Announce the processor; called by an engine thread."""
        if self._held:
            return
        with _lock:
            _alive_here.add(self.owner)
            self._held = True
            if not self._path:
                return
            descriptor, users = _files.get(self._path) or (
                os.open(self._path, os.O_RDWR | os.O_CREAT, 0o600),
                0,
            )
            _files[self._path] = (descriptor, users + 1)
        self._slot = self._database.write(lambda connection: self._announce(connection, descriptor))

    def _announce(self, connection: Connection, descriptor: int) -> int:
        """Take a slot and its byte before anybody else can see the slot."""
        now = self._database.clock()
        me = {"owner": self.owner, "host": socket.gethostname(), "pid": os.getpid(), "started_at": now}
        connection.run("insert_processor", me)
        row = connection.one("processor", {"owner": self.owner})
        slot = int(row[0]) if row else 0
        fcntl.lockf(descriptor, fcntl.LOCK_EX, 1, slot)
        return slot

    def leave(self) -> None:
        """Withdraw the announcement; called by an engine thread."""
        if not self._held:
            return
        self._held = False
        if self._path:
            self._database.write(lambda connection: connection.run("delete_processor", {"owner": self.owner}))
        with _lock:
            _alive_here.discard(self.owner)
            if not self._path:
                return
            descriptor, users = _files[self._path]
            fcntl.lockf(descriptor, fcntl.LOCK_UN, 1, self._slot)
            if users > 1:
                _files[self._path] = (descriptor, users - 1)
            else:
                del _files[self._path]
                os.close(descriptor)

    def free_dead(self, connection: Connection) -> int:
        """Free the claims of processors that are gone, inside a transaction; return how many messages."""
        now = self._database.clock()
        freed = 0
        for owner, until in connection.all("other_owners", {"owner": self.owner}):
            if until < now or self._is_dead(connection, owner):
                freed += connection.run("free_owner", {"owner": owner})
                connection.run("delete_processor", {"owner": owner})
        return freed

    def any_dead(self, connection: Connection) -> bool:
        """Whether claims of others could be freed; only reads."""
        now = self._database.clock()
        others = connection.all("other_owners", {"owner": self.owner})
        return any(until < now or self._is_dead(connection, owner) for owner, until in others)

    def _is_dead(self, connection: Connection, owner: str) -> bool:
        if owner in _alive_here:
            return False
        if not self._path:
            return True
        row = connection.one("processor", {"owner": owner})
        if row is None:
            return True
        slot, host = row
        return host == socket.gethostname() and not self._is_locked(slot)

    def _is_locked(self, slot: int) -> bool:
        with _lock:
            entry = _files.get(self._path)
            if entry is None:
                return True
            try:
                fcntl.lockf(entry[0], fcntl.LOCK_EX | fcntl.LOCK_NB, 1, slot)
            except OSError:
                return True
            fcntl.lockf(entry[0], fcntl.LOCK_UN, 1, slot)
            return False


def _forget() -> None:
    """Locks do not pass to a forked child: it starts without processors."""
    _files.clear()
    _alive_here.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget)
