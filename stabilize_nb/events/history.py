"""The log of one workflow, folded to what people ask of it: names, runs of stages, attempts of tasks.

Everything comes from the log itself, so that rows which a reset took away are known too. Facts are read here as the
JSON data that the log holds: a listener that was told of some facts only, or a log with facts of a newer version,
is read as far as it goes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

from stabilize_nb.core.evolve import evolve, genesis
from stabilize_nb.core.facts import from_data
from stabilize_nb.errors import StoreDamagedError
from stabilize_nb.models.multi_instance import instance_ref
from stabilize_nb.models.status import InvalidStateTransitionError
from stabilize_nb.store.codec import loads_all
from stabilize_nb.store.rows import UNREADABLE

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from stabilize_nb.core.view import View
    from stabilize_nb.store.database import Database

#: The status that an event brings about, where its data does not say it.
STATUS_AFTER = {
    "workflow.created": "NOT_STARTED",
    "workflow.started": "RUNNING",
    "workflow.paused": "PAUSED",
    "workflow.resumed": "RUNNING",
    "workflow.restarted": "RUNNING",
    "stage.started": "RUNNING",
    "stage.suspended": "SUSPENDED",
    "stage.paused": "PAUSED",
    "stage.resumed": "RUNNING",
    "stage.reset": "NOT_STARTED",
    "task.started": "RUNNING",
    "task.lost": "SUSPENDED",
    "task.settled": "RUNNING",
    "signal.delivered": "RUNNING",
}


class Entry(NamedTuple):
    """One fact of the log; `at` is ms since the epoch."""

    sequence: int
    type: str
    at: int
    stage_id: str
    data: dict[str, Any]


def entries_of(database: Database, run_id: str, until: int | None = None, *, after: int = 0) -> list[Entry]:
    """Return the facts of a workflow with `after` < sequence <= `until`, read by one query."""
    params = {"workflow_id": run_id, "after": after, "until": 2**62 if until is None else until}
    rows = database.call_read(lambda connection: connection.all("events_of_workflow", params))
    documents = loads_all([row[6] for row in rows])
    return [
        Entry(sequence, kind, at, stage_id, data)
        for (_, _, sequence, kind, at, stage_id, _), data in zip(rows, documents, strict=True)
    ]


def unfit(entry: Entry, error: Exception) -> StoreDamagedError:
    """Return the sentence for a fact that does not follow from those before it."""
    cause = f"{type(error).__name__}: {error}"
    return StoreDamagedError(
        f"fact {entry.sequence} ({entry.type}) of the log does not fit those before it ({cause}): the database is "
        "damaged, or was salvaged with gaps; `stabilize-nb doctor` on its file says more"
    )


def beginning(first: Entry) -> View:
    """Return the view that the first fact of a log makes the rows of; raises StoreDamagedError for another one."""
    try:
        return genesis(first.data["definition"])
    except UNREADABLE as error:
        raise unfit(first, error) from error


def after(view: View, entry: Entry) -> None:
    """Let the next fact of a log have happened; raises StoreDamagedError when it cannot have."""
    try:
        if entry.sequence != view.head.sequence + 1:
            raise ValueError(f"fact {view.head.sequence + 1} is missing")
        evolve(view, from_data(entry.data), entry.at)
    except (*UNREADABLE, InvalidStateTransitionError) as error:
        raise unfit(entry, error) from error


class Names:
    """What a log says of the names of stages and tasks, by the id of the stage's row."""

    def __init__(self) -> None:
        self.refs: dict[str, str] = {}
        self.types: dict[str, str] = {}
        self._tasks: dict[str, list[list[str]]] = {}
        self._instances: dict[str, dict[str, Any]] = {}

    def learn(self, data: Mapping[str, Any]) -> None:
        """Take in the names that a fact tells."""
        if data.get("fact") == "WorkflowCreated":
            for stage in data["definition"]["stages"]:
                spec = stage["spec"]
                self.refs[stage["id"]] = spec["ref_id"]
                self.types[stage["id"]] = spec.get("type", "")
                self._tasks[stage["id"]] = spec["tasks"]
                self._instances[stage["id"]] = spec.get("mi_config", {}).get("instance", {})
        elif data.get("fact") == "JoinFired" and data["row"] not in self.refs and data["stage"] in self.refs:
            row, base = data["row"], data["stage"]
            self.refs[row] = f"{self.refs[base]}#{data['activation']}"
            self.types[row] = self.types[base]
            self._tasks[row] = self._tasks[base]

        elif data.get("fact") == "InstanceAdded" and data["stage"] in self.refs:
            row, parent = data["row"], data["stage"]
            template = self._instances.get(parent, {})
            self.refs[row] = instance_ref(self.refs[parent], data["index"])
            self.types[row] = template.get("type", "")
            self._tasks[row] = template.get("tasks", [])

    def task(self, stage_id: str, position: int | None) -> str | None:
        """Return the name of a task; None when the fact is not about one."""
        tasks = self._tasks.get(stage_id)
        return None if position is None or tasks is None else tasks[position][0]


