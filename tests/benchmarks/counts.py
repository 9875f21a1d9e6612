"""What work costs in counts that do not depend on the machine: commits, queries, rows, calls of Python functions."""

from __future__ import annotations

import gc
import sys
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import apsw

from stabilize_nb.store.database import Database


@dataclass(slots=True, kw_only=True)
class Counts:
    """What a writer's connection to SQLite did; `steps` are those of its virtual machine."""

    commits: int = 0
    queries: int = 0
    rows_read: int = 0
    rows_written: int = 0
    steps: int = 0

    def commit(self) -> bool:
        """Count a commit; SQLite asks whether it is to be undone."""
        self.commits += 1
        return False

    def trace(self, event: dict[str, Any]) -> None:
        """Count a row that was read, or a query that has ended."""
        if event["code"] == apsw.SQLITE_TRACE_ROW:
            self.rows_read += 1
        else:
            self.queries += 1
            self.steps += event["stmt_status"]["SQLITE_STMTSTATUS_VM_STEP"]


def counted(database: Database, work: Callable[[], object]) -> Counts:
    """Do something and return what it cost the database."""
    counts = Counts()
    raw: apsw.Connection = database.writer.raw
    before = raw.total_changes()
    raw.set_commit_hook(counts.commit)
    raw.trace_v2(apsw.SQLITE_TRACE_ROW | apsw.SQLITE_TRACE_PROFILE, counts.trace)
    work()
    raw.set_commit_hook(None)
    raw.trace_v2(0, None)
    counts.rows_written = raw.total_changes() - before
    return counts


def called(work: Callable[[], object]) -> int:
    """Do something and return how many Python functions were called, here and by threads that began meanwhile."""
    calls = 0

    def seen(_frame: Any, event: str, _argument: Any) -> None:
        nonlocal calls
        calls += event == "call"

    threading.setprofile(seen)
    sys.setprofile(seen)
    try:
        work()
    finally:
        sys.setprofile(None)
        threading.setprofile(None)
    return calls


def held(work: Callable[[], object]) -> int:
    """Do something and return how many more blocks of Python's memory are in use than before."""
    gc.collect()
    before = sys.getallocatedblocks()
    work()
    gc.collect()
    return sys.getallocatedblocks() - before
