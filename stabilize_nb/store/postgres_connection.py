"""
A session of PostgreSQL: what is to be written is sent with the next question, or with the commit.

A transaction of the engine holds the lock of all writers, mostly shared, and those of the workflows it decides about
(docs/postgresql.md, "How writers keep out of each other's way"). So a step asks once and writes once: two round trips.
A part of such a transaction is undone by not sending it. What fails on the server fails all of it, and it is done again
with care: every part in a savepoint.
"""

from __future__ import annotations

from contextlib import suppress
from itertools import islice
from typing import TYPE_CHECKING, Any, ClassVar, Final

import psycopg

from stabilize_nb.errors import SchemaError
from stabilize_nb.store import dialect
from stabilize_nb.store.connection import DOCUMENTS, Connection, Part, hiding
from stabilize_nb.store.pipeline import Order, Pipeline, order

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from stabilize_nb.store.connection import Read
    from stabilize_nb.store.postgres import PostgresDriver

#: The name of a query with its parameters.
Question = tuple[str, tuple[Any, ...]]
DURABILITY: Final = {"full": "on", "normal": "off"}
#: Where the lock of all writers lies, and that of those who decide about claims, beside those of processors.
WRITERS: Final = 0
CLAIMS: Final = -1
#: What is wrong with a row, and not with the database.
_OF_ROWS: Final = (psycopg.IntegrityError, psycopg.DataError)
#: What comes of transactions that got in each other's way.
_PASSING: Final = (psycopg.errors.DeadlockDetected, psycopg.errors.SerializationFailure)
#: Rows that one statement inserts at most.
ROWS: Final = 8
_BEGIN: Final = order("begin", "BEGIN")
_COMMIT: Final = order("commit", "COMMIT")
_ROLLBACK: Final = order("rollback", "ROLLBACK")
_SAVE: Final = order("save", "SAVEPOINT part")
_UNDO: Final = order("undo", "ROLLBACK TO part")
_RELEASE: Final = order("release_part", "RELEASE part")


class SentAlreadyError(Exception):
    """A part is to be undone of which something was sent: the transaction is to be done again with care."""


