"""What differs between databases beside their connections: how they are found, opened, watched and kept small."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, ClassVar, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable

    from stabilize_nb.errors import StoreError
    from stabilize_nb.store.beacon import Beacon
    from stabilize_nb.store.connection import Connection

DURABILITIES = ("full", "normal")
#: How URLs of PostgreSQL begin.
POSTGRES = ("postgresql://", "postgres://")


def wall_clock() -> int:
    """Return ms since the epoch (UTC)."""
    return time.time_ns() // 1_000_000


class Sweeper(Protocol):
    """A connection beside the writer that has a write-ahead log moved into the database."""

    def checkpoint(self) -> None:
        """Move what can be moved without holding anybody up."""

    def empty_wal(self, patience_ms: int) -> None:
        """Move everything, unless somebody reads meanwhile."""

    def close(self) -> None:
        """Close the connection."""


class Driver(ABC):
    """One database of a kind. `path` is the same for all URLs that mean it; it and `url` may be shown to anybody."""

    url: str
    path: str
    #: What opens the database again: the URL as it was given, which may hold a password.
    address: str
    in_memory: bool = False
    #: Whether commits of other processes make themselves heard (`listen`).
    tells: bool = False
    #: What the library of the database raises.
    errors: ClassVar[tuple[type[Exception], ...]]

    def clock(self) -> int:
        """Return the time of the database, in ms since the epoch (UTC)."""
        return wall_clock()

    @abstractmethod
    def exists(self) -> bool:
        """Whether the database is there; opening one that is not makes it."""

    @abstractmethod
    def check(self) -> None:
        """Refuse a database that cannot be opened, or should not be, before anything of it is changed."""

    @abstractmethod
    def connect(self, durability: str) -> Connection:
        """Return a connection that may write; raises StoreError."""

    @abstractmethod
    def reader(self, durability: str) -> Connection:
        """Return a connection for reading beside the writer; raises StoreError."""

    @abstractmethod
    def surveyor(self) -> Connection:
        """Return a connection that can only read; raises StoreError."""

    @abstractmethod
    def said(self, error: Exception) -> StoreError:
        """Return the sentence for what the library said."""

    @abstractmethod
    def beacon(self) -> Beacon | None:
        """Return how processors of other processes see that one lives; None: there are no others."""

    @abstractmethod
    def version(self, writer: Connection) -> int:
        """Return a number that changes when another process commits."""

    def sweeper(self, durability: str) -> Sweeper | None:
        """Return what sweeps the write-ahead log; None: the database does so itself."""
        return None

    @abstractmethod
    def listen(self, heard: Callable[[], None]) -> None:
        """Have `heard` called after commits of other processes, where the database tells of them."""

    @abstractmethod
    def leave(self, writer: Connection) -> None:
        """Listen no more; `writer` is about to be closed."""
