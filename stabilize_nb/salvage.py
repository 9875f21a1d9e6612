"""
What can be saved of a damaged store, written into a new one.

The log is what counts: a run whose log is whole is rebuilt from it, row by row (C7), and goes on if it had not ended.
Of a run whose log has gaps the facts that are left are kept as history. What a log does not say is taken from the rows
as far as they can be read: messages that were queued, and results of durable steps, which must not be paid for again.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from operator import itemgetter
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import apsw

from stabilize_nb.core.evolve import evolve, genesis, slots
from stabilize_nb.core.facts import from_data
from stabilize_nb.core.rows import Head, StageRow
from stabilize_nb.core.view import TaskKey, View
from stabilize_nb.errors import ConfigError, StabilizeFatalError, StoreError
from stabilize_nb.models.status import WorkflowStatus
from stabilize_nb.queue.messages import RunTask
from stabilize_nb.store.codec import loads
from stabilize_nb.store.database import Database
from stabilize_nb.store.files import has_content
from stabilize_nb.store.finds import Found, read
from stabilize_nb.store.names import take_key
from stabilize_nb.store.rows import UNREADABLE, head_params
from stabilize_nb.store.store import about_of, insert_header
from stabilize_nb.store.writer import write_message, write_view

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from stabilize_nb.store.connection import Connection

S = WorkflowStatus
Row = dict[str, Any]
#: What has become of a run.
GOES_ON: Final = "goes on"
ENDED: Final = "ended"
HISTORY: Final = "only history"


@dataclass(frozen=True, slots=True, kw_only=True)
class SalvagedRun:
    """What was saved of a run: facts `read` and `lost`; `becomes` says whether it goes on, had ended, or is history."""

    run_id: str
    name: str
    read: int
    lost: int
    becomes: str
    why: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class SalvageReport:
    """What was saved of a store."""

    source: str
    target: str
    runs: tuple[SalvagedRun, ...]

    @property
    def read(self) -> int:
        """Facts that were read."""
        return sum(run.read for run in self.runs)

    @property
    def lost(self) -> int:
        """Facts that are known to have been there and were not read."""
        return sum(run.lost for run in self.runs)

    def __str__(self) -> str:
        count = {kind: sum(run.becomes == kind for run in self.runs) for kind in (GOES_ON, ENDED, HISTORY)}
        ways = ", ".join(f"{number} {kind}" for kind, number in count.items())
        return f"{self.target}: {self.read} facts of {len(self.runs)} runs were read, {self.lost} are lost ({ways})"


def salvage(source: str, target: str) -> SalvageReport:
    """
    Read what can be read of a damaged store and write it into a new one; the damaged one stays as it is.

    Nobody may work with the damaged one meanwhile: what is committed while it is read may be missing.

    Raises ConfigError when the target is there already, StoreError when the source cannot be read at all.
    """
    if Path(target).exists():
        raise ConfigError(f"{target} is there already; name a file that is not, the salvaged store becomes a new one")
    if not has_content(source) and not has_content(f"{source}-wal"):
        raise StoreError(f"database {source}: there is nothing to read in it")
    try:
        found = read(source)
    except apsw.Error as error:
        raise StoreError(f"database {source}: it cannot be read at all ({error})") from error
    views = _fold(found)
    database = Database.open(f"sqlite:///{target}")
    try:
        runs = database.call_write(lambda connection: _write(connection, found, views, database.clock()))
    finally:
        database.close()
    return SalvageReport(source=source, target=target, runs=tuple(runs))


# -- folding ------------------------------------------------------------------------------------------


class _Rows(dict[Any, Any]):
    """The rows of one run; claims and those who wait for them are shared by all runs of a store."""

    def __init__(self, shared: dict[Any, Any]) -> None:
        super().__init__()
        self.shared = shared

    def __contains__(self, key: object) -> bool:
        return super().__contains__(key) or key in self.shared

    def __missing__(self, key: Any) -> Any:
        return self.shared[key]

    def __setitem__(self, key: Any, row: Any) -> None:
        if key.kind in ("claim", "waiter"):
            self.shared[key] = row
        else:
            super().__setitem__(key, row)


def _fold(found: Found) -> dict[str, View]:
    """Return the rows of the runs whose logs are whole. Facts are taken in the order of commits: claims need it."""
    shared: dict[Any, Any] = {}
    whole = [id_ for id_ in found.ids if len(found.events[id_]) == found.ends[id_] == max(found.events[id_], default=0)]
    facts = sorted((row for id_ in whole for row in found.events[id_].values()), key=itemgetter("position"))
    views: dict[str, View] = {}
    broken = set()
    for row in facts:
        id_ = row["workflow_id"]
        try:
            if id_ not in broken:
                _follow(views, shared, row)
        except (*UNREADABLE, StabilizeFatalError):
            broken.add(id_)
    return {id_: view for id_, view in views.items() if id_ not in broken}


def _follow(views: dict[str, View], shared: dict[Any, Any], row: Row) -> None:
    data = loads(row["data"])
    if row["sequence"] == 1:
        start = genesis(data["definition"])
        views[row["workflow_id"]] = View(start.head, changed=_Rows(shared), complete=True)
    evolve(views[row["workflow_id"]], from_data(data), row["at"])


# -- writing ------------------------------------------------------------------------------------------


def _write(connection: Connection, found: Found, views: Mapping[str, View], now: int) -> list[SalvagedRun]:
    events = sorted((row for log in found.events.values() for row in log.values()), key=itemgetter("position"))
    connection.begin_part()
    for row in events:
        connection.run("insert_event", row | {"data": connection.own(row["workflow_id"], row["data"])})
    connection.end_part()
    runs = [_write_run(connection, found, id_, views.get(id_), now) for id_ in found.ids]
    rebuilt = {run.run_id for run in runs if run.becomes == GOES_ON}
    _write_claims(connection, [view for id_, view in views.items() if id_ in rebuilt])
    return runs


def _write_run(connection: Connection, found: Found, id_: str, view: View | None, now: int) -> SalvagedRun:
    """Write a run as its log has it; one whose rows the schema does not admit is kept as history too."""
    connection.begin_part()
    try:
        run = _keep(connection, found, id_, now) if view is None else _rebuild(connection, found, id_, view, now)
    except (apsw.ConstraintError, *UNREADABLE):
        connection.undo_part()
        run = _keep(connection, found, id_, now)
    connection.end_part()
    return run


def _rebuild(connection: Connection, found: Found, id_: str, view: View, now: int) -> SalvagedRun:
    """Write the rows of a run whose log is whole, and what it needs to go on."""
    definition = loads(found.events[id_][1]["data"])["definition"]
    start = genesis(definition).head
    insert_header(connection, start._replace(created_at=view.head.created_at), about_of(definition))
    if "key" in definition:
        take_key(connection, definition)
    write_view(connection, view, start)
    ended = view.head.ended_at is not None
    if not ended:
        _write_work(connection, found, view, now)
    return SalvagedRun(
        run_id=id_, name=view.head.name, read=len(found.events[id_]), lost=0, becomes=ENDED if ended else GOES_ON
    )


def _write_work(connection: Connection, found: Found, view: View, now: int) -> None:
    """Write the messages and durable steps of an unfinished run; a task that nobody asks for is asked for again."""
    asked = set()
    for row in found.messages[view.head.id]:
        begun = row["owner"] is not None  # its body was at work, and nobody knows what became of it
        changes = {"payload": connection.own(view.head.id, row["payload"]), "lost": row["lost"] + begun}
        connection.run("insert_message_row", row | changes | {"owner": None, "lease_until": None})
        if row["done_at"] is None and row["dead_at"] is None:
            asked.add((row["kind"], row["stage_id"]))
    for stage_id in {key.id for key in view.changed if key.kind == "stage"}:
        for row in found.journal[stage_id]:
            text = row["value"]
            own = None if text is None else connection.text(view.head.id, loads(text))
            connection.run("insert_journal", row | {"value": own})
    for message in _needed(view):
        if ("RunTask", message.stage_id) not in asked:
            write_message(connection, message, now)


def _needed(view: View) -> Iterator[RunTask]:
    """Yield the messages without which a run stands still: to run the tasks of stages at work."""
    stages: list[StageRow] = [row for key, row in view.changed.items() if key.kind == "stage" and row is not None]
    for row in stages:
        if row.status is not S.RUNNING or row.phase:
            continue
        tasks = (view.get(TaskKey(row.id, position)) for position in range(len(row.spec.tasks)))
        task = next((task for task in tasks if task is not None and not task.status.is_complete), None)
        if task is not None:
            yield RunTask(
                execution_id=view.head.id, stage_id=row.id, generation=row.generation, position=task.position,
                task_type=task.implementing_class,
            )  # fmt: skip


def _write_claims(connection: Connection, views: Sequence[View]) -> None:
    """Write who holds and waits for what, among the runs that go on."""
    alive = {view.head.id for view in views}
    taken = Counter(slots(view.head.lane) for view in views if view.head.slot)
    shared: dict[Any, Any] = next((view.changed.shared for view in views if isinstance(view.changed, _Rows)), {})
    for key, row in shared.items():
        if row is None or (row.workflow_id and row.workflow_id not in alive):
            continue
        if key.kind == "waiter":
            connection.run("put_waiter", row._asdict())
        elif row.workflow_id or row.name in taken:
            connection.run("put_claim", row._asdict() | {"settled": int(row.settled), "taken": taken[row.name]})


def _keep(connection: Connection, found: Found, id_: str, now: int) -> SalvagedRun:
    """Write a header for a run of which only facts are left: it has ended, and says why it is not whole."""
    log = found.events[id_]
    read, last = len(log), max(found.ends[id_], max(log, default=0))
    lost = last - read
    header = found.headers.get(id_)
    definition = loads(log[1]["data"]).get("definition", {}) if 1 in log else {}
    name = str((header or definition).get("name", "unknown"))
    gap = f"{lost} of {last} facts of its log are lost" if lost else "its log cannot be followed"
    why = f"salvaged from a damaged file: {gap}, so it is only history"
    times = [row["at"] for row in log.values()] or [now]
    status = S.__members__[header["status"]] if header is not None and header["ended_at"] is not None else S.TERMINAL
    head = Head(
        id=id_, application=str((header or definition).get("application", "")), name=name, status=status, paused=False,
        ending=None, cancels=False, late_failures=0, active=0, sequence=last, jumps=0, error=why, context={},
        created_at=min(times), started_at=min(times), ended_at=max(times),
    )  # fmt: skip
    blank: Row = {"trigger": {"type": "manual", "user": "", "payload": {}}, "pipeline_config_id": None}
    insert_header(connection, head._replace(status=S.NOT_STARTED), blank | {"salvaged": {"lost": lost}})
    connection.run("update_head", head_params(head))
    return SalvagedRun(run_id=id_, name=name, read=read, lost=lost, becomes=HISTORY, why=gap)
