"""
PostgreSQL through psycopg: how a store is reached, made, and what its errors mean.

Sessions that write are in postgres_connection.py, what processes hear of each other in postgres_news.py and
postgres_beacon.py.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit
from zlib import crc32

from stabilize_nb.errors import ConfigError, StoreError, StoreUnavailableError
from stabilize_nb.store import dialect
from stabilize_nb.store.driver import Driver, wall_clock

try:
    import psycopg
    from psycopg import sql as pg
except ImportError:
    msg = "PostgreSQL needs psycopg: pip install 'stabilize-nb[postgres]'"
    raise ConfigError(msg) from None

from stabilize_nb.store.postgres_beacon import beacon_of
from stabilize_nb.store.postgres_connection import WRITERS, PostgresConnection
from stabilize_nb.store.postgres_news import News

if TYPE_CHECKING:
    from collections.abc import Callable

    from stabilize_nb.store.beacon import Beacon
    from stabilize_nb.store.connection import Connection

#: Seconds that a server may take to answer.
REACH: Final = 10
#: What may be over when it is tried again.
_PASSING: Final = (psycopg.OperationalError, psycopg.InterfaceError, psycopg.InternalError)


class PostgresDriver(Driver):
    """
    A schema of a PostgreSQL database.

    The URL is libpq's, but for `schema`, which names the schema ("public"). `url` is without user and password.
    """

    errors = (psycopg.Error,)
    tells = True

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
        self._news = News(self)

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
        return beacon_of(self)

    def version(self, writer: Connection) -> int:
        """Return how many commits of others were heard of."""
        return self._news.heard

    def listen(self, heard: Callable[[], None]) -> None:
        """Listen in a thread of its own until `leave`."""
        self._news.begin(heard)

    def tell(self) -> None:
        """Have other processes hear that something was committed, soon and without anybody waiting for it."""
        self._news.tell()

    def leave(self, writer: Connection) -> None:
        """Listen no more, and tell what others have not heard yet."""
        self._news.end()
