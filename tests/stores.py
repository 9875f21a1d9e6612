"""Which database the tests run on: SQLite as they say, or (`--store postgres`) a schema of PostgreSQL in its place."""

from __future__ import annotations

import hashlib
import os
from contextlib import contextmanager
from itertools import count
from typing import TYPE_CHECKING

import psycopg

from stabilize_nb.store import database
from stabilize_nb.store.sqlite import database_path
from tests.postgres import Server

if TYPE_CHECKING:
    from collections.abc import Iterator

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


def drop_schemas(url: str) -> None:
    """Remove every schema that tests have made."""
    with psycopg.connect(url.partition("?")[0], autocommit=True) as session:
        names = [row[0] for row in session.execute("SELECT nspname FROM pg_namespace WHERE nspname ~ '^s[0-9a-f]{12}$'")]
        for name in names:
            session.execute(f'DROP SCHEMA "{name}" CASCADE')
