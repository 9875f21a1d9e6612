"""SQLite through apsw: connections, their settings, and transactions.

WAL with synchronous=FULL unless `durability` or STABILIZE_SQLITE_SYNCHRONOUS says otherwise (contract C6). All
writing of a process goes through one connection guarded by a lock; BEGIN IMMEDIATE takes the database's own.
"""

from __future__ import annotations

import contextlib
import logging
import os
import random
import time
from pathlib import Path
from typing import TYPE_CHECKING

import apsw

from stabilize_nb.errors import ConfigError, SchemaError, StoreDamagedError, StoreError, StoreUnavailableError
from stabilize_nb.secrets.patterns import masked
from stabilize_nb.store.beacon import FileBeacon, has_record_locks
from stabilize_nb.store.connection import DOCUMENTS, Connection
from stabilize_nb.store.driver import Driver
from stabilize_nb.store.files import APPLICATION_ID, advice, has_content, make_private, refuse_unusable
from stabilize_nb.store.queries import statements

if TYPE_CHECKING:
    from collections.abc import Callable

    from stabilize_nb.core.rows import Head
    from stabilize_nb.store.beacon import Beacon

log = logging.getLogger("stabilize_nb")
#: Statements kept prepared: all that a step may run, and few, since apsw looks through all of them for every statement.
PREPARED = 128
DURABILITY = {"full": "FULL", "normal": "NORMAL"}
#: Pages in the WAL at which a writer moves them into the database itself: 4 MiB. Before that a thread beside it does.
CHECKPOINT_LATEST = 1_000
#: Bytes that a frame of the WAL has beside its page.
FRAME_HEAD = 24
#: Frames that one stage takes, from being stored to its end.
FRAMES = 9
#: Bytes by which the WAL is made longer at least, and in one write, of which SQLite takes 128 KiB at most.
ROOM = 1 << 18
AT_ONCE = 1 << 16
#: The part of SQLite's user_version that numbers the schema.
VERSIONS = 0xFFFF
#: Seconds for which a database that comes with a WAL is looked through when it is opened.
LOOK = 0.5
_JOURNAL_MODES = ("WAL", "DELETE", "TRUNCATE", "PERSIST")
_SYNCHRONOUS = ("NORMAL", "FULL", "EXTRA")


def setting(name: str, default: str) -> str:
    """Return an environment setting under either documented prefix."""
    return os.environ.get(f"STABILIZE_NB_{name}") or os.environ.get(f"STABILIZE_{name}") or default


def database_path(url: str) -> str:
    """
    Return the file of a SQLite URL, or ":memory:".

    `sqlite:///relative.db` is relative to the working directory, `sqlite:////absolute.db` is absolute. Its folder is
    given as it is without links, so that a store is one store in a process, by whatever names it is opened.

    Raises ConfigError for any other text.
    """
    prefix = "sqlite:///"
    rest = url.removeprefix(prefix) if url.startswith(prefix) else ""
    if not rest:
        msg = f"{masked(url)!r} is not a SQLite URL: write sqlite:///relative.db, sqlite:////absolute.db or sqlite:///:memory:"
        raise ConfigError(msg)
    if rest == ":memory:":
        return rest
    path = Path(rest)
    return str(Path(os.path.realpath(path.parent), path.name))


