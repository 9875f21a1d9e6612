"""
PostgreSQL through psycopg: connections, transactions, what other processes commit, and who lives.

A transaction that writes holds one lock of its schema from its beginning to its end, as BEGIN IMMEDIATE does in SQLite:
decisions are made one after the other, in whichever process, and the numbers of facts are in the order of commits.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Final
from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit
from zlib import crc32

from stabilize_nb.errors import ConfigError, SchemaError, StoreError, StoreUnavailableError
from stabilize_nb.store import dialect
from stabilize_nb.store.beacon import Beacon
from stabilize_nb.store.connection import DOCUMENTS, Connection
from stabilize_nb.store.driver import Driver, wall_clock

try:
    import psycopg
    from psycopg import sql as pg
except ImportError:
    msg = "PostgreSQL needs psycopg: pip install 'stabilize-nb[postgres]'"
    raise ConfigError(msg) from None

log = logging.getLogger("stabilize_nb")
DURABILITY: Final = {"full": "on", "normal": "off"}
#: Seconds after which a listener tries again to reach a server that is gone.
AGAIN: Final = 0.5
#: Seconds for which a listener waits before it looks whether it is still wanted.
PATIENCE: Final = 1.0
#: Seconds that a server may take to answer.
REACH: Final = 10
#: Where the lock of all writers lies, beside those of processors.
WRITERS: Final = 0
#: What is wrong with a row, and not with the database.
_OF_ROWS: Final = (psycopg.IntegrityError, psycopg.DataError)
#: What may be over when it is tried again.
_PASSING: Final = (psycopg.OperationalError, psycopg.InterfaceError, psycopg.InternalError)


class PostgresConnection(Connection):
    """One psycopg connection; used by one thread at a time. It connects anew after the server was gone."""

    BEGIN = "BEGIN"

    def __init__(self, driver: PostgresDriver, durability: str, *, read_only: bool = False) -> None:
        super().__init__(driver.path, dialect.statements())
        self._driver = driver
        self._reads = read_only
        self._settings = {
            "synchronous_commit": DURABILITY[durability],
            "default_transaction_read_only": "on" if read_only else "off",
        }
        try:
            self._connect()
        except psycopg.Error as error:
            raise driver.said(error) from error

    def _connect(self) -> None:
        self._db = self._driver.session(self._settings)
        self._cursor = psycopg.RawCursor(self._db)

    @property
    def raw(self) -> psycopg.Connection[Any]:
        """The psycopg connection."""
        return self._db

    @property
    def in_transaction(self) -> bool:
        """Whether a transaction is open."""
        return not self._db.closed and self._db.info.transaction_status != psycopg.pq.TransactionStatus.IDLE

    def begin(self) -> None:
        """Begin a transaction that may write, once no other one does."""
        if self._db.closed:
            self._connect()
        super().begin()

    def _fetch(self, name: str, params: Any) -> Any:
        if self._reads and self._db.closed:
            self._connect()
        return super()._fetch(name, params)

    def commit(self) -> None:
        """Make everything since `begin` durable, and tell the listeners of other processes."""
        self._do(f"NOTIFY {self._driver.channel}, '{self._driver.voice}'; COMMIT")
        self._shelf.clear()

    def rollback(self) -> None:
        """Undo everything since `begin`; a server that is gone has done so."""
        with suppress(psycopg.Error):
            super().rollback()

    def script(self, sql: str) -> None:
        """Run a migration."""
        self._do(dialect.schema(sql))

    def _do(self, sql: str) -> None:
        if sql == self.BEGIN:
            sql = f"BEGIN; SELECT pg_advisory_xact_lock({self._driver.space}, {WRITERS})"
        self._cursor.execute(sql, prepare=False)

    def _changes(self) -> int:
        return int(self._cursor.rowcount)

    def _another_cursor(self) -> psycopg.RawCursor[Any]:
        return psycopg.RawCursor(self._db)

    def _find_documents(self, name: str, cursor: Any) -> tuple[int, ...]:
        places = tuple(at for at, column in enumerate(cursor.description or ()) if column.name in DOCUMENTS)
        self._documents[name] = places
        return places

    def blames_store(self, error: Exception) -> bool:
        """Whether an error is about the database, and not about the row that was to be written."""
        return isinstance(error, psycopg.Error) and not isinstance(error, _OF_ROWS)

    def schema_version(self) -> int:
        """Return how many migrations the schema has had; raises SchemaError for tables of another program."""
        tables = {row[0] for row in self.all("doctor_tables", {})}
        if not tables:
            return 0
        if not {"migration", "workflow"} <= tables:
            raise SchemaError(
                f"{self.path} has tables of another program ({', '.join(sorted(tables)[:3])}, ...); name a schema of "
                "its own with ?schema=stabilize at the end of the URL"
            )
        return len(self.all("migrations", {}))

    def mark(self, version: int) -> None:
        """Do nothing: the table of migrations says it."""

    def close(self) -> None:
        """Close the connection."""
        self._db.close()

    def close_untouched(self) -> None:
        """Close the connection."""
        self.close()


class PostgresDriver(Driver):
    """
    A schema of a PostgreSQL database.

    The URL is libpq's, but for `schema`, which names the schema ("public"). `url` is without user and password.
    """

    errors = (psycopg.Error,)

    def __init__(self, url: str) -> None:
        self.address = url
        parts = urlsplit(url)
        options = parse_qsl(parts.query, keep_blank_values=True)
        self.schema = dict(options).get("schema", "public")
        kept = [(name, value) for name, value in options if name != "schema"]
        self._dsn = urlunsplit(parts._replace(query=urlencode(kept))) if len(kept) < len(options) else url
        place = parts.netloc.rpartition("@")[2]
        self.url = self.path = f"postgresql://{place}{parts.path}?schema={self.schema}"
        self.place = crc32(self.schema.encode())
        self.space = self.place - (1 << 32) if self.place >> 31 else self.place  # the same bits with a sign
        self.channel = f"stabilize_{self.place:08x}"
        self.voice = ""
        self._ahead = 0  # ms by which the clock of the server is ahead of the one here
        self._heard = 0
        self._listener: threading.Thread | None = None
        self._leaving = threading.Event()

    def session(self, settings: dict[str, str]) -> psycopg.Connection[Any]:
        """Connect; raises psycopg.Error."""
        session = psycopg.connect(self._dsn, autocommit=True, connect_timeout=REACH)
        try:
            names = {"search_path": self.schema, "client_encoding": "UTF8", **settings}
            for name, value in names.items():
                session.execute(pg.SQL("SET {} TO {}").format(pg.Identifier(name), pg.Literal(value)))
        except BaseException:
            session.close()
            raise
        return session

    def clock(self) -> int:
        """Return the time of the server, as far as it was ahead of the one here when it was reached."""
        return wall_clock() + self._ahead

    def exists(self) -> bool:
        """Suppose so: only the server knows."""
        return True

    def check(self) -> None:
        """Reach the server, and make the schema with its functions when it is not there."""
        try:
            with self.session({}) as session:
                self.voice = f"{session.info.backend_pid}.{time.time_ns():x}"
                before = wall_clock()
                row = session.execute("SELECT CAST(extract(epoch FROM clock_timestamp()) * 1000 AS bigint)").fetchone()
                self._ahead = (row[0] if row else before) - (before + wall_clock()) // 2
                self._make_schema(session)
        except psycopg.Error as error:
            raise self.said(error) from error

    def _make_schema(self, session: psycopg.Connection[Any]) -> None:
        there = "SELECT to_regprocedure('each_of(text,text)') IS NOT NULL"
        row = session.execute(there).fetchone()
        if row and row[0]:
            return
        with session.transaction():
            session.execute(f"SELECT pg_advisory_xact_lock({self.space}, {WRITERS})")
            session.execute(pg.SQL("CREATE SCHEMA IF NOT EXISTS {}").format(pg.Identifier(self.schema)))
            row = session.execute(there).fetchone()
            if not (row and row[0]):
                session.execute(dialect.functions(pg.Identifier(self.schema).as_string(session)))

    def connect(self, durability: str) -> PostgresConnection:
        """Connect."""
        return PostgresConnection(self, durability)

    def reader(self, durability: str) -> PostgresConnection:
        """Connect once more."""
        return PostgresConnection(self, durability, read_only=True)

    def surveyor(self) -> PostgresConnection:
        """Connect for reading only."""
        return PostgresConnection(self, "normal", read_only=True)

    def said(self, error: Exception) -> StoreError:
        """Return the sentence for what the server or psycopg said; it names no password."""
        what = " ".join(str(error).split()) or type(error).__name__
        if isinstance(error, psycopg.errors.InsufficientPrivilege):
            what += "; the role needs CREATE in the schema"
        kind = StoreUnavailableError if isinstance(error, _PASSING) else StoreError
        return kind(f"database {self.path}: {what}")

    def beacon(self) -> Beacon:
        """Return locks of a session of this process."""
        return self._beacon

    @property
    def _beacon(self) -> SessionBeacon:
        with _lock:
            return _beacons.setdefault(self.path, SessionBeacon(self))

    def version(self, writer: Connection) -> int:
        """Return how many commits of others were heard of."""
        return self._heard

    def listen(self, heard: Callable[[], None]) -> None:
        """Listen in a thread of its own until `leave`."""
        self._leaving.clear()
        self._listener = threading.Thread(target=self._listen, args=(heard,), name="stabilize-listen", daemon=True)
        self._listener.start()

    def leave(self, writer: Connection) -> None:
        """Listen no more; the listener hears of that as of a commit."""
        self._leaving.set()
        with suppress(psycopg.Error):
            writer.script(f"NOTIFY {self.channel}")
        if self._listener is not None:
            self._listener.join(PATIENCE)

    def _listen(self, heard: Callable[[], None]) -> None:
        while not self._leaving.is_set():
            try:
                with self.session({}) as session:
                    session.execute(f"LISTEN {self.channel}")
                    self._hear(heard)  # what was told while nobody listened
                    while not self._leaving.is_set():
                        for told in session.notifies(timeout=PATIENCE, stop_after=1):
                            if told.payload != self.voice:
                                self._hear(heard)
            except psycopg.Error:
                self._leaving.wait(AGAIN)

    def _hear(self, heard: Callable[[], None]) -> None:
        self._heard += 1
        heard()


_lock = threading.Lock()
_beacons: dict[str, SessionBeacon] = {}


class SessionBeacon(Beacon):
    """Lights as advisory locks of one session of this process, which the server frees when the session ends."""

    def __init__(self, driver: PostgresDriver) -> None:
        self._driver = driver
        self._session: psycopg.Connection[Any] | None = None
        self._lit: set[int] = set()
        self._users = 0
        self._guard = threading.Lock()

    def open(self) -> None:
        """Connect, once a process."""
        with self._guard:
            self._users += 1

    def light(self, slot: int) -> None:
        """Take a lock."""
        with self._guard:
            self._lit.add(slot)
            self._take({slot})

    def douse(self, slot: int) -> None:
        """Give a lock back."""
        with self._guard:
            self._lit.discard(slot)
            if self._session is not None:
                with suppress(psycopg.Error):
                    self._session.execute(f"SELECT pg_advisory_unlock({self._driver.space}, {slot})")

    def close(self) -> None:
        """Disconnect when nobody here needs it any more."""
        with self._guard:
            self._users -= 1
            if not self._users and self._session is not None:
                self._session.close()
                self._session = None

    def keep(self) -> None:
        """Take the locks again when the server was gone."""
        with self._guard:
            if self._session is not None:
                with suppress(psycopg.Error):
                    self._session.execute("SELECT 1")
            if self._lit and (self._session is None or self._session.closed):
                self._take(set())

    def _take(self, slots: set[int]) -> None:
        """Lock slots; all of them in a new session."""
        try:
            if self._session is None or self._session.closed:
                self._session, slots = self._driver.session({}), self._lit
            for slot in slots:
                self._session.execute(f"SELECT pg_advisory_lock({self._driver.space}, {slot})")
        except psycopg.Error as error:
            raise self._driver.said(error) from error

    def is_lit(self, connection: Connection, slot: int, host: str) -> bool:
        """Whether some session holds a lock."""
        row = connection.one("beacon_is_lit", {"space": self._driver.place, "slot": slot})
        return bool(row and row[0])
