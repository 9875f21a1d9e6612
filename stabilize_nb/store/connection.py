"""
A connection to a store, whichever database holds it: transactions in parts, named queries, documents with large parts.

What differs between databases is in store/sqlite.py and store/postgres.py.
"""

from __future__ import annotations

import contextlib
from abc import ABC, abstractmethod
from enum import Enum
from itertools import islice, repeat
from operator import contains
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

from stabilize_nb.errors import StoreDamagedError
from stabilize_nb.secrets.hiding import HIDDEN, hide
from stabilize_nb.store.blobs import INLINE, REFERENCE, Shelf, digest_of, joined, pieces, with_blobs
from stabilize_nb.store.codec import Referring, dumps

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from stabilize_nb.core.rows import Head
    from stabilize_nb.store.blobs import Get
    from stabilize_nb.store.queries import Statement

#: Rows that a query of very many gives at a time: few enough to stay in the caches of the processor.
BLOCK = 256
#: How JSON text begins that is no bare number or word.
_JSON = frozenset('{["')
_MAPPINGS = frozenset({dict, MappingProxyType})
#: Columns with documents that may refer to blobs.
DOCUMENTS = frozenset({"context", "outputs", "data", "payload", "value", "signal"})


class Part(Enum):
    """Where a transaction of several parts is."""

    FIRST = "FIRST"  # nothing was written before
    LATER = "LATER"


class Read(NamedTuple):
    """A query about a workflow that will be asked. `known_as`: the one that it answers when it finds something."""

    workflow_id: str
    name: str
    params: Mapping[str, Any]
    known_as: str = ""