class SqliteConnection(Connection):
    """One apsw connection with the engine's settings; used by one thread at a time."""

    BEGIN = "BEGIN IMMEDIATE"

    def __init__(self, path: str, durability: str = "full", *, read_only: bool = False) -> None:
        super().__init__(path, statements())
        self._waits_for_disk = False
        if not read_only and path != ":memory:":
            make_private(path)
        try:
            flags = apsw.SQLITE_OPEN_READONLY if read_only else apsw.SQLITE_OPEN_READWRITE | apsw.SQLITE_OPEN_CREATE
            self._db = apsw.Connection(path, flags=flags, statementcachesize=PREPARED)
        except apsw.Error as error:
            raise store_error(path, error) from error
        try:
            self._limit()
            if not read_only:
                self._configure(durability)
            self._version = self._db.data_version()
            self._cursor = self._db.cursor()  # one for all statements: making one costs as much as a small statement
        except (apsw.Error, UnicodeDecodeError) as error:
            self.close_untouched()
            raise store_error(path, error) from error

    def _limit(self) -> None:
        """Wait for locks of others, and honour nothing that a hostile file may hold."""
        self._db.set_busy_timeout(busy_timeout())
        distrust(self._db)
        # Without it a statement is compiled anew for other values wherever a partial index might serve some of them.
        self._db.config(apsw.SQLITE_DBCONFIG_ENABLE_QPSG, 1)
        self._db.pragma("temp_store", "MEMORY")

    def _configure(self, durability: str) -> None:
        journal = _choice("SQLITE_JOURNAL_MODE", "WAL", _JOURNAL_MODES)
        synchronous = _choice("SQLITE_SYNCHRONOUS", DURABILITY[durability], _SYNCHRONOUS)
        if self.path != ":memory:":
            self._db.pragma("auto_vacuum", "INCREMENTAL")  # of a database that is new; store/retention.py says why
            self._db.pragma("journal_mode", journal)
            self._db.set_wal_hook(self.committed)
        self._db.pragma("synchronous", synchronous)
        self._waits_for_disk = self.path != ":memory:" and journal == "WAL" and synchronous != "NORMAL"

    def committed(self, database: apsw.Connection, _name: str, pages: int) -> int:
        """Note how many pages the WAL holds after a commit, and see to it that they do not become ever more."""
        self.wal_pages = pages
        if pages >= CHECKPOINT_LATEST:
            with contextlib.suppress(apsw.Error):  # it is committed; the next one tries again
                database.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_PASSIVE)
        return apsw.SQLITE_OK

    def begin(self, *, beside: bool = False, careful: bool = True) -> None:
        """Begin to write; what others have committed meanwhile is no longer as it is remembered."""
        super().begin(beside=beside, careful=careful)
        if self._db.data_version() != self._version:
            self._header = None

    def commit(self) -> None:
        """Make everything since `begin` durable."""
        super().commit()
        self._version = self._db.data_version()

    def remember(self, head: Head) -> None:
        """Remember a header."""
        self._header = head

    @property
    def raw(self) -> apsw.Connection:
        """The apsw connection, for tests that count through its hooks."""
        return self._db

    def checkpoint(self) -> None:
        """Move what the WAL holds into the database, as far as that is possible without holding anybody up."""
        with contextlib.suppress(apsw.BusyError, apsw.LockedError):
            self._db.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_PASSIVE)

    def make_room(self, stages: int) -> None:
        """
        Write zeros behind the end of the WAL, which SQLite takes for what an earlier round has left.

        The commit that stores the stages syncs them. A commit that makes a file longer waits for its new length, too:
        each step takes a third less of the disk's time when it overwrites.
        """
        if not self._waits_for_disk:
            return
        frame = FRAME_HEAD + int(self._db.pragma("page_size"))
        most = CHECKPOINT_LATEST * frame
        wanted = min((self.wal_pages + FRAMES * stages) * frame, most)
        wal = f"{self.path}-wal"
        with contextlib.suppress(OSError, apsw.Error):  # whoever has something to write says that the disk is full
            size = Path(wal).stat().st_size
            if size < wanted:
                _fill(wal, size, min(max(wanted, size + ROOM), most))

    def free_pages(self, most: int) -> int:
        """Give back pages at the end of the file, at most so many, inside a transaction; return how many are left."""
        self._cursor.execute(f"PRAGMA incremental_vacuum({most})").fetchall()
        return int(self._db.pragma("freelist_count"))

    def empty_wal(self, patience_ms: int) -> None:
        """Have the file end where the database ends, and the WAL hold nothing, unless somebody reads meanwhile."""
        self._db.set_busy_timeout(patience_ms)
        try:
            with contextlib.suppress(apsw.BusyError, apsw.LockedError):
                self._db.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_TRUNCATE)
        finally:
            self._db.set_busy_timeout(busy_timeout())

    @property
    def in_transaction(self) -> bool:
        """Whether a transaction is open."""
        return self._db.in_transaction

    def _do(self, sql: str) -> None:
        self._cursor.execute(sql)

    def _changes(self) -> int:
        return self._db.changes()

    def _another_cursor(self) -> apsw.Cursor:
        return self._db.cursor()

    def blames_store(self, error: Exception) -> bool:
        """Whether an error is about the database, and not about the row that was to be written."""
        return isinstance(error, apsw.Error) and not isinstance(error, _OF_ROWS)

    def _find_documents(self, name: str, cursor: apsw.Cursor) -> tuple[int, ...]:
        """Return in which columns of a query documents stand; without a row SQLite does not say it."""
        try:
            columns = cursor.get_description()
        except apsw.ExecutionCompleteError:
            return ()
        places = tuple(at for at, (column, *_) in enumerate(columns) if column in DOCUMENTS)
        self._documents[name] = places
        return places

    def data_version(self) -> int:
        """Return a number that changes when another connection commits."""
        version: int = self._db.pragma("data_version")
        return version

    def schema_version(self) -> int:
        """Return the number of the schema; raises SchemaError for a file of another program."""
        application: int = self._db.pragma("application_id")
        tables = self._db.execute("SELECT count(*) FROM sqlite_schema").get
        if application not in (APPLICATION_ID, 0) or (application == 0 and tables):
            msg = (
                f"database {self.path}: it is of another program (application_id {application:#x}); choose another file"
            )
            raise SchemaError(f"{msg} ({advice(self.path)})")
        return int(self._db.pragma("user_version")) & VERSIONS

    def mark(self, version: int) -> None:
        """Say that the file is ours, which schema it has, and by a number which store it is (files.Header.identity)."""
        self._db.pragma("application_id", APPLICATION_ID)
        identity = int(self._db.pragma("user_version")) >> 16 or random.randrange(1, 1 << 15)  # noqa: S311 - no secret
        self._db.pragma("user_version", identity << 16 | version)

    def faults(self, most: int = 20) -> list[str]:
        """Return what SQLite finds wrong with the pages of the file, at most so many sentences."""
        found = [str(row[0]) for row in self._db.execute(f"PRAGMA integrity_check({most})")]
        return [] if found == ["ok"] else found

    def free_bytes(self) -> int:
        """Return how much of the file is free for new rows."""
        return int(self._db.pragma("freelist_count")) * int(self._db.pragma("page_size"))

    def close_untouched(self) -> None:
        """Close the connection and leave what lies in the WAL there."""
        self._db.config(apsw.SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1)
        self.close()

    def close(self) -> None:
        """Close the connection. A disk that fails now loses nothing: what is committed stays in the WAL."""
        try:
            self._db.close()
        except apsw.Error as error:
            log.warning("%s", store_error(self.path, error))


