"""
What is wrong with a store, and what its runs wait for; it is only read.

The checks repeat what the engine promises: pages that SQLite can read (a server looks after its own), the schema of
this version, logs without gaps (C7), unfinished runs that are moved by something or wait for something that can be
named (C10), nothing left over. Claims of processors that are gone are told too; whoever works next frees them by
itself (C8).
"""

from __future__ import annotations

import socket
import time
from collections.abc import Callable, Container, Iterator
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import apsw

from stabilize_nb.errors import StoreError
from stabilize_nb.queue.processor.presence import is_at_work
from stabilize_nb.store.beacon import FileBeacon
from stabilize_nb.store.database import driver_of
from stabilize_nb.store.files import has_content, refuse_damaged_head, refuse_unusable
from stabilize_nb.store.migrate import refuse_changed, refuse_newer, schema, statuses
from stabilize_nb.store.sqlite import SqliteConnection, refuse_unsound, store_error

if TYPE_CHECKING:
    from collections.abc import Sequence

    from stabilize_nb.store.beacon import Beacon
    from stabilize_nb.store.connection import Connection
    from stabilize_nb.store.driver import Driver

#: Findings of one kind that are told one by one.
MOST = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """Something that is not as it should be.

    `kind`: file, server, schema, pages, log, stuck, rest, claim, lease or dead letter.
    """

    kind: str
    what: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Checkup:
    """
    What was found in a store. `sizes` are bytes by table; `waits` says for each unfinished run what it waits for.

    `workers`: processes that live and work at it. `wal` and `free` are None where the store is no file.
    """

    path: str
    opens: bool
    findings: tuple[Finding, ...] = ()
    waits: tuple[str, ...] = ()
    sizes: tuple[tuple[str, int], ...] = ()
    ended: int = 0
    unfinished: int = 0
    workers: int = 0
    size: int = 0
    wal: int | None = 0
    free: int | None = 0

    @property
    def is_healthy(self) -> bool:
        """Whether it can be opened and nothing was found."""
        return self.opens and not self.findings


def examine(path: str) -> Checkup:
    """Return what is to be said about a store file; never raises for what is wrong with it."""
    file = Path(path)
    size = file.stat().st_size if file.is_file() else 0
    try:
        if not file.exists():
            raise StoreError(f"database {path}: there is no such file")
        if file.is_file():
            refuse_damaged_head(path)
        else:
            refuse_unusable(path)
        if not size:
            empty = Finding(kind="file", what="the file is empty and holds no store; opening it makes a new one")
            return Checkup(path=path, opens=True, findings=(empty,))
        refuse_unsound(path)
        connection = SqliteConnection(path, read_only=True)
    except StoreError as error:
        return Checkup(path=path, opens=False, findings=(Finding(kind="file", what=str(error)),), size=size)
    try:
        return _examine(connection, file, size)
    finally:
        connection.close_untouched()


def examine_server(url: str) -> Checkup:
    """Return what is to be said about a schema of a PostgreSQL server, as it is at one moment."""
    driver = driver_of(url)
    try:
        connection = driver.surveyor()
    except StoreError as error:
        return _unopened(driver.path, error, "server")
    with closing(connection):
        try:
            connection.script("BEGIN ISOLATION LEVEL REPEATABLE READ, READ ONLY")
            return _examine_server(driver, connection)
        except driver.errors as error:
            return _unopened(driver.path, driver.said(error), "server")
        except StoreError as error:
            return _unopened(driver.path, error, "schema")


def _unopened(path: str, error: StoreError, kind: str) -> Checkup:
    return Checkup(path=path, opens=False, findings=(Finding(kind=kind, what=str(error)),), wal=None, free=None)


