"""Database: one store opened in this process, shared by everything that names the same URL.

`write` and `read` are for the engine's own threads. `call` is for everybody else: the work is done in a thread of
the database while the caller only waits, so that an interrupt of the caller never leaves a transaction open (C12).
"""

from __future__ import annotations

import threading
import time
from concurrent.futures import Future
from queue import SimpleQueue
from typing import TYPE_CHECKING, Any, TypeVar

import apsw

from stabilize_nb.errors import ConfigError, StoreError
from stabilize_nb.events.bus import EventBus
from stabilize_nb.store.migrate import migrate
from stabilize_nb.store.sqlite import DURABILITY, Connection, database_path, store_error

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType

    from stabilize_nb.tasks.registry import TaskRegistry

T = TypeVar("T")
_shared: dict[str, Database] = {}
_shared_lock = threading.Lock()


def wall_clock() -> int:
    """Return ms since the epoch (UTC)."""
    return time.time_ns() // 1_000_000


class Changes:
    """Tells threads of this process that something was committed."""

    def __init__(self) -> None:
        self._condition = threading.Condition()
        self._number = 0
        self._listeners: list[Callable[[], None]] = []

    @property
    def number(self) -> int:
        """How many changes there have been."""
        return self._number

    def notify(self, origin: object = None) -> None:
        """Say that something has changed; the listener `origin`, which knows already, is left out."""
        with self._condition:
            self._number += 1
            self._condition.notify_all()
        for listener in list(self._listeners):
            if listener != origin:
                listener()

    def wait(self, seen: int, timeout: float | None) -> int:
        """Wait until the number differs from `seen`, or `timeout` seconds; return the number."""
        with self._condition:
            self._condition.wait_for(lambda: self._number != seen, timeout)
            return self._number

    def subscribe(self, listener: Callable[[], None]) -> None:
        """Have `listener` called after each change, in the thread that made it."""
        self._listeners.append(listener)

    def unsubscribe(self, listener: Callable[[], None]) -> None:
        """Stop calling `listener`."""
        if listener in self._listeners:
            self._listeners.remove(listener)


class Database:
    """One SQLite database with its writer, its reader and its door. Obtain it by `Database.open`."""

    def __init__(self, url: str, path: str, durability: str) -> None:
        self.url = url
        self.path = path
        self.durability = durability
        self.in_memory = path == ":memory:"
        self.clock: Callable[[], int] = wall_clock
        self.changes = Changes()
        self.bus = EventBus()
        self.registries: list[TaskRegistry] = []
        self._users = 0
        self._writer = Connection(path, durability)
        self._write_lock = threading.Lock()
        try:
            migrate(self._writer)
        except apsw.Error as error:
            self._writer.close()
            raise store_error(path, error) from error
        except StoreError:
            self._writer.close()
            raise
        self._reader = self._writer if self.in_memory else Connection(path, durability)
        self._read_lock = self._write_lock if self.in_memory else threading.Lock()
        self._jobs: SimpleQueue[tuple[Future[Any], Callable[[], Any]] | None] = SimpleQueue()
        self._door = threading.Thread(target=self._serve, name="stabilize-store", daemon=True)
        self._door.start()

    @classmethod
    def open(cls, url: str, *, durability: str | None = None) -> Database:
        """
        Return the database of `url`, shared with everything in this process that opened it before.

        Raises ConfigError for a URL or durability that is not known, StoreError when it cannot be opened, SchemaError
        when it belongs to a newer version or another program.
        """
        if durability not in (None, *DURABILITY):
            msg = f"durability {durability!r} is not known; expected one of {', '.join(DURABILITY)}"
            raise ConfigError(msg)
        path = database_path(url)
        with _shared_lock:
            database = _shared.get(path)
            if database is None:
                database = _shared[path] = cls(url, path, durability or "full")
            elif durability not in (None, database.durability):
                msg = (
                    f"{url} is open in this process with durability {database.durability!r}; close it before "
                    f"opening it with {durability!r}"
                )
                raise ConfigError(msg)
            database._users += 1
            return database

    def close(self) -> None:
        """Give the database back; the last user closes it. A shared in-memory database is gone then."""
        with _shared_lock:
            self._users -= 1
            if self._users > 0 or _shared.get(self.path) is not self:
                return
            del _shared[self.path]
        self._jobs.put(None)
        if threading.current_thread() is not self._door:
            self._door.join(timeout=5)
        with self._write_lock:
            self._writer.close()
        if self._reader is not self._writer:
            with self._read_lock:
                self._reader.close()

    def write(self, work: Callable[[Connection], T]) -> T:
        """Run `work` in one transaction; raises what it raises (nothing is written then), or StoreError."""
        with self._write_lock:
            return self.write_now(work)

    def try_lead(self) -> bool:
        """Take the writer if it is free; `write_now` and `stop_leading` follow."""
        return self._write_lock.acquire(blocking=False)

    def stop_leading(self) -> None:
        """Give the writer back."""
        self._write_lock.release()

    def write_now(self, work: Callable[[Connection], T]) -> T:
        """Run `work` in one transaction; the caller holds the writer."""
        connection = self._writer
        try:
            connection.begin()
            try:
                result = work(connection)
                connection.commit()
            except BaseException:
                connection.rollback()
                raise
        except apsw.Error as error:
            raise store_error(self.path, error) from error
        return result

    def read(self, work: Callable[[Connection], T]) -> T:
        """Run `work`, which only reads, beside a writer."""
        with self._read_lock:
            try:
                return work(self._reader)
            except apsw.Error as error:
                raise store_error(self.path, error) from error

    def call(self, work: Callable[[], T]) -> T:
        """Run `work` in the thread of the database and wait for it; an interrupt ends only the waiting."""
        if threading.current_thread() is self._door:
            return work()
        if not self._door.is_alive():
            msg = f"database {self.url} is closed; open it again"
            raise StoreError(msg)
        future: Future[T] = Future()
        self._jobs.put((future, work))
        return future.result()

    def call_write(self, work: Callable[[Connection], T]) -> T:
        """Write on behalf of a caller that is no engine thread, and tell everybody."""
        result = self.call(lambda: self.write(work))
        self.changes.notify()
        return result

    def call_read(self, work: Callable[[Connection], T]) -> T:
        """Read on behalf of a caller that is no engine thread."""
        return self.call(lambda: self.read(work))

    def data_version(self) -> int:
        """Return a number that changes when another connection, of this process or not, commits."""
        return self.read(lambda connection: connection.data_version())

    @property
    def writer(self) -> Connection:
        """The writing connection, for tests that count through its hooks."""
        return self._writer

    def _serve(self) -> None:
        while (job := self._jobs.get()) is not None:
            future, work = job
            try:
                future.set_result(work())
            except BaseException as error:  # noqa: BLE001 - handed to the caller that waits
                future.set_exception(error)

    def __enter__(self) -> Database:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
