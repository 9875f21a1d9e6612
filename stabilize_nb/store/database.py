"""Database: one store opened in this process, shared by everything that names the same URL.

`write` and `read` are for the engine's own threads. `call` is for everybody else: the work is done in a thread of
the database while the caller only waits, so that an interrupt of the caller never leaves a transaction open (C12).
"""

from __future__ import annotations

import logging
import os
import threading
from contextlib import ExitStack, closing, contextmanager, suppress
from importlib import import_module
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING, Any, Protocol, Self, TypeVar

from stabilize_nb.errors import ConfigError, StoreError
from stabilize_nb.events.bus import EventBus, get_event_bus
from stabilize_nb.store.driver import DURABILITIES, POSTGRES
from stabilize_nb.store.migrate import migrate, statuses
from stabilize_nb.store.sqlite import SqliteDriver
from stabilize_nb.store.waiting import Changes, Reply

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from types import TracebackType

    from stabilize_nb.store.connection import Connection
    from stabilize_nb.store.driver import Driver, Sweeper
    from stabilize_nb.tasks.registry import TaskRegistry

T = TypeVar("T")
#: Pages of the WAL after which it is swept: 2 MiB.
SWEEP = 500
#: How often a transaction is tried that others get in the way of.
TRIES = 6
log = logging.getLogger("stabilize_nb")
_shared: dict[str, Database] = {}
_shared_lock = threading.Lock()
_greeters: list[Callable[[Database], None]] = []


class Courier(Protocol):
    """Has something written by the next commit of a processor; never called by a thread that may be interrupted."""

    def __call__(self, write: Callable[[Connection], Any], /) -> Reply[None] | None:
        """Return what tells when it is committed; None when there will be no commit, or not soon."""


class Follower(Protocol):
    """Whatever follows the commits of a database in a thread of its own, such as a relay of its log."""

    def flush(self, timeout: float) -> bool:
        """Wait until it has dealt with everything committed so far, at most `timeout` seconds."""

    def close(self) -> None:
        """Deal with what was committed so far, then stop."""


def on_open(greeter: Callable[[Database], None]) -> None:
    """Have `greeter`, which is short, called with every database that is or will be open in this process."""
    with _shared_lock:
        _greeters.append(greeter)
        for database in _shared.values():
            greeter(database)


def off_open(greeter: Callable[[Database], None]) -> None:
    """Stop calling `greeter`."""
    with _shared_lock:
        _greeters.remove(greeter)


def open_databases() -> list[Database]:
    """Return the databases that are open in this process."""
    return list(_shared.values())


def driver_of(url: str) -> Driver:
    """Return the driver for a URL; raises ConfigError for one that means no database."""
    if url.startswith(POSTGRES):  # what it imports comes with the extra `postgres`
        driver: Driver = import_module("stabilize_nb.store.postgres").PostgresDriver(url)
        return driver
    return SqliteDriver(url)


def migrate_store(url: str) -> list[str]:
    """Bring a store to the schema of this version, and return the names of the migrations that were applied."""
    return _with_connection(driver_of(url), migrate)


def applied_migrations(url: str) -> list[tuple[str, str, int | None]]:
    """Return each migration with "applied", "pending" or "MISMATCH", and when it was applied (ms since the epoch)."""
    driver = driver_of(url)
    if not driver.exists():
        return statuses(())
    return _with_connection(driver, lambda db: statuses(db.all("migrations", {}) if db.schema_version() else ()))


def _with_connection(driver: Driver, work: Callable[[Connection], T]) -> T:
    driver.check()
    with closing(driver.connect("full")) as connection:
        try:
            return work(connection)
        except driver.errors as error:
            raise driver.said(error) from error