def _choice(name: str, default: str, known: tuple[str, ...]) -> str:
    value = setting(name, default).upper()
    if value not in known:
        msg = f"STABILIZE_{name}={value!r} is not known; expected one of {', '.join(known)}"
        raise ConfigError(msg)
    return value


def _fill(path: str, begin: int, end: int) -> None:
    """Write zeros into a file of SQLite, from one place to another."""
    file = apsw.VFSFile("", path, [apsw.SQLITE_OPEN_WAL | apsw.SQLITE_OPEN_READWRITE, 0])
    try:
        for at in range(begin, end, AT_ONCE):
            file.xWrite(bytes(min(AT_ONCE, end - at)), at)
    finally:
        file.xClose()


def distrust(database: apsw.Connection) -> None:
    """Have SQLite run nothing that stands in a file: no trigger, no view, no function that is not harmless."""
    database.config(apsw.SQLITE_DBCONFIG_ENABLE_TRIGGER, 0)
    database.config(apsw.SQLITE_DBCONFIG_ENABLE_VIEW, 0)
    database.config(apsw.SQLITE_DBCONFIG_DEFENSIVE, 1)
    database.config(apsw.SQLITE_DBCONFIG_ENABLE_LOAD_EXTENSION, 0)
    database.pragma("trusted_schema", False)
    database.pragma("cell_size_check", True)


def busy_timeout() -> int:
    """Return the ms that a lock of another process is waited for."""
    return int(setting("SQLITE_BUSY_TIMEOUT_MS", "30000"))


