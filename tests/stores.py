"""Which database the tests run on: SQLite as they say, or (`--store postgres`) a schema of PostgreSQL in its place."""

from __future__ import annotations

import hashlib
import os
import shutil
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import parse_qsl, urlsplit

import psycopg

from stabilize_nb.store import database
from stabilize_nb.store.sqlite import SqliteDriver, database_path
from tests.postgres import Server

if TYPE_CHECKING:
    from collections.abc import Iterator

    from stabilize_nb.store.database import Database
    from stabilize_nb.store.driver import Driver


@contextmanager
def in_postgres() -> Iterator[None]:
    """Have every SQLite URL of this process mean a schema of its own of a PostgreSQL server."""
    original = database.driver_of
    fresh = count()
    memory = original("sqlite:///:memory:")

    with Server() as server:

        def instead(url: str) -> Driver:
            nonlocal memory
            if url.startswith("postgres"):
                return original(url)
            if (path := database_path(url)) != ":memory:":
                return original(server.url(_name(path)))
            if memory.path not in {each.path for each in database.open_databases()}:
                memory = original(server.url(_name(f"memory {next(fresh)}")))  # what was in memory is gone
            return memory

        database.driver_of = instead
        try:
            yield
        finally:
            database.driver_of = original


def _name(what: str) -> str:
    return "s" + hashlib.sha256(f"{os.getpid()} {what}".encode()).hexdigest()[:12]


def copy_store(source: Database, path: Path) -> None:
    """Copy a store as a killed process leaves it to where a file would be; nobody commits meanwhile."""
    if isinstance(source.driver, SqliteDriver):
        for file in (Path(source.path), Path(f"{source.path}-wal")):
            if file.exists():
                shutil.copy(file, path.with_name(file.name))
        return
    target = database.driver_of(f"sqlite:///{path}")
    target.check()
    old, new = (str(dict(parse_qsl(urlsplit(url).query))["schema"]) for url in (source.url, target.url))
    with psycopg.connect(source.driver.address.partition("?")[0], autocommit=True) as session, session.transaction():
        names = session.execute("SELECT tablename FROM pg_tables WHERE schemaname = %s", [old]).fetchall()
        for (name,) in names:
            session.execute(f"CREATE TABLE {new}.{name} (LIKE {old}.{name} INCLUDING ALL)")
            session.execute(f"INSERT INTO {new}.{name} SELECT * FROM {old}.{name}")
        for name in ("message", "event"):
            last = f"(SELECT coalesce(max(position), 0) + 1 FROM {new}.{name})"
            session.execute(f"SELECT setval(pg_get_serial_sequence('{new}.{name}', 'position'), {last}, false)")