class Connection(ABC):
    """One connection of a database's driver; used by one thread at a time. `path` is what messages call the store."""

    #: What begins a transaction that may write.
    BEGIN: ClassVar[str]
    #: Whether queries cost a round trip, so that it helps to say beforehand which will be asked.
    FORESEES: ClassVar[bool] = False
    #: Milliseconds after which is looked again for messages that another transaction has in hand; 0: there is none.
    BUSY: ClassVar[int] = 0
    #: A cursor of the driver: `execute`, `executemany`, `fetchall`, iteration over rows.
    _cursor: Any

    def __init__(self, path: str, statements: Mapping[str, Statement]) -> None:
        self.path = path
        self._statements = statements
        self.wal_pages = 0  # after the last commit; 0 where there is no such file
        self._part = Part.FIRST
        self._shelf = Shelf(self._keep)
        self._header: Head | None = None  # that was written last, and nothing since
        self._documents: dict[str, tuple[int, ...]] = {}  # name of a query -> which columns are documents

    @abstractmethod
    def _do(self, sql: str) -> None:
        """Run what has no parameters and gives nothing."""

    @abstractmethod
    def _changes(self) -> int:
        """Return how many rows the last statement changed."""

    @abstractmethod
    def _another_cursor(self) -> Any:
        """Return a cursor beside the one of the connection."""

    @abstractmethod
    def _find_documents(self, name: str, cursor: Any) -> tuple[int, ...]:
        """Return in which columns of a query that was just run documents stand, and remember it."""

    @property
    @abstractmethod
    def raw(self) -> Any:
        """The connection of the database's library, for tests that count through its hooks."""

    @property
    @abstractmethod
    def in_transaction(self) -> bool:
        """Whether a transaction is open."""

    @abstractmethod
    def blames_store(self, error: Exception) -> bool:
        """Whether an error is about the database, and not about the row that was to be written."""

    @abstractmethod
    def schema_version(self) -> int:
        """Return how many migrations the store has had; raises SchemaError for one of another program."""

    @abstractmethod
    def mark(self, version: int) -> None:
        """Say that the store is ours, and which schema it has."""

    @abstractmethod
    def close(self) -> None:
        """Close the connection; what is committed stays."""

    @abstractmethod
    def close_untouched(self) -> None:
        """Close the connection and leave the store as it was found."""

    def free_pages(self, most: int) -> int:
        """Give back free pages of the file, at most so many, inside a transaction; return how many are left."""
        return 0

    def make_room(self, stages: int) -> None:  # noqa: B027 - only a log that grows with its commits wants room
        """Have room ready for what the steps of so many stages will write, once the transaction is committed."""

    def begin(self, *, beside: bool = False, careful: bool = True) -> None:
        """
        Begin a transaction that may write.

        `beside`: others that say so may write meanwhile; it locks the workflows that it changes, and claims. Unless it
        is `careful`, a part of it that fails may fail all of it, which is then done anew.
        """
        self._do(self.BEGIN)
        self._part = Part.FIRST
        self._shelf.clear()

    def commit(self) -> None:
        """Make everything since `begin` durable."""
        self._do("COMMIT")
        self._shelf.clear()

    def rollback(self) -> None:
        """Undo everything since `begin`."""
        self._header = None
        if self.in_transaction:
            self._do("ROLLBACK")

    def script(self, sql: str) -> None:
        """Run several statements."""
        self._header = None
        self._do(sql)

    def begin_part(self) -> None:
        """Begin a part of the transaction that can be undone for itself; the first needs no savepoint for that."""
        if self._part is Part.LATER:
            self._do("SAVEPOINT part")

    def undo_part(self) -> None:
        """Undo everything since `begin_part`; the part goes on."""
        self._shelf.clear()
        self._header = None
        if self._part is Part.LATER:
            self._do("ROLLBACK TO part")
        else:
            self._do("ROLLBACK")
            self._do(self.BEGIN)

    def end_part(self) -> None:
        """End the part; what it wrote belongs to the transaction."""
        if self._part is Part.LATER:
            self._do("RELEASE part")
        self._part = Part.LATER

    def remember(self, head: Head) -> None:  # noqa: B027 - another connection may write any time
        """Remember the header of a workflow as it is after all that was written, until anything else is written."""

    def remembered(self, workflow_id: str) -> Head | None:
        """Return the header of a workflow if nothing was written since it was remembered, here or elsewhere."""
        return self._header if self._header is not None and self._header.id == workflow_id else None

    def wants_again(self, error: BaseException) -> bool:
        """Whether a transaction that failed may succeed when it is done again with care."""
        return False

    def foresee(self, reads: Sequence[Read]) -> None:  # noqa: B027 - queries are answered at once
        """Have the answers to queries ready, all at once, in place of what was foreseen of the same workflows."""

    def foresaw(self, name: str, params: Mapping[str, Any]) -> bool:
        """Whether the answer to a query is there."""
        return False

    def lock_claims(self) -> None:  # noqa: B027 - nobody else writes
        """Let nobody else decide about claims before this transaction has ended."""

    def wait_for_writers(self) -> bool:
        """Wait for transactions that write just now, beside a reader; return whether there can be any."""
        return False

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
        if name not in self._documents:
            self._find_documents(name, cursor)
        return self._whole(name, cursor.fetchall())

    def _whole(self, name: str, rows: Sequence[Sequence[Any]]) -> Sequence[Sequence[Any]]:
        places = self._documents.get(name, ())
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
        with contextlib.closing(self._another_cursor()) as cursor:  # large parts are read meanwhile, through the first
            cursor.execute(sql, values(params))
            places = self._find_documents(name, cursor)
            while rows := list(islice(cursor, BLOCK)):
                columns = list(zip(*rows, strict=True))
                for place in places:
                    if any(map(contains, columns[place], repeat(REFERENCE))):
                        columns[place] = tuple(with_blobs(text, get) for text in columns[place])
                yield columns

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
        if value.__class__ in _MAPPINGS and not value:
            return "{}"
        return self._small_text(value) or dumps(self._shelf.smaller(workflow_id, value))

    def record_text(self, workflow_id: str, record: dict[str, Any]) -> str:
        """Return a fact or a message as JSON text, in which references stand for what is large in its fields."""
        return self._small_text(record) or dumps(self._shelf.parts(workflow_id, record))

    def _small_text(self, value: Any) -> str:
        if self._shelf.used:
            return ""
        text = dumps(value)
        return text if len(text) <= INLINE else ""

    def own(self, workflow_id: str, text: str) -> str:
        """Return the text of a fact or a message of another database as it stands in this one."""
        return self.record_text(workflow_id, text.document) if isinstance(text, Referring) else text

    def _keep(self, workflow_id: str, text: str) -> str:
        """Keep a text once, whoever uses it, and return its digest."""
        here = {"digest": digest_of(text)}
        if self.changed("use_blob", {"workflow_id": workflow_id, **here}) and not self.one("blob_is_kept", here):
            rows = ({**here, "part": part, "data": piece} for part, piece in enumerate(pieces(text)))
            self.many("insert_blob", rows)
        return here["digest"]

    def run(self, name: str, params: Mapping[str, Any]) -> None:
        """Run a named statement, before anything is read and before the commit at the latest."""
        self._header = None
        sql, values = self._statements[name]
        self._cursor.execute(sql, hiding(values(params)))

    def changed(self, name: str, params: Mapping[str, Any]) -> int:
        """Run a named statement and return how many rows it changed."""
        self.run(name, params)
        return self._changes()

    def must(self, name: str, params: Mapping[str, Any]) -> bool:
        """Run a named statement without which nothing may be committed; return whether it has changed a row."""
        return self.changed(name, params) > 0

    def many(self, name: str, rows: Iterable[Mapping[str, Any]]) -> None:
        """Run a named statement for each row."""
        self._header = None
        sql, values = self._statements[name]
        self._cursor.executemany(sql, map(hiding, map(values, rows)))


def hiding(values: tuple[Any, ...]) -> tuple[Any, ...]:
    """Return what is written, without values of secrets: JSON text has none any more, names and errors may."""
    if not HIDDEN.forms:
        return values
    return tuple(each if each.__class__ is not str or each[:1] in _JSON else hide(each) for each in values)