class PostgresConnection(Connection):
    """One psycopg connection; used by one thread at a time. It connects anew after the server was gone."""

    BEGIN = "BEGIN"
    FORESEES: ClassVar[bool] = True
    BUSY: ClassVar[int] = 5

    def __init__(self, driver: PostgresDriver, durability: str, *, read_only: bool = False) -> None:
        super().__init__(driver.path, dialect.statements())
        self._driver = driver
        self._reads = read_only
        self._settings = {
            "synchronous_commit": DURABILITY[durability],
            "default_transaction_read_only": "on" if read_only else "off",
        }
        self._outbox: list[Order] = []
        self._foreseen: dict[Question, Sequence[Sequence[Any]]] = {}
        self._about: dict[str, list[Question]] = {}  # workflow -> what was foreseen of it
        self._beside = False
        self._careful = True  # parts are savepoints
        self._in_savepoint = False
        self._begun = False
        self._wrote = False
        self._kept = 0  # orders in the outbox that stay there when the part is undone
        self._part_was_sent = False
        place = driver.space
        self._alone = order("lock_alone", "SELECT pg_advisory_xact_lock($1, $2)", (place, WRITERS))
        self._shared = order("lock_beside", "SELECT pg_advisory_xact_lock_shared($1, $2)", (place, WRITERS))
        self._claims = order("lock_alone", "SELECT pg_advisory_xact_lock($1, $2)", (place, CLAIMS))
        self._news = order("notify", f"NOTIFY {driver.channel}, '{driver.voice}'")
        try:
            self._connect()
        except psycopg.Error as error:
            raise driver.said(error) from error

    def _connect(self) -> None:
        self._db = self._driver.session(self._settings)
        self.pipeline = Pipeline(self._db)

    @property
    def raw(self) -> psycopg.Connection[Any]:
        """The psycopg connection."""
        self._send()
        self._wrote = True
        return self._db

    @property
    def in_transaction(self) -> bool:
        """Whether a transaction is open."""
        idle = psycopg.pq.TransactionStatus.IDLE
        return not self._db.closed and bool(self._outbox or self._db.info.transaction_status != idle)

    # -- transactions -----------------------------------------------------------------------------

    def begin(self, *, beside: bool = False, careful: bool = True) -> None:
        """Begin a transaction that may write: beside others, or once there is no other one."""
        if self._db.closed:
            self._connect()
        self._beside, self._careful, self._in_savepoint = beside, careful, False
        self._begun = self._wrote = False  # nothing was sent yet, nothing is to be kept
        self._part = Part.FIRST
        self._shelf.clear()
        self._foreseen.clear()
        self._about.clear()
        self._outbox = [_BEGIN, self._shared if beside else self._alone]

    def commit(self) -> None:
        """Make everything since `begin` durable, and tell the listeners of other processes."""
        if self._wrote and not self._beside:
            self._outbox.append(self._news)
        if self._wrote or self._begun:
            (ended,) = self._send(_COMMIT)
            if ended.command_status != b"COMMIT":
                raise psycopg.OperationalError("the server has undone the transaction")
        self._outbox.clear()
        self._shelf.clear()
        if self._wrote and self._beside:
            self._driver.tell()

    def rollback(self) -> None:
        """Undo everything since `begin`; a server that is gone has done so."""
        self._outbox.clear()
        with suppress(psycopg.Error):
            if self.in_transaction:
                self._send(_ROLLBACK)

    def begin_part(self) -> None:
        """Begin a part of the transaction that can be undone for itself."""
        if self._careful:
            self._outbox.append(_SAVE)
            self._in_savepoint = True
        self._kept = len(self._outbox)
        self._part_was_sent = False

    def undo_part(self) -> None:
        """Undo everything since `begin_part`; the part goes on. Raises SentAlreadyError when that cannot be."""
        self._shelf.clear()
        if self._careful:
            del self._outbox[self._kept :]
            self._send(_UNDO)
        elif self._part_was_sent:
            raise SentAlreadyError
        else:
            del self._outbox[self._kept :]

    def end_part(self) -> None:
        """End the part; what it wrote belongs to the transaction."""
        if self._careful:
            self._outbox.append(_RELEASE)
            self._in_savepoint = False
        self._part = Part.LATER

    def wants_again(self, error: BaseException) -> bool:
        """Whether a transaction that failed may succeed when it is done again with care."""
        if not self._beside or self._db.closed:
            return False
        if isinstance(error, (SentAlreadyError, *_PASSING)):
            return True
        return not self._careful and isinstance(error, psycopg.Error) and error.sqlstate is not None

    def blames_store(self, error: Exception) -> bool:
        """Whether an error is about the database, and not about the row that was to be written in this part."""
        if isinstance(error, SentAlreadyError):
            return True
        return isinstance(error, psycopg.Error) and not (self._careful and isinstance(error, _OF_ROWS))

    def lock_claims(self) -> None:
        """Let nobody else decide about claims before this transaction has ended."""
        if not self._reads:
            self._outbox.append(self._claims)

    def wait_for_writers(self) -> bool:
        """Wait until each transaction that has its lock of all writers has ended; another one may have begun."""
        self._send(self._alone)
        return True

    # -- statements -------------------------------------------------------------------------------

    def foresee(self, reads: Sequence[Read]) -> None:
        """Ask everything at once; the answers are there until something is foreseen of the same workflow anew."""
        for workflow_id in {read.workflow_id for read in reads}:
            for question in self._about.pop(workflow_id, ()):
                self._foreseen.pop(question, None)
        asked = [order(read.name, *self._worded(read.name, read.params)) for read in reads]
        for read, result in zip(reads, self._send(*asked), strict=True):
            self._find_documents(read.name, result)
            rows = self.pipeline.rows(result)
            if rows or not read.known_as:
                name = read.known_as or read.name
                self._documents[name] = self._documents[read.name]
                question = name, self._statements[name].values(read.params)
                self._foreseen[question] = rows
                self._about.setdefault(read.workflow_id, []).append(question)

    def foresaw(self, name: str, params: Mapping[str, Any]) -> bool:
        """Whether the answer to a query is there."""
        return (name, self._statements[name].values(params)) in self._foreseen

    def run(self, name: str, params: Mapping[str, Any]) -> None:
        """Have a statement sent with the next question; within a part that is done with care at once."""
        sql, values = self._statements[name]
        self._write(order(name, sql, hiding(values(params))))

    def changed(self, name: str, params: Mapping[str, Any]) -> int:
        """Run a statement and return how many rows it changed."""
        sql, values = self._statements[name]
        self._wrote = True
        (result,) = self._send(order(name, sql, hiding(values(params))))
        self._part_was_sent = True
        return int(result.command_tuples or 0)

    def must(self, name: str, params: Mapping[str, Any]) -> bool:
        """Run a statement that must change a row; without care it fails the transaction when it does not."""
        if self._careful:
            return super().must(name, params)
        values = self._statements[name].values(params)
        self._write(order(f"must_{name}", dialect.insisting(name), hiding(values)))
        return True

    def many(self, name: str, rows: Iterable[Mapping[str, Any]]) -> None:
        """Run a statement for each row; several rows are inserted by one."""
        sql, values = self._statements[name]
        left = iter([hiding(values(row)) for row in rows])
        most = ROWS if name == "insert_event" else 1
        while some := list(islice(left, most)):
            text = sql if len(some) == 1 else dialect.repeated(name, len(some))
            self._write(order(f"{name}_{len(some)}", text, [value for row in some for value in row]))

    def script(self, sql: str) -> None:
        """Run a migration."""
        self._do(dialect.schema(sql))

    def _do(self, sql: str) -> None:
        self._send()
        self._wrote = True
        self._db.execute(sql, prepare=False)

    def _fetch(self, name: str, params: Mapping[str, Any]) -> Sequence[Sequence[Any]]:
        if self._reads and self._db.closed:
            self._connect()
        sql, values = self._worded(name, params)
        rows = self._foreseen.pop((name, values), None) if self._foreseen else None
        if rows is None:
            (result,) = self._send(order(name, sql, values))
            self._find_documents(name, result)
            rows = self.pipeline.rows(result)
        return self._whole(name, rows)

    def _worded(self, name: str, params: Mapping[str, Any]) -> tuple[str, tuple[Any, ...]]:
        statement = self._statements[name]
        return statement.sql, statement.values(params)

    def _write(self, what: Order) -> None:
        self._wrote = True
        self._outbox.append(what)
        if self._in_savepoint:
            self._send()

    def _send(self, *last: Order) -> list[Any]:
        """Send what is in the outbox and these orders, and return the results of these."""
        self._part_was_sent = self._part_was_sent or len(self._outbox) > self._kept
        orders, self._outbox, self._kept, self._begun = [*self._outbox, *last], [], 0, True
        return self.pipeline.send(orders)[len(orders) - len(last) :] if orders else []

    def _changes(self) -> int:
        raise NotImplementedError

    def _another_cursor(self) -> psycopg.RawCursor[Any]:
        self._send()
        return psycopg.RawCursor(self._db)

    def _find_documents(self, name: str, result: Any) -> tuple[int, ...]:
        if name not in self._documents:
            if isinstance(result, psycopg.RawCursor):
                columns = [column.name for column in result.description or ()]
            else:
                columns = [result.fname(place).decode() for place in range(result.nfields)]
            self._documents[name] = tuple(at for at, column in enumerate(columns) if column in DOCUMENTS)
        return self._documents[name]

    # -- the store --------------------------------------------------------------------------------

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
