"""The moment at which a process is killed, counted in commits or statements of its database."""

from __future__ import annotations

import os
import signal
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from stabilize_nb.store.connection import Connection

if TYPE_CHECKING:
    from collections.abc import Callable

    from stabilize_nb.store.database import Database


def _ignore(_connection: Connection) -> None:
    """Do nothing."""


@dataclass(frozen=True)
class Moment:
    """When a process dies: "before" or "after" its n-th commit, or before its n-th "statement" or "inside" a body."""

    where: str
    nth: int


class Fuse:
    """Counts what a process reaches and kills it at one moment; None: at none."""

    def __init__(self, moment: Moment | None) -> None:
        self.moment = moment
        self.counts: Counter[str] = Counter()

    def light(self) -> None:
        """Count commits from now on: everything that is written goes through one connection."""
        on_commit(lambda _connection: self.reached("before"), lambda _connection: self.reached("after"))

    def trace(self, database: Database) -> None:
        """Count statements from now on."""
        database.writer.raw.exec_trace = self._trace

    def reached(self, where: str) -> None:
        """Count, and die when this is the moment."""
        self.counts[where] += 1
        if self.moment == Moment(where, self.counts[where]):
            os.kill(os.getpid(), signal.SIGKILL)

    def _trace(self, *_: Any) -> bool:
        self.reached("statement")
        return True


def on_commit(before: Callable[[Connection], None] = _ignore, after: Callable[[Connection], None] = _ignore) -> None:
    """Have every commit of this process watched; it is a fork, and ends with it."""
    for kind in (Connection, *Connection.__subclasses__()):
        if commit := vars(kind).get("commit"):
            setattr(kind, "commit", _watched(commit, before, after))  # noqa: B010 - a method of a class


def _watched(
    commit: Callable[[Connection], None], before: Callable[[Connection], None], after: Callable[[Connection], None]
) -> Callable[[Connection], None]:
    def watched(connection: Connection) -> None:
        before(connection)
        commit(connection)
        after(connection)

    return watched
