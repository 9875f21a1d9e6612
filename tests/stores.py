"""Which database the tests run on: SQLite as they say, or (`--store postgres`) a schema of PostgreSQL in its place."""

from __future__ import annotations

import os
import shutil
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl, urlsplit

import apsw
import psycopg

from stabilize_nb.store import database, dialect
from stabilize_nb.store.migrate import migrate
from stabilize_nb.store.sqlite import SqliteDriver, database_path
from tests.postgres import shared_server

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from stabilize_nb.store.database import Database
    from stabilize_nb.store.driver import Driver
    from tests.postgres import Served

#: What a new store has in its tables, and so has one that is used again.
EMPTY = "empty"
COPY = """
DO $copy$
DECLARE here record;
BEGIN
    FOR here IN SELECT tablename AS name FROM pg_tables WHERE schemaname = '{old}' LOOP
        EXECUTE format('DELETE FROM {new}.%I', here.name);
        EXECUTE format('INSERT INTO {new}.%I SELECT * FROM {old}.%I', here.name, here.name);
    END LOOP;
    FOR here IN SELECT table_name AS name, column_name AS field FROM information_schema.columns
                WHERE table_schema = '{new}' AND is_identity = 'YES' LOOP
        EXECUTE format('SELECT setval(pg_get_serial_sequence(%L, %L), coalesce(max(%I), 0) + 1, false) FROM {new}.%I',
                       '{new}.' || here.name, here.field, here.field, here.name);
    END LOOP;
END $copy$
"""


class Schemas:
    """
    The schemas that stand for databases of SQLite, by the path of the file.

    A schema takes a fifth of a second to make, so it is emptied and used again. A forked process knows those of its
    parent and makes more of its own.
    """

    def __init__(self, server: Served) -> None:
        self.server = server
        self.original = database.driver_of
        #: Where sessions go instead of to the server, if anywhere; such as a proxy's port on this machine.
        self.by_way_of: int | None = None
        self._of: dict[str, str] = {}
        self._free: list[str] = []
        self._process = os.getpid()
        self._made = 0
        self._make(EMPTY)

    def driver(self, url: str) -> Driver:
        """Return the driver of a URL."""
        if url.startswith("postgres"):
            return self.original(url)
        path = database_path(url)
        memory = path == ":memory:"
        driver = self.original(self._routed(self.server.url(self.take(path))))
        if memory and driver.path not in {each.path for each in database.open_databases()}:
            self.release({path})  # what was in memory is gone
            driver = self.original(self._routed(self.server.url(self.take(path))))
        return driver

    def take(self, path: str) -> str:
        """Return the schema of a path; a new one is empty."""
        if path not in self._of:
            self._of[path] = self._emptied()
        return self._of[path]

    def names(self) -> set[str]:
        """Return the paths that have a schema."""
        return set(self._of)

    def release(self, paths: set[str]) -> None:
        """Give up what is at some paths; what a test has left open is not used again."""
        opened = {dict(parse_qsl(urlsplit(each.url).query)).get("schema") for each in database.open_databases()}
        given_up = [self._of.pop(path) for path in sorted(paths & self._of.keys())]
        self._free += [schema for schema in given_up if self.server.schema(schema) not in opened]

    def copy(self, old: str, new: str) -> None:
        """Have a schema hold what another one holds."""
        with psycopg.connect(self.server.address, autocommit=True) as session:
            session.execute(COPY.format(old=self.server.schema(old), new=self.server.schema(new)))

    def _emptied(self) -> str:
        if self._process != os.getpid():
            self._process, self._free, self._made = os.getpid(), [], 0
        if self._free:
            schema = self._free.pop()
            self.copy(EMPTY, schema)
            return schema
        self._made += 1
        return self._make(f"s{self._process}_{self._made}")

    def _make(self, schema: str) -> str:
        driver = self.original(self.server.url(schema))
        driver.check()
        with closing(driver.connect("normal")) as connection:
            migrate(connection)
        return schema

    def _routed(self, url: str) -> str:
        if self.by_way_of is None:
            return url
        parts = urlsplit(url)
        place = f"{parts.netloc.rpartition('@')[0]}@127.0.0.1:{self.by_way_of}"
        return parts._replace(netloc=place, query=f"sslmode=disable&gssencmode=disable&{parts.query}").geturl()


#: The schemas that this process uses instead of SQLite, if it does.
_instead: list[Schemas] = []


@contextmanager
def in_postgres() -> Iterator[Schemas]:
    """Have every SQLite URL of this process mean a schema of its own of a PostgreSQL server."""
    with shared_server() as server:
        schemas = Schemas(server)
        _instead.append(schemas)
        database.driver_of = schemas.driver
        try:
            yield schemas
        finally:
            database.driver_of = schemas.original
            _instead.remove(schemas)


@contextmanager
def forgotten() -> Iterator[None]:
    """Give up the schemas that come to be used meanwhile."""
    before = [schemas.names() for schemas in _instead]
    yield
    for schemas, kept in zip(_instead, before, strict=True):
        schemas.release(schemas.names() - kept)


def place_of(path: Path) -> str:
    """Return by what name another process opens a store."""
    return _instead[-1].server.url(_instead[-1].take(str(path))) if _instead else str(path)


def copy_store(source: Database, path: Path) -> None:
    """Copy a store as a killed process leaves it to where a file would be; nobody commits meanwhile."""
    if isinstance(source.driver, SqliteDriver):
        for file in (Path(source.path), Path(f"{source.path}-wal")):
            if file.exists():
                shutil.copy(file, path.with_name(file.name))
        return
    schemas = _instead[-1]
    with psycopg.connect(schemas.server.address, autocommit=True) as session:
        old = dict(parse_qsl(urlsplit(source.url).query))["schema"]
        session.execute(
            COPY.format(old=old, new=schemas.server.schema(schemas.take(database_path(f"sqlite:///{path}"))))
        )


@contextmanager
def looked_into(path: Path) -> Iterator[Callable[[str], list[Any]]]:
    """Give what asks a store that nobody has open, in SQLite's words, and leaves it as it is."""
    if _instead:
        url = _instead[-1].driver(f"sqlite:///{path}").address
        with closing(_instead[-1].original(url).session({})) as session:
            yield lambda question: session.execute(dialect.question(question)).fetchall()
        return
    copy = path.parent / "look"  # opening one whose process died changes it
    copy.mkdir()
    try:
        for name in (path.name, f"{path.name}-wal", f"{path.name}-journal"):
            if path.with_name(name).exists():
                shutil.copy(path.with_name(name), copy / name)
        with closing(apsw.Connection(str(copy / path.name))) as connection:
            yield lambda question: list(connection.execute(question))
    finally:
        shutil.rmtree(copy)
