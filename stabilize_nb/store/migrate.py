"""Bring a database to the schema of this version: apply what is missing, refuse what is newer."""

from __future__ import annotations

import hashlib
import time
from functools import cache
from importlib.resources import files
from typing import TYPE_CHECKING, Any

import apsw

from stabilize_nb.errors import SchemaError
from stabilize_nb.store.files import advice
from stabilize_nb.store.queries import sql_file

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from stabilize_nb.store.connection import Connection


@cache
def migrations() -> tuple[tuple[str, str], ...]:
    """Return (name, SQL) of every migration in order."""
    folder = files("stabilize_nb.store").joinpath("sql", "migrations")
    names = sorted(entry.name for entry in folder.iterdir() if entry.name.endswith(".sql"))
    return tuple((name, sql_file(f"migrations/{name}")) for name in names)


def statuses(rows: Iterable[Sequence[Any]]) -> list[tuple[str, str, int | None]]:
    """Return each migration with what rows of the table say of it: "applied", "pending" or "MISMATCH", and when."""
    known = {name: (checksum, at) for name, checksum, at in rows}
    found: list[tuple[str, str, int | None]] = []
    for name, sql in migrations():
        checksum, at = known.get(name, (None, None))
        same = checksum == _checksum(sql)
        found.append((name, "applied" if same else "pending" if checksum is None else "MISMATCH", at))
    return found


def _checksum(sql: str) -> str:
    return hashlib.sha256(sql.encode()).hexdigest()


def migrate(connection: Connection) -> list[str]:
    """
    Apply what is missing, all or nothing, and return the names.

    Raises SchemaError when the database was written by a newer version, or by another program.
    """
    if refuse_newer(connection) == len(migrations()):
        refuse_changed(connection)
        return []
    connection.begin()
    try:
        applied = _apply(connection, connection.schema_version())
        connection.commit()
    except BaseException:
        connection.rollback()
        raise
    return applied


def refuse_newer(connection: Connection) -> int:
    """Return the number of a database's schema; raises SchemaError when it is not known here, or not ours."""
    version = connection.schema_version()
    if version > len(migrations()):
        raise SchemaError(_newer(connection, version))
    return version


@cache
def schema() -> dict[str, str]:
    """Return the tables and indexes that this version makes, with their definitions."""
    model = apsw.Connection(":memory:")
    for _name, sql in migrations():
        model.execute(sql)
    return dict(model.execute("SELECT name, sql FROM sqlite_schema"))


def refuse_changed(connection: Connection) -> None:
    """
    Raise SchemaError when the schema holds what would run, or make other values of what is written.

    Tables of somebody else beside ours are not touched.
    """
    made = schema()
    for kind, name, table, sql in connection.all("schema_objects", {}):
        runs = kind in ("trigger", "view") or str(sql).upper().startswith("CREATE VIRTUAL")
        changed = (name in made or table in made) and made.get(name, sql if sql is None else "") != sql
        if runs or changed:
            raise SchemaError(
                f"database {connection.path}: somebody has added or changed its {kind} {str(name)[:80]!r}, which might "
                "do anything with what is written: undo it, or write what can be read into a new one by "
                f"`stabilize-nb doctor {connection.path} --salvage NEW`"
            )


def _newer(connection: Connection, version: int) -> str:
    known = {name for name, _ in migrations()}
    strange = [row[0] for row in connection.all("migrations", {}) if row[0] not in known]
    what = f"has the migration {', '.join(strange)}" if strange else f"says that it has schema {version}"
    return (
        f"database {connection.path} {what}, which this version of stabilize_nb does not know: install a newer version "
        f"to open it ({advice(connection.path)})"
    )


def _apply(connection: Connection, version: int) -> list[str]:
    applied = []
    for name, sql in migrations()[version:]:
        connection.script(sql)
        at = int(time.time() * 1_000)
        connection.run("insert_migration", {"name": name, "checksum": _checksum(sql), "applied_at": at})
        applied.append(name)
    connection.mark(len(migrations()))
    return applied
