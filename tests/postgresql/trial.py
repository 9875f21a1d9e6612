"""The scenarios of tests.crash on PostgreSQL: a process is killed, or its sessions are cut, and what there was then."""

from __future__ import annotations

import os
import random
import shutil
import signal
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from stabilize_nb.errors import StabilizeError
from stabilize_nb.queue.processor import journal_rows, worker
from stabilize_nb.testing.fuse import Fuse, Moment
from tests.crash.trial import RETRY, Trial
from tests.crash.victim import PATIENCE, Victim
from tests.postgresql.proxy import Proxy, Way
from tests.stores import Schemas

#: Shapes whose sessions are ended before every statement.
SIX = ("linear", "diamond", "loop", "locks of two workflows", "approval", "sub-workflow")
DOUBTS = (Way.BEFORE, Way.AFTER, Way.LATE, Way.ANSWER)


@dataclass(frozen=True)
class Cut:
    """What befalls the session that is about to run the n-th statement, or COMMIT, of a process."""

    way: Way
    nth: int

    @property
    def kind(self) -> str:
        """What is counted."""
        return "statement" if self.way is Way.ENDED else "commit"


class PostgresTrial(Trial):
    """A shape on PostgreSQL; the folder of a scenario has what its bodies have done, and stands for a schema."""

    def __init__(self, name: str, folder: Path, schemas: Schemas) -> None:
        self._schemas = schemas
        schemas.take(_store(folder / "template"))
        super().__init__(name, folder)

    def _copy(self, name: str) -> Path:
        folder = super()._copy(name)
        schemas = self._schemas
        schemas.copy(schemas.take(_store(self._template)), schemas.take(_store(folder)))
        return folder

    def _drop(self, folder: Path) -> None:
        shutil.rmtree(folder)
        self._schemas.release({_store(folder)})

    def _live(self, folder: Path, trouble: Any, count: bool = False) -> dict[str, Any]:
        """Drive the shape; whoever loses a session tries again, as a person would."""
        worker.STORE_RETRY = journal_rows.RETRY = RETRY
        fuse = Fuse(trouble if isinstance(trouble, Moment) else None)
        statement = isinstance(trouble, Moment) and trouble.where == "statement"
        proxy = self._watched(trouble) if count or statement or isinstance(trouble, Cut) else None
        errors: list[str] = []
        deadline = time.monotonic() + PATIENCE
        fuse.light()
        while True:
            try:
                victim = Victim(folder, self.shape)
                try:
                    victim.drive()
                    report = victim.report()
                finally:
                    victim.close()
                break
            except StabilizeError as error:
                errors.append(f"{type(error).__name__}: {error}")
                if not isinstance(trouble, Cut) or time.monotonic() > deadline:
                    raise
        counts = {**fuse.counts, **(proxy.counts if proxy else {})}
        return {**report, "counts": counts, "failed": proxy.struck if proxy else 0, "errors": errors}

    def _watched(self, trouble: Moment | Cut | None) -> Proxy:
        """Have all sessions of this process go through a proxy that plays the trouble."""

        def reached(kind: str, nth: int) -> Way | None:
            if trouble == Moment(kind, nth):
                os.kill(os.getpid(), signal.SIGKILL)
            return trouble.way if isinstance(trouble, Cut) and (trouble.kind, trouble.nth) == (kind, nth) else None

        proxy = Proxy(self._schemas.server.address, reached)
        self._schemas.by_way_of = proxy.port
        return proxy


def _store(folder: Path) -> str:
    return str(folder / "runs.db")


def ends(counts: Mapping[str, int], step: int) -> Iterator[tuple[str, list[Cut]]]:
    """Yield a scenario for each (or each `step`-th) statement of an undisturbed run: its session is ended before it."""
    for nth in range(1, counts["statement"] + 1, step):
        yield "ended", [Cut(Way.ENDED, nth)]


def doubts(chance: random.Random, counts: Mapping[str, int], each: int) -> Iterator[tuple[str, list[Cut]]]:
    """Yield so many scenarios of each way in which it is in doubt whether a COMMIT was kept."""
    for way in DOUBTS:
        for nth in chance.sample(range(1, counts["commit"] + 1), min(each, counts["commit"])):
            yield way.name.lower(), [Cut(way, nth)]