def refuse_unsound(path: str) -> None:
    """
    Refuse a database of which a WAL makes something that is none: a WAL of another database, or a damaged one.

    A WAL is there when a process has died or works still. What follows from it is looked through for `LOOK` seconds at
    most, and left where it is.

    Raises StoreDamagedError, or StoreUnavailableError when it cannot be read now.
    """
    if not has_content(f"{path}-wal"):
        return
    end = time.monotonic() + LOOK
    try:
        with contextlib.closing(apsw.Connection(path)) as database:
            database.config(apsw.SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1)
            distrust(database)
            database.set_busy_timeout(busy_timeout())
            database.set_progress_handler(lambda: time.monotonic() > end, 1_000)
            found = database.pragma("quick_check", 1)
    except apsw.InterruptError:
        return
    except (apsw.Error, UnicodeDecodeError) as error:
        raise store_error(path, error) from error
    if found != "ok":
        raise damaged(path, f"{path}-wal is damaged or belongs to another database, or the file is: {found}")


def store_error(path: str, error: apsw.Error | UnicodeDecodeError) -> StoreError:
    """Return the sentence for what SQLite said, or for text of the database that is none."""
    if _is_damage(error):
        return damaged(path, str(error))
    known: dict[type[Exception], str] = {
        apsw.CantOpenError: "check that its folder exists and may be written",
        apsw.BusyError: "another process holds it locked",
        apsw.FullError: "the disk is full: free space, then the engine goes on by itself",
        apsw.ReadOnlyError: f"it may not be written; {advice(path)}",
    }
    what = known.get(type(error), advice(path))
    kind = StoreUnavailableError if isinstance(error, _PASSING) else StoreError
    return kind(f"database {path}: {error} ({what})")


def damaged(path: str, what: str) -> StoreDamagedError:
    """Return the sentence for a file that is not as it was written."""
    return StoreDamagedError(
        f"database {path} is damaged: {what} (`stabilize-nb doctor {path}` says what can be saved)"
    )


def _is_damage(error: apsw.Error | UnicodeDecodeError) -> bool:
    """Whether the file is to blame: its pages, its text, or its tables, which are not those that were made."""
    if isinstance(error, apsw.SQLError):
        return any(sign in str(error) for sign in ("no such ", "malformed", "has no column"))
    return isinstance(error, apsw.CorruptError | apsw.NotADBError | UnicodeDecodeError)


#: What is wrong with a row, and not with the database.
_OF_ROWS = (apsw.ConstraintError, apsw.MismatchError, apsw.RangeError, apsw.TooBigError)
#: What may be over when it is tried again.
_PASSING = (apsw.BusyError, apsw.LockedError, apsw.FullError, apsw.IOError, apsw.CantOpenError, apsw.NoMemError)


class SqliteDriver(Driver):
    """A SQLite database: one file, or one in memory that a process shares."""

    errors = (apsw.Error, UnicodeDecodeError)

    def __init__(self, url: str) -> None:
        self.url = self.address = url
        self.path = database_path(url)
        self.in_memory = self.path == ":memory:"

    def exists(self) -> bool:
        """Whether there is such a file."""
        return not self.in_memory and Path(self.path).exists()

    def check(self) -> None:
        """Refuse a file that is no whole database."""
        if not self.in_memory:
            refuse_unusable(self.path)
            refuse_unsound(self.path)

    def connect(self, durability: str) -> SqliteConnection:
        """Open the database."""
        return SqliteConnection(self.path, durability)

    def reader(self, durability: str) -> SqliteConnection:
        """Open it once more."""
        return SqliteConnection(self.path, durability)

    def surveyor(self) -> SqliteConnection:
        """Open it for reading only."""
        return SqliteConnection(self.path, read_only=True)

    def sweeper(self, durability: str) -> SqliteConnection | None:
        """Open it for moving the WAL."""
        return None if self.in_memory else SqliteConnection(self.path, durability)

    def said(self, error: Exception) -> StoreError:
        """Return the sentence for what SQLite said."""
        if not isinstance(error, apsw.Error | UnicodeDecodeError):
            raise error
        return store_error(self.path, error)

    def beacon(self) -> Beacon | None:
        """Return the lights beside the file."""
        return None if self.in_memory or not has_record_locks() else FileBeacon(f"{self.path}.alive")

    def version(self, writer: Connection) -> int:
        """Return SQLite's own number."""
        return writer.data_version() if isinstance(writer, SqliteConnection) else 0

    def listen(self, heard: Callable[[], None]) -> None:
        """Do nothing: SQLite tells nobody."""

    def leave(self, writer: Connection) -> None:
        """Do nothing."""