def _examine_server(driver: Driver, connection: Connection) -> Checkup:
    if not refuse_newer(connection):
        empty = Finding(kind="schema", what="it is empty and holds no store; stabilize-nb mg-up makes one")
        return Checkup(path=driver.path, opens=True, findings=(empty,), wal=None, free=None)
    behind = [
        Finding(kind="schema", what=f"the migration {name} is {status}; stabilize-nb mg-up applies what is pending")
        for name, status, _ in statuses(connection.all("migrations", {})) if status != "applied"
    ]  # fmt: skip
    if lacking := (*behind, *_lacking(connection)):
        return Checkup(path=driver.path, opens=False, findings=lacking, wal=None, free=None)
    beacon = driver.beacon()
    ended, unfinished = connection.one("doctor_counts", {}) or (0, 0)
    sizes = tuple((str(name), int(taken)) for name, taken in connection.all("doctor_sizes", {}))
    return Checkup(
        path=driver.path, opens=True, findings=tuple(_found(connection, beacon, everywhere=True)),
        waits=tuple(_waits(connection, beacon)), sizes=sizes, ended=ended, unfinished=unfinished,
        workers=_workers(connection, beacon), size=sum(taken for _, taken in sizes), wal=None, free=None,
    )  # fmt: skip


def _examine(connection: SqliteConnection, file: Path, size: int) -> Checkup:
    path = str(file)
    wal = Path(f"{path}-wal").stat().st_size if has_content(f"{path}-wal") else 0
    try:
        if refuse_newer(connection):
            refuse_changed(connection)
        pages = tuple(Finding(kind="pages", what=what) for what in connection.faults())
    except (StoreError, apsw.Error, UnicodeDecodeError) as error:
        said = error if isinstance(error, StoreError) else store_error(path, error)
        kind = "pages" if isinstance(error, apsw.Error) else "schema"
        return Checkup(path=path, opens=False, findings=(Finding(kind=kind, what=str(said)),), size=size, wal=wal)
    lacking = _lacking(connection)
    if lacking or pages:
        return Checkup(path=path, opens=not lacking, findings=(*lacking, *pages), size=size, wal=wal)
    try:
        beacon = FileBeacon(f"{path}.alive") if Path(f"{path}.alive").exists() else None
        findings = [*_found(connection, beacon, everywhere=False)]
        ended, unfinished = connection.one("doctor_counts", {}) or (0, 0)
        try:
            refuse_unusable(path)
        except StoreError as error:
            findings.insert(0, Finding(kind="file", what=str(error)))
        return Checkup(
            path=path, opens=True, findings=tuple(findings), waits=tuple(_waits(connection, beacon)),
            sizes=tuple((str(name), int(taken)) for name, taken in connection.all("doctor_sizes", {})), ended=ended,
            unfinished=unfinished, workers=_workers(connection, beacon), size=size, wal=wal,
            free=connection.free_bytes(),
        )  # fmt: skip
    except (apsw.Error, UnicodeDecodeError) as error:
        finding = Finding(kind="pages", what=str(store_error(path, error)))
        return Checkup(path=path, opens=True, findings=(finding,), size=size, wal=wal)


def _lacking(connection: Connection) -> tuple[Finding, ...]:
    """Return what the schema lacks; a store that was never used has none yet."""
    there = {row[0] for row in connection.all("doctor_tables", {})}
    wanted = {name for name, sql in schema().items() if str(sql).startswith("CREATE TABLE")}
    missing = sorted(wanted - there)
    if not missing:
        return ()
    return (Finding(kind="schema", what=f"it is no store of this version: it lacks the tables {', '.join(missing)}"),)


# -- checks: each yields what it finds ----------------------------------------------------------------


def _gaps(connection: Connection) -> Iterator[Finding]:
    for id_, wanted, there in connection.all("doctor_gaps", {})[:MOST]:
        yield Finding(kind="log", what=f"the log of run {id_} has {there} facts, and {wanted} were written")


def _rest(connection: Connection) -> Iterator[Finding]:
    for what, count in connection.all("doctor_orphans", {}):
        if count:
            yield Finding(kind="rest", what=f"{count} {what} are left over")


def _stuck(connection: Connection) -> Iterator[Finding]:
    for id_, name, status in connection.all("doctor_stuck", {})[:MOST]:
        what = f"run {id_} ({name}) is {status} and nothing moves it; run.retry('stage') runs a stage again"
        yield Finding(kind="stuck", what=what)
    for id_, ref in connection.all("doctor_idle", {})[:MOST]:
        yield Finding(kind="stuck", what=f"stage {ref!r} of run {id_} is at work, but nothing asks for its task")