@dataclass(slots=True)
class Run:
    """A run of a stage; times are ms since the epoch."""

    ref_id: str
    stage_id: str
    number: int
    queued: int | None = None
    status: str = "NOT_STARTED"
    started: int | None = None
    finished: int | None = None
    attempts: int = 0
    error: str | None = None


@dataclass(slots=True)
class Attempt:
    """An attempt of a task body; `status` is RETRIED, POLLED, LOST or DISCARDED where no status of tasks says it."""

    run: Run
    task: str | None
    number: int
    started: int
    status: str = "RUNNING"
    finished: int | None = None
    error: str | None = None

    def end(self, status: str, at: int, error: str | None) -> None:
        """Say how it ended."""
        self.status, self.finished, self.error = status, at, error


class History:
    """The log of one workflow, folded to the runs of its stages and the attempts of their tasks."""

    def __init__(self, entries: Iterable[Entry]) -> None:
        self.runs: list[Run] = []
        self.attempts: list[Attempt] = []
        self._names = Names()
        self._now: dict[str, Run] = {}
        self._at_work: dict[tuple[str, int], Attempt] = {}
        self._overtaken: list[Attempt] = []
        self._reset: dict[str, int] = {}
        self._begun: int | None = None
        self._count: dict[str, int] = {}
        for entry in entries:
            try:
                self._names.learn(entry.data)
                self._take(entry, entry.data)
            except UNREADABLE as error:
                raise unfit(entry, error) from error

    def _take(self, entry: Entry, data: dict[str, Any]) -> None:
        at, stage_id = entry.at, entry.stage_id
        match data["fact"]:
            case "WorkflowStarted":
                self._begun = at
            case "JoinFired":
                self._run(data["row"]).queued = at
            case "StageStarted":
                run = self._run(stage_id)
                run.status, run.started = "RUNNING", at
                run.queued = run.queued or self._reset.get(stage_id, self._begun)
            case "StageEnded":
                run = self._run(stage_id)
                run.status, run.finished, run.error = data["status"], at, data.get("error") or run.error
                self._withdraw_attempts(stage_id, at)
            case "StageSuspended":
                self._run(stage_id).status = "SUSPENDED"
                self._end(entry, "SUSPENDED")
            case "TaskLost":
                self._run(stage_id).status = "SUSPENDED"
                self._end(entry, "LOST")
            case "StagePaused" | "StageResumed" | "SignalDelivered" | "TaskSettled":
                self._run(stage_id).status = STATUS_AFTER[entry.type]
            case "StageReset" | "StageRetired":
                self._reset[stage_id] = at
                self._break_off(stage_id, at)
            case "TaskStarted":
                self._begin(entry)
            case "TaskEnded":
                self._end(entry, data["status"])
                run = self._run(stage_id)
                run.error = data.get("error") or run.error
                if data["status"] == "REDIRECT":
                    run.status = "REDIRECT"
            case "TaskRetried":
                self._end(entry, "RETRIED")
            case "TaskPolled":
                self._end(entry, "POLLED")
            case "ResultDiscarded":
                self._discard(entry)
            case _:
                pass

    def _run(self, stage_id: str) -> Run:
        run = self._now.get(stage_id)
        if run is None:
            ref = self._names.refs[stage_id]
            number = self._count[ref] = self._count.get(ref, 0) + 1
            run = Run(ref, stage_id, number)
            self._now[stage_id] = run
            self.runs.append(run)
        return run

    def _break_off(self, stage_id: str, at: int) -> None:
        run = self._now.pop(stage_id, None)
        if run is not None and run.finished is None:
            run.finished = at
            run.status = "REDIRECT" if run.status == "REDIRECT" else "CANCELED"
        self._withdraw_attempts(stage_id, at)

    def _withdraw_attempts(self, stage_id: str, at: int) -> None:
        for key in [key for key in self._at_work if key[0] == stage_id]:
            attempt = self._at_work.pop(key)
            attempt.end("CANCELED", at, None)
            self._overtaken.append(attempt)

    def _begin(self, entry: Entry) -> None:
        key = (entry.stage_id, entry.data["position"])
        earlier = self._at_work.get(key)
        if earlier is not None:
            earlier.end("LOST", entry.at, None)
            self._overtaken.append(earlier)
        run = self._run(entry.stage_id)
        run.attempts += 1
        attempt = Attempt(run, self._names.task(*key), entry.data["attempt"], entry.at)
        self._at_work[key] = attempt
        self.attempts.append(attempt)

    def _end(self, entry: Entry, status: str) -> None:
        attempt = self._at_work.pop((entry.stage_id, entry.data["position"]), None)
        if attempt is not None:
            attempt.end(status, entry.at, entry.data.get("error"))

    def _discard(self, entry: Entry) -> None:
        data = entry.data
        for attempt in self._overtaken:
            if attempt.run.stage_id == entry.stage_id and attempt.number == data["attempt"]:
                attempt.end("DISCARDED", entry.at, data["reason"])
                self._overtaken.remove(attempt)
                return