class Database:
    """One database with its writer, its reader and its door. Obtain it by `Database.open`."""

    def __init__(self, driver: Driver, durability: str) -> None:
        self.driver = driver
        self.url = driver.url
        self.path = driver.path
        self.durability = durability
        self.in_memory = driver.in_memory
        self.clock: Callable[[], int] = driver.clock
        self.changes = Changes()
        self.bus = EventBus()
        self.registries: list[TaskRegistry] = []
        self.couriers: list[Courier] = []
        self.followers: list[Follower] = []
        self._users = 0
        self._closed = False
        driver.check()
        self._writer = driver.connect(durability)
        self._write_lock = threading.Lock()
        try:
            migrate(self._writer)
        except driver.errors as error:
            self._writer.close_untouched()
            raise driver.said(error) from error
        except StoreError:
            self._writer.close_untouched()
            raise
        self._reader = self._writer if self.in_memory else driver.reader(durability)
        self._read_lock = self._write_lock if self.in_memory else threading.Lock()
        self._sweeper: Sweeper | None = None  # opened when there is something to sweep
        self._sweep_lock = threading.Lock()
        self._swept_at = 0  # pages that the WAL held when it was swept last
        self._sweep_error: StoreError | None = None
        self._jobs: SimpleQueue[Callable[[], Any] | None] = SimpleQueue()
        self._process = os.getpid()  # a fork has no thread of the database
        self._door = threading.Thread(target=self._serve, name="stabilize-store", daemon=True)
        self._door.start()
        driver.listen(self.changes.notify)

    @classmethod
    def open(cls, url: str, *, durability: str | None = None) -> Database:
        """
        Return the database of `url`, shared with everything in this process that opened it before.

        Raises ConfigError for a URL or durability that is not known, StoreError when it cannot be opened,
        StoreDamagedError when it is no whole database, SchemaError when a newer version or another program wrote it.
        """
        if durability not in (None, *DURABILITIES):
            msg = f"durability {durability!r} is not known; expected one of {', '.join(DURABILITIES)}"
            raise ConfigError(msg)
        driver = driver_of(url)
        with _shared_lock:
            database = _shared.get(driver.path)
            if database is None:
                database = _shared[driver.path] = cls(driver, durability or "full")
                for greeter in _greeters:
                    greeter(database)
            elif durability not in (None, database.durability):
                msg = (
                    f"{driver.path} is open in this process with durability {database.durability!r}; close it before "
                    f"opening it with {durability!r}"
                )
                raise ConfigError(msg)
            database._users += 1
            return database

    def retain(self) -> None:
        """Be one more user: the database stays open until that one, too, has closed it."""
        with _shared_lock:
            self._users += 1

    def close(self) -> None:
        """Give the database back; the last user closes it. A shared in-memory database is gone then."""
        with _shared_lock:
            self._users -= 1
            if self._users > 0 or _shared.get(self.path) is not self:
                return
            del _shared[self.path]
        for follower in list(self.followers):
            follower.close()
        self._jobs.put(None)
        if threading.current_thread() is not self._door:
            self._door.join(timeout=5)
        with self._write_lock:
            self.driver.leave(self._writer)
            self._writer.close()
        with self._sweep_lock:
            if self._sweeper is not None:
                self._sweeper.close()
        if self._reader is not self._writer:
            with self._read_lock:
                self._reader.close()

    def flush(self, timeout: float = 5.0) -> None:
        """Wait until subscribers and followers have dealt with what was committed so far, `timeout` seconds each."""
        self.bus.flush(timeout)
        get_event_bus().flush(timeout)
        for follower in list(self.followers):
            follower.flush(timeout)

    def write(
        self, work: Callable[[Connection], T], then: Callable[[T], None] | None = None, *, beside: bool = False
    ) -> T:
        """
        Run `work` in one transaction; raises what it raises (nothing is written then), or StoreError.

        `then`, which is short, gets the result after the commit and before anybody else here can write: what it
        publishes is published in the order of commits. `beside`: `work` locks the workflows that it decides about, so
        that other processes may write meanwhile; what fails because of them is done again, from its beginning.
        """
        self._refuse_fork()
        with self._write_lock:
            try:
                result = self._written(work, beside=beside)
            except self.driver.errors as error:
                raise self.driver.said(error) from error
            if then is not None:
                then(result)
            return result

    def _written(self, work: Callable[[Connection], T], *, beside: bool) -> T:
        connection = self._writer
        for left in reversed(range(TRIES)):
            connection.begin(beside=beside, careful=not beside or left < TRIES - 1)
            try:
                result = work(connection)
                connection.commit()
            except BaseException as error:
                connection.rollback()
                if not left or not connection.wants_again(error):
                    raise
            else:
                return result
        raise AssertionError

    def _refuse_fork(self) -> None:
        """Raise StoreError in a forked process: connections do not pass to it, and may harm the store there."""
        if os.getpid() != self._process:
            msg = (
                f"database {self.url} was opened before this process was forked; open it here, in a process of its own"
            )
            raise StoreError(msg)

    def sweep(self) -> None:
        """
        Have committed pages moved from the WAL into the database, beside all others, once enough have gathered.

        A writer that does this itself makes whoever waits for its commit wait for it too. Raises what it has failed
        with the last time.
        """
        failed, self._sweep_error = self._sweep_error, None
        if failed is not None:
            raise failed
        pages = self._writer.wal_pages
        if pages < self._swept_at:
            self._swept_at = 0  # the WAL was begun anew
        if pages - self._swept_at >= SWEEP and not self._sweep_lock.locked():
            self._swept_at = pages
            with suppress(RuntimeError):  # the interpreter ends
                threading.Thread(target=self._sweep, name="stabilize-sweep", daemon=True).start()

    def _sweep(self) -> None:
        try:
            self._swept(lambda sweeper: sweeper.checkpoint())
        except StoreError as error:
            self._sweep_error = error

    def shrink(self, pages: int, patience_ms: int) -> None:
        """Give free pages back to the disk, so many in a transaction, then what the WAL takes."""
        left = before = self.write(lambda connection: connection.free_pages(pages))
        while left:
            left = self.write(lambda connection: connection.free_pages(pages))
            if left >= before:
                break  # a database in memory gives nothing back
            before = left
        self._swept(lambda sweeper: sweeper.empty_wal(patience_ms))

    def _swept(self, work: Callable[[Sweeper], None]) -> None:
        """Do something with the WAL, where there is one."""
        try:
            with self._sweep_lock:
                if self._closed:
                    return
                self._sweeper = self._sweeper or self.driver.sweeper(self.durability)
                if self._sweeper is not None:
                    work(self._sweeper)
        except self.driver.errors as error:
            raise self.driver.said(error) from error

    def read(self, work: Callable[[Connection], T]) -> T:
        """Run `work`, which only reads, beside a writer."""
        self._refuse_fork()
        with self._read_lock:
            try:
                return work(self._reader)
            except self.driver.errors as error:
                raise self.driver.said(error) from error

    def survey(self, work: Callable[[Connection], T]) -> T:
        """Run `work`, which only reads and may take long, on behalf of a caller: nobody else waits for it."""
        return self.spawn(lambda: self._survey(work), "stabilize-survey").result()

    def _survey(self, work: Callable[[Connection], T]) -> T:
        if self.in_memory:
            return self.read(work)
        with closing(self.driver.surveyor()) as connection:
            try:
                return work(connection)
            except self.driver.errors as error:
                raise self.driver.said(error) from error

    def call(self, work: Callable[[], T]) -> T:
        """Run `work` in the thread of the database and wait for it; an interrupt ends only the waiting."""
        if threading.current_thread() is self._door:
            return work()
        reply: Reply[T] = Reply()
        self.post(lambda: reply.fulfil(work))
        return reply.result()

    def post(self, work: Callable[[], Any]) -> None:
        """Have `work`, which is short, run in the thread of the database; do not wait."""
        # Not is_alive: an interrupt inside of it makes Python 3.11 and 3.12 take a living thread for an ended one.
        if self._closed or os.getpid() != self._process:
            msg = f"database {self.url} is closed; open it again"
            raise StoreError(msg)
        self._jobs.put(work)
        if self._closed:
            self._finish_jobs()

    def spawn(self, work: Callable[[], T], name: str) -> Reply[T]:
        """Have `work`, which may be long, run in a thread of its own."""
        reply: Reply[T] = Reply()

        def begin() -> None:
            try:
                threading.Thread(target=reply.fulfil, args=(work,), name=name, daemon=True).start()
            except RuntimeError as error:  # the system has no thread left, or the interpreter ends
                reply.fail(error)

        self.post(begin)
        return reply

    def call_write(self, work: Callable[[Connection], T]) -> T:
        """Write on behalf of a caller that is no engine thread, and tell everybody."""
        result = self.call(lambda: self.write(work))
        self.changes.notify()
        return result

    def order(self, work: Callable[[Connection], Any]) -> None:
        """
        Write an order on behalf of a caller that is no engine thread.

        Where somebody in this process works, it is committed together with what it leads to.
        """
        if threading.current_thread() is self._door:
            self.call_write(work)
        elif (reply := self.call(lambda: self._carried_or_written(work))) is not None:
            reply.result()
        else:
            self.changes.notify()

    def _carried_or_written(self, work: Callable[[Connection], Any]) -> Reply[None] | None:
        reply = self._carried(work)
        if reply is None:
            self.write(work)
        return reply

    def _carried(self, work: Callable[[Connection], Any]) -> Reply[None] | None:
        replies = (courier(work) for courier in self.couriers)
        return next((reply for reply in replies if reply is not None), None)

    def refusal(self, error: Exception) -> Exception:
        """Return the sentence for what a driver said; anything else as it is."""
        return self.driver.said(error) if isinstance(error, self.driver.errors) else error

    def call_read(self, work: Callable[[Connection], T]) -> T:
        """Read on behalf of a caller that is no engine thread."""
        return self.call(lambda: self.read(work))

    @contextmanager
    def at_rest(self) -> Iterator[None]:
        """Let nobody use a connection meanwhile: in a fork, a lock that another thread holds is never freed."""
        locks = dict.fromkeys((self._write_lock, self._read_lock, self._sweep_lock))
        with ExitStack() as held:
            for lock in locks:
                held.enter_context(lock)
            yield

    def write_version(self, busy: int = -1) -> int:
        """Return a number that changes when another process commits; `busy` when the writer is at work just now."""
        if not self._write_lock.acquire(blocking=False):
            return busy
        try:
            return self.driver.version(self._writer)
        except self.driver.errors as error:
            raise self.driver.said(error) from error
        finally:
            self._write_lock.release()

    @property
    def writer(self) -> Connection:
        """The writing connection, for tests that count through its hooks."""
        return self._writer

    def _serve(self) -> None:
        while (work := self._jobs.get()) is not None:
            self._do(work)
        self._closed = True
        self._finish_jobs()

    def _finish_jobs(self) -> None:
        """Do what was asked for while the database was being closed, so that nobody waits for ever."""
        with suppress(Empty):
            while True:
                work = self._jobs.get_nowait()
                if work is not None:
                    self._do(work)

    def _do(self, work: Callable[[], Any]) -> None:
        try:
            work()
        except Exception:
            log.exception("work for the store failed")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
