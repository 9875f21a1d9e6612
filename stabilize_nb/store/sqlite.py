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
from enum import Enum
from itertools import islice, repeat
from operator import contains
from pathlib import Path
from typing import TYPE_CHECKING, Any

import apsw

from stabilize_nb.errors import ConfigError, SchemaError, StoreDamagedError, StoreError, StoreUnavailableError
from stabilize_nb.secrets.hiding import HIDDEN, hide
from stabilize_nb.secrets.patterns import masked
from stabilize_nb.store.blobs import (
    INLINE,
    REFERENCE,
    Shelf,
    digest_of,
    has_long_text,
    joined,
    pieces,
    with_blobs,
)
from stabilize_nb.store.codec import Referring, dumps
from stabilize_nb.store.files import APPLICATION_ID, advice, has_content, make_private
from stabilize_nb.store.queries import statements

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from stabilize_nb.store.blobs import Get

log = logging.getLogger("stabilize_nb")
#: Statements kept prepared: more than a step runs, and few, since apsw looks through all of them for every statement.
PREPARED = 64
#: Rows that a query of very many gives at a time: few enough to stay in the caches of the processor.
BLOCK = 256
DURABILITY = {"full": "FULL", "normal": "NORMAL"}
#: Pages in the WAL at which a writer moves them into the database itself: 16 MiB. Before that a thread beside it does.
CHECKPOINT_LATEST = 4_000
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

    `sqlite:///relative.db` is relative to the working directory, `sqlite:////absolute.db` is absolute.

    Raises ConfigError for any other text.
    """
    prefix = "sqlite:///"
    rest = url.removeprefix(prefix) if url.startswith(prefix) else ""
    if not rest:
        msg = f"{masked(url)!r} is not a SQLite URL: write sqlite:///relative.db, sqlite:////absolute.db or sqlite:///:memory:"
        raise ConfigError(msg)
    return rest if rest == ":memory:" else str(Path(rest).absolute())


#: How JSON text begins that is no bare number or word.
_JSON = frozenset('{["')
#: Columns with documents that may refer to blobs.
DOCUMENTS = frozenset({"context", "outputs", "data", "payload", "value", "signal"})


class Part(Enum):
    """Where a transaction of several parts is."""

    FIRST = "FIRST"  # nothing was written before
    LATER = "LATER"


class Connection:
    """One apsw connection with the engine's settings; used by one thread at a time."""

    def __init__(self, path: str, durability: str = "full", *, read_only: bool = False) -> None:
        self.path = path
        self._part = Part.FIRST
        self._shelf = Shelf(self._keep)
        self._documents: dict[str, tuple[int, ...]] = {}  # name of a query -> which columns are documents
        self._statements = statements()
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
            self._cursor = self._db.cursor()  # one for all statements: making one costs as much as a small statement
        except (apsw.Error, UnicodeDecodeError) as error:
            self.close_untouched()
            raise store_error(path, error) from error

    def _limit(self) -> None:
        """Wait for locks of others, and honour nothing that a hostile file may hold."""
        self._db.set_busy_timeout(busy_timeout())
        distrust(self._db)
        self._db.pragma("temp_store", "MEMORY")

    def _configure(self, durability: str) -> None:
        journal = _choice("SQLITE_JOURNAL_MODE", "WAL", _JOURNAL_MODES)
        synchronous = _choice("SQLITE_SYNCHRONOUS", DURABILITY[durability], _SYNCHRONOUS)
        if self.path != ":memory:":
            self._db.pragma("auto_vacuum", "INCREMENTAL")  # of a database that is new; store/retention.py says why
            self._db.pragma("journal_mode", journal)
            self._db.wal_autocheckpoint(CHECKPOINT_LATEST)
        self._db.pragma("synchronous", synchronous)

    @property
    def raw(self) -> apsw.Connection:
        """The apsw connection, for tests that count through its hooks."""
        return self._db

    def checkpoint(self) -> None:
        """Move what the WAL holds into the database, as far as that is possible without holding anybody up."""
        with contextlib.suppress(apsw.BusyError, apsw.LockedError):
            self._db.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_PASSIVE)

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

    def begin(self) -> None:
        """Begin a transaction that may write."""
        self._cursor.execute("BEGIN IMMEDIATE")
        self._part = Part.FIRST
        self._shelf.clear()

    def commit(self) -> None:
        """Make everything since `begin` durable."""
        self._cursor.execute("COMMIT")
        self._shelf.clear()

    def rollback(self) -> None:
        """Undo everything since `begin`."""
        if self._db.in_transaction:
            self._cursor.execute("ROLLBACK")

    def begin_part(self) -> None:
        """Begin a part of the transaction that can be undone for itself; the first needs no savepoint for that."""
        if self._part is Part.LATER:
            self._cursor.execute("SAVEPOINT part")

    def undo_part(self) -> None:
        """Undo everything since `begin_part`; the part goes on."""
        self._shelf.clear()
        if self._part is Part.LATER:
            self._cursor.execute("ROLLBACK TO part")
        else:
            self._cursor.execute("ROLLBACK")
            self._cursor.execute("BEGIN IMMEDIATE")

    def end_part(self) -> None:
        """End the part; what it wrote belongs to the transaction."""
        if self._part is Part.LATER:
            self._cursor.execute("RELEASE part")
        self._part = Part.LATER

    def script(self, sql: str) -> None:
        """Run several statements."""
        self._cursor.execute(sql)

    def one(self, name: str, params: Mapping[str, Any]) -> Sequence[Any] | None:
        """Return the row of a named query that has at most one; it is read to its end, so no read stays open."""
        rows = self._fetch(name, params)
        return rows[0] if rows else None

    def all(self, name: str, params: Mapping[str, Any]) -> list[Sequence[Any]]:
        """Return all rows of a named query."""
        return list(self._fetch(name, params))

    def _fetch(self, name: str, params: Mapping[str, Any]) -> Sequence[Sequence[Any]]:
        """Return rows whose documents know what the blobs hold to which they refer."""
        sql, values = self._statements[name]
        cursor = self._cursor.execute(sql, values(params))
        places = self._documents.get(name)
        if places is None:
            places = self._find_documents(name, cursor)
        rows = cursor.fetchall()
        for row in rows:
            for place in places:
                text: Any = row[place]
                if text.__class__ is str and REFERENCE in text:
                    return self._filled(rows, self._getter())
        return rows

    def blocks(self, name: str, params: Mapping[str, Any]) -> Iterator[Sequence[Sequence[Any]]]:
        """Yield the columns of a named query, `BLOCK` rows at a time: what nobody keeps of them takes no memory."""
        sql, values = self._statements[name]
        get = self._getter()
        with contextlib.closing(self._db.cursor()) as cursor:  # large parts are read meanwhile, through the other one
            cursor.execute(sql, values(params))
            places = self._documents.get(name) or self._find_documents(name, cursor)
            while rows := list(islice(cursor, BLOCK)):
                columns = list(zip(*rows, strict=True))
                for place in places:
                    if any(map(contains, columns[place], repeat(REFERENCE))):
                        columns[place] = tuple(with_blobs(text, get) for text in columns[place])
                yield columns

    def _find_documents(self, name: str, cursor: apsw.Cursor) -> tuple[int, ...]:
        """Return in which columns of a query documents stand; without a row SQLite does not say it."""
        try:
            columns = cursor.get_description()
        except apsw.ExecutionCompleteError:
            return ()
        places = tuple(at for at, (column, *_) in enumerate(columns) if column in DOCUMENTS)
        self._documents[name] = places
        return places

    def _getter(self) -> Get:
        """Return what gets the value of a blob, each once."""
        known: dict[str, Any] = {}

        def get(digest: str) -> Any:
            if digest not in known:
                pieces = [row[0] for row in self.all("blob", {"digest": digest})]
                if not pieces:
                    raise StoreDamagedError(
                        f"{self.path} lacks the large value {digest}; was its workflow deleted just now?"
                    )
                known[digest] = joined(pieces, get)
            return known[digest]

        return get

    def _filled(self, rows: Sequence[Sequence[Any]], get: Get) -> list[Sequence[Any]]:
        return [tuple(with_blobs(value, get) if isinstance(value, str) else value for value in row) for row in rows]

    def text(self, workflow_id: str, value: Any) -> str:
        """Return a value of a workflow as JSON text, in which references stand for what is large in it."""
        return self._small_text(value) or dumps(self._shelf.smaller(workflow_id, value))

    def record_text(self, workflow_id: str, record: dict[str, Any]) -> str:
        """Return a fact or a message as JSON text, in which references stand for what is large in its fields."""
        return self._small_text(record) or dumps(self._shelf.parts(workflow_id, record))

    def _small_text(self, value: Any) -> str:
        if self._shelf.used or has_long_text(value):
            return ""
        text = dumps(value)
        return text if len(text) <= INLINE else ""

    def own(self, workflow_id: str, text: str) -> str:
        """Return the text of a fact or a message of another database as it stands in this one."""
        return self.record_text(workflow_id, text.document) if isinstance(text, Referring) else text

    def _keep(self, workflow_id: str, text: str) -> str:
        """Keep a text once, whoever uses it, and return its digest."""
        here = {"digest": digest_of(text)}
        if self.run("use_blob", {"workflow_id": workflow_id, **here}) and not self.one("blob_is_kept", here):
            rows = ({**here, "part": part, "data": piece} for part, piece in enumerate(pieces(text)))
            self.many("insert_blob", rows)
        return here["digest"]

    def run(self, name: str, params: Mapping[str, Any]) -> int:
        """Run a named statement and return how many rows it changed."""
        sql, values = self._statements[name]
        self._cursor.execute(sql, _hiding(values(params)))
        return self._db.changes()

    def many(self, name: str, rows: Iterable[Mapping[str, Any]]) -> None:
        """Run a named statement for each row."""
        sql, values = self._statements[name]
        self._cursor.executemany(sql, map(_hiding, map(values, rows)))

    def data_version(self) -> int:
        """Return a number that changes when another connection commits."""
        version: int = self._db.pragma("data_version")
        return version

    def user_version(self) -> int:
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


