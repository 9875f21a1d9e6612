"""
Retention: runs that have ended go, with all that belongs to them, and their space goes back to the disk.

Space is given back by SQLite's incremental vacuum, a few pages in a transaction, so that nobody waits long for the
writer; a whole VACUUM would hold it for as long as it takes to write the database anew, and need its size once more.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import timedelta
from functools import partial
from typing import TYPE_CHECKING, Any

from stabilize_nb.errors import ConfigError
from stabilize_nb.models.gate import seconds_of
from stabilize_nb.models.status import WorkflowStatus
from stabilize_nb.store.codec import dumps
from stabilize_nb.store.store import Headers, headers, remove

if TYPE_CHECKING:
    from stabilize_nb.store.connection import Connection
    from stabilize_nb.store.database import Database

Keep = int | str | timedelta
#: Runs that are deleted in one transaction, and pages that are given back in one.
RUNS, PAGES = 20, 200
#: ms that emptying the WAL waits for readers.
PATIENCE = 200
#: ms for which the id of a message that is done is remembered, so that a second push of it has no effect.
REMEMBERED = 24 * 3_600_000
#: Messages that are looked through at a time.
WINDOW = 1_000


def prune(database: Database, keep: Keep, statuses: Iterable[WorkflowStatus | str] | None, *, dry_run: bool) -> Headers:
    """
    Delete runs that have ended, but for those to keep, and return the headers of what went, newest first.

    `keep`: how many of the newest, or for how long after their end. Runs that have queued messages or dead letters
    stay, and so do children of runs that have not ended.

    Raises ConfigError for a `keep` or a status that cannot be meant.
    """
    wanted = _wanted(keep, statuses, database.clock())
    found = headers(database.call_read(lambda connection: connection.all("prunable", wanted)))
    if dry_run:
        return found
    ids = [header["id"] for header in reversed(found)]
    gone: set[str] = set()
    for at in range(0, len(ids), RUNS):
        some = ids[at : at + RUNS]
        gone.update(database.call_write(partial(_remove, ids=some)))
    if gone:
        database.call(lambda: database.shrink(PAGES, PATIENCE))
    return [header for header in found if header["id"] in gone]


def _wanted(keep: Keep, statuses: Iterable[WorkflowStatus | str] | None, now: int) -> dict[str, Any]:
    if isinstance(keep, int) and not isinstance(keep, bool) and keep >= 0:
        newest, before = keep, now
    elif isinstance(keep, str | timedelta):
        try:
            newest, before = 0, now - round(seconds_of(keep) * 1_000)
        except ValueError as error:
            raise ConfigError(f"keep={keep!r} {error}") from error
    else:
        raise ConfigError(f"keep={keep!r}: a number of runs, a timedelta, or text such as '30d' is expected")
    names = None if statuses is None else dumps([_status(each) for each in statuses])
    return {"newest": newest, "before": before, "statuses": names}


def _status(given: WorkflowStatus | str) -> str:
    name = given.name if isinstance(given, WorkflowStatus) else given.upper()
    ended = [status.name for status in WorkflowStatus if status.is_complete]
    if name not in ended:
        raise ConfigError(f"status {given!r} is none that a run ends with; expected are {', '.join(ended)}")
    return name


def _remove(connection: Connection, ids: list[str]) -> list[str]:
    """Delete those of some runs that nobody has ordered anything of meanwhile."""
    busy = {row[0] for row in connection.all("busy_among", {"ids": dumps(ids)})}
    gone = [id_ for id_ in ids if id_ not in busy]
    remove(connection, gone)
    return gone


class Forgetting:
    """Deletes messages that have long been done, window by window, so that a store does not grow by them for years."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._after = 0

    def go_on(self) -> int:
        """Look through the next window and return how many messages went; called by an engine thread."""
        window = {"after": self._after, "most": WINDOW}
        row = self._database.read(lambda connection: connection.one("messages_after", window))
        until = row[0] if row is not None and row[0] is not None else None
        if until is None:
            self._after = 0
            return 0
        done = {"after": self._after, "until": until, "before": self._database.clock() - REMEMBERED}
        self._after = until
        return self._database.write(lambda connection: connection.changed("forget_done", done))