def _claims(connection: Connection) -> Iterator[Finding]:
    for claim, run in connection.all("doctor_claims", {})[:MOST]:
        yield Finding(kind="claim", what=f"{claim!r} is held by run {run}, which has ended or is not there")
    for run, ref, claim, _holder, held in connection.all("doctor_lines", {}):
        if not held:
            yield Finding(kind="claim", what=f"{_who(run, ref)} waits for {claim!r}, which nobody holds")


def _leases(connection: Connection, beacon: Beacon | None, *, everywhere: bool) -> Iterator[Finding]:
    """Yield claims of processors that are gone; `everywhere`: lights of other hosts are seen here."""
    now = int(time.time() * 1_000)
    for owner, count, until, pid, host in connection.all("doctor_claimed", {}):
        here = everywhere or host == socket.gethostname()
        gone = not is_at_work(beacon, connection, owner) if here or host is None else until < now
        if gone:
            place = f"process {pid} on {host}" if host else "a process that left no name"
            what = f"{count} messages are claimed by {place}, which is gone; whoever works next frees them"
            yield Finding(kind="lease", what=what)


def _dead_letters(connection: Connection) -> Iterator[Finding]:
    for _id, run, _stage, kind, _payload, deliveries, _at, error, *_ in connection.all("dead_letters", {})[:MOST]:
        what = f"{kind} of run {run} was given up after {deliveries} deliveries: {error}"
        yield Finding(kind="dead letter", what=what)


_CHECKS: tuple[Callable[[Connection], Iterator[Finding]], ...] = (
    _gaps,
    _stuck,
    _rest,
    _claims,
    _dead_letters,
)


def _found(connection: Connection, beacon: Beacon | None, *, everywhere: bool) -> Iterator[Finding]:
    for check in _CHECKS:
        yield from check(connection)
    yield from _leases(connection, beacon, everywhere=everywhere)


def _workers(connection: Connection, beacon: Beacon | None) -> int:
    owners = [row[1] for row in connection.all("overview_processors", {})]
    return sum(is_at_work(beacon, connection, owner) for owner in owners)


# -- what waits for what ------------------------------------------------------------------------------


def _waits(connection: Connection, beacon: Beacon | None) -> Iterator[str]:
    owners = {row[0] for row in connection.all("doctor_claimed", {})}
    gone = {owner for owner in owners if not is_at_work(beacon, connection, owner)}
    held = {(run, ref): (claim, holder) for run, ref, claim, holder, _ in connection.all("doctor_lines", {})}
    for row in connection.all("doctor_waits", {}):
        run, name, status, ref, *_ = row
        if ref is None:
            line = held.get((run, None))
            idle = "was stored and not started" if status == "NOT_STARTED" else f"is {status}, no stage is at work"
            why = f"waits for {line[0]!r}" if line else idle
            yield f"run {run} ({name}) {why}"
        else:
            yield f"run {run} ({name}): stage {ref!r} {_why(row, held, gone)}"


def _why(row: Sequence[Any], held: dict[tuple[str, str | None], tuple[str, str]], gone: Container[str]) -> str:
    run, _name, paused, ref, status, waits, due, child, owner = row
    if (run, ref) in held:
        claim, holder = held[run, ref]
        return f"waits for {claim!r}" + (f", which run {holder} holds" if holder else "")
    if waits:
        return f"waits for {waits}"
    if status == "SUSPENDED":
        return f"waits for run {child}, which it began" if child else "waits for a decision or a signal"
    if status == "PAUSED" or paused == "PAUSED":
        return "is paused"
    if owner in gone:
        return "was at work in a process that is gone; whoever works next goes on with it"
    if owner is None and due is not None:
        is_due = due <= int(time.time() * 1_000)
        return "waits for a worker" if is_due else f"goes on at {datetime.fromtimestamp(due / 1_000, UTC):%F %T} UTC"
    return "is at work"


def _who(run: str, ref: str | None) -> str:
    return f"run {run}" if ref is None else f"stage {ref!r} of run {run}"
