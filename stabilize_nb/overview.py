"""What goes on in a store, in one picture: runs, bodies at work, the queue, who works, what is dead, how fast it is."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from stabilize_nb.models.status import WorkflowStatus
from stabilize_nb.queue.processor.presence import is_gone
from stabilize_nb.store.codec import dumps

if TYPE_CHECKING:
    from collections.abc import Mapping

    from stabilize_nb.store.connection import Connection
    from stabilize_nb.store.database import Database

#: Which runs are shown: of which status, and for how many ms after their end (None: always, -1: not at all).
SHOWN: Final[Mapping[str, tuple[str | None, int | None]]] = {
    "all": (None, None),
    "running": (None, -1),
    "failed": (WorkflowStatus.TERMINAL.name, None),
    "recent": (None, 3_600_000),
}
#: ms over which the rate is taken, and facts that are looked at for it.
WINDOW, FACTS = 60_000, 5_000


@dataclass(frozen=True, slots=True, kw_only=True)
class RunLine:
    """A run: how many of its stages are complete, of how many, and the name of one in each other status."""

    id: str
    name: str
    status: WorkflowStatus
    error: str
    created_at: int
    ended_at: int | None
    done: int
    stages: int
    open: Mapping[WorkflowStatus, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Body:
    """A body at work, or one whose processor died and whose work nobody has taken over yet."""

    run_id: str
    name: str
    stage: str
    since: int | None
    owner: str
    deliveries: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Processor:
    """A process that works at runs, or died before it could say that it goes."""

    owner: str
    host: str
    pid: int
    started_at: int
    alive: bool
    bodies: int


@dataclass(frozen=True, slots=True, kw_only=True)
class DeadLetter:
    """A message that was given up."""

    run_id: str
    name: str
    stage: str
    kind: str
    died_at: int
    error: str


@dataclass(frozen=True, slots=True, kw_only=True)
class QueueDepth:
    """Messages that are not done."""

    bodies: int
    orders: int
    due: int
    later: int
    dead: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Overview:
    """A store at a moment, by its own clock (ms). `rate`: stages completed a second, over the last minute at most."""

    at: int
    counts: Mapping[WorkflowStatus, int]
    gates: int
    queue: QueueDepth
    rate: float
    runs: tuple[RunLine, ...]
    bodies: tuple[Body, ...]
    processors: tuple[Processor, ...]
    dead: tuple[DeadLetter, ...]

    @property
    def alive(self) -> int:
        """How many processors live."""
        return sum(each.alive for each in self.processors)


def overview(database: Database, *, application: str | None = None, shown: str = "all", most: int = 50) -> Overview:
    """Look at a store once; at most `most` runs, bodies and dead letters are told one by one."""
    return database.call_read(lambda connection: _overview(database, connection, application, shown, most))


def _overview(database: Database, db: Connection, application: str | None, shown: str, most: int) -> Overview:
    now = database.clock()
    about = {"application": application, "most": most}
    queue = db.one("overview_queue", {"now": now}) or (0, 0, 0, 0, 0)
    counts = {WorkflowStatus[name]: count for name, count in db.all("overview_statuses", about)}
    bodies = [
        Body(run_id=run, name=name, stage=ref, since=since, owner=owner, deliveries=deliveries)
        for run, name, ref, since, owner, deliveries in db.all("overview_bodies", about)
    ]
    owners = [body.owner for body in bodies]
    return Overview(
        at=now, counts=counts, gates=len(db.all("suspended_stages", {"workflow_id": None})),
        queue=QueueDepth(bodies=queue[0], orders=queue[1], due=queue[2], later=queue[3], dead=queue[4]),
        rate=_rate(db, now), runs=_runs(db, about, now, shown),
        bodies=tuple(bodies),
        processors=tuple(
            Processor(owner=owner, host=host, pid=pid, started_at=started, alive=not is_gone(database, db, owner),
                      bodies=owners.count(owner))
            for _, owner, host, pid, started, *_ in db.all("overview_processors", {})
        ),
        dead=tuple(DeadLetter(run_id=run, name=name or "", stage=ref or "", kind=kind, died_at=at, error=error or "")
                   for run, name, ref, kind, at, error in db.all("overview_dead", about)),
    )  # fmt: skip


def _rate(db: Connection, now: int) -> float:
    done, facts, oldest = db.one("overview_rate", {"most": FACTS, "since": now - WINDOW}) or (0, 0, 0)
    span = now - int(oldest) if facts == FACTS else WINDOW
    return done * 1_000 / max(span, 1)


def _runs(db: Connection, about: Mapping[str, Any], now: int, shown: str) -> tuple[RunLine, ...]:
    status, ago = SHOWN[shown]
    since = 0 if ago is None else now - ago
    rows = db.all("overview_runs", {**about, "status": status, "since": since})[: about["most"]]
    stages: dict[str, dict[WorkflowStatus, tuple[int, str]]] = {row[0]: {} for row in rows}
    for run, name, count, ref in db.all("overview_stages", {"ids": dumps([*stages])}):
        stages[run][WorkflowStatus[name]] = count, ref
    return tuple(
        RunLine(
            id=id_, name=name, status=WorkflowStatus[of], error=error or "", created_at=created, ended_at=ended,
            done=sum(count for status, (count, _) in stages[id_].items() if status.is_complete),
            stages=sum(count for count, _ in stages[id_].values()),
            open={status: ref for status, (_, ref) in stages[id_].items() if not status.is_complete},
        )
        for id_, _application, name, of, created, _started, ended, error in rows
    )  # fmt: skip