def _hiding(values: tuple[Any, ...]) -> tuple[Any, ...]:
    """Return what is written, without values of secrets: JSON text has none any more, names and errors may."""
    if not HIDDEN.forms:
        return values
    return tuple(each if each.__class__ is not str or each[:1] in _JSON else hide(each) for each in values)


def _choice(name: str, default: str, known: tuple[str, ...]) -> str:
    value = setting(name, default).upper()
    if value not in known:
        msg = f"STABILIZE_{name}={value!r} is not known; expected one of {', '.join(known)}"
        raise ConfigError(msg)
    return value


def distrust(database: apsw.Connection) -> None:
    """Have SQLite run nothing that stands in a file: no trigger, no view, no function that is not harmless."""
    database.config(apsw.SQLITE_DBCONFIG_ENABLE_TRIGGER, 0)
    database.config(apsw.SQLITE_DBCONFIG_ENABLE_VIEW, 0)
    database.config(apsw.SQLITE_DBCONFIG_DEFENSIVE, 1)
    database.config(apsw.SQLITE_DBCONFIG_ENABLE_LOAD_EXTENSION, 0)
    database.pragma("trusted_schema", False)
    database.pragma("cell_size_check", True)


def is_of_store(error: Exception) -> bool:
    """Whether an error of SQLite is about the database, and not about the row that was to be written."""
    return isinstance(error, apsw.Error) and not isinstance(error, _OF_ROWS)


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
