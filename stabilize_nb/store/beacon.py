"""
Lights of processors: a lock that the system frees at once when a process dies (C8).

Beside a SQLite database it is a POSIX record lock on a byte of a private file. Record locks belong to a process:
closing any descriptor of the file would free them, so one descriptor a process stays open while anybody uses it.
"""

from __future__ import annotations

import os
import socket
import threading
from abc import ABC, abstractmethod
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from stabilize_nb.store.connection import Connection

try:
    import fcntl
except ImportError:  # pragma: no cover - Windows: only the lease tells
    fcntl = None  # type: ignore[assignment]

_lock = threading.Lock()
_files: dict[str, tuple[int, int]] = {}  # path -> (descriptor, users)


class Beacon(ABC):
    """The lights of one store, by number: each is on for as long as the process that lit it lives."""

    @abstractmethod
    def open(self) -> None:
        """Get ready; before the first light is lit."""

    @abstractmethod
    def light(self, slot: int) -> None:
        """Switch a light on."""

    @abstractmethod
    def douse(self, slot: int) -> None:
        """Switch a light off that this process has lit."""

    @abstractmethod
    def close(self) -> None:
        """Be done; after the last light was switched off."""

    @abstractmethod
    def keep(self) -> None:
        """See to it that the lights of this process are still on; called now and then."""

    @abstractmethod
    def is_lit(self, connection: Connection, slot: int, host: str) -> bool:
        """Whether a light of another process, on a host, is on as far as can be seen here."""


def has_record_locks() -> bool:
    """Whether this system has locks that end with a process."""
    return fcntl is not None


class FileBeacon(Beacon):
    """Lights as locks on bytes of a file, which are seen on one host only."""

    def __init__(self, path: str) -> None:
        self._path = path

    def open(self) -> None:
        """Open the file, once a process."""
        _open(self._path)

    def light(self, slot: int) -> None:
        """Lock a byte."""
        fcntl.lockf(_files[self._path][0], fcntl.LOCK_EX, 1, slot)

    def douse(self, slot: int) -> None:
        """Unlock a byte."""
        with _lock:
            fcntl.lockf(_files[self._path][0], fcntl.LOCK_UN, 1, slot)

    def keep(self) -> None:
        """Do nothing: only this process can unlock what it has locked."""

    def close(self) -> None:
        """Close the file when nobody here uses it any more."""
        _close(self._path)

    def is_lit(self, connection: Connection, slot: int, host: str) -> bool:
        """Whether a byte is locked; of another host nobody knows, so its light is taken to be on."""
        return host != socket.gethostname() or _is_locked(self._path, slot)


def _is_locked(path: str, slot: int) -> bool:
    descriptor = _open(path)
    try:
        with _lock:
            try:
                fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, slot)
            except OSError:
                return True
            fcntl.lockf(descriptor, fcntl.LOCK_UN, 1, slot)
            return False
    finally:
        _close(path)


def _open(path: str) -> int:
    """Return the one descriptor of a file that this process has; `_close` it again."""
    with _lock:
        descriptor, users = _files.get(path) or (os.open(path, os.O_RDWR | os.O_CREAT, 0o600), 0)
        _files[path] = (descriptor, users + 1)
        return descriptor


def _close(path: str) -> None:
    with _lock:
        descriptor, users = _files[path]
        if users > 1:
            _files[path] = (descriptor, users - 1)
        else:
            del _files[path]
            os.close(descriptor)


def _forget() -> None:
    """Locks do not pass to a forked child."""
    global _lock  # noqa: PLW0603 - one set of files a process
    _lock = threading.Lock()
    _files.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget)
