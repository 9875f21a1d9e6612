"""Schedules as rows: what is to be started again and again, and the one commit in which a due time becomes a run."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from stabilize_nb.errors import StabilizeError
from stabilize_nb.models.ids import new_id
from stabilize_nb.models.plan import Plan
from stabilize_nb.models.priority import due_at, priority_in
from stabilize_nb.queue.messages import StartWorkflow
from stabilize_nb.store.codec import dumps, loads
from stabilize_nb.store.names import take_key
from stabilize_nb.store.rows import UNREADABLE
from stabilize_nb.store.store import create
from stabilize_nb.store.writer import write_message

if TYPE_CHECKING:
    from collections.abc import Mapping

    from stabilize_nb.core.facts import WorkflowCreated
    from stabilize_nb.store.connection import Connection

#: The input by which a run knows for which time it was started.
DUE: Final = "due"
#: Schedules of which due times become runs in one transaction.
BATCH: Final = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class ScheduleRow:
    """A schedule; times are ms since the epoch (UTC). `last_run` was started for `last_due`."""

    key: str
    cron: str
    timezone: str
    catch_up: Any
    definition: str
    paused: int
    next_due: int | None
    last_due: int | None
    last_run: str | None
    error: str | None

    @property
    def plan(self) -> Plan:
        """When it is due."""
        return Plan(cron=self.cron, timezone=self.timezone, catch_up=self.catch_up)

    @property
    def workflow(self) -> str:
        """The name of the workflow that it starts."""
        return str(loads(self.definition)["name"])

    @property
    def told(self) -> tuple[Any, ...]:
        """What is told of it, in the order of `schedules.SCHEDULES`."""
        return (
            self.key, self.workflow, self.cron, self.timezone, self.plan.words, self.catch_up, bool(self.paused),
            None if self.paused else self.next_due, self.last_due, self.last_run, self.error,
        )  # fmt: skip


def schedules_in(connection: Connection, name: str = "schedules", **wanted: Any) -> list[ScheduleRow]:
    """Return the schedules that a query gives."""
    names = tuple(ScheduleRow.__dataclass_fields__)
    return [ScheduleRow(**dict(zip(names, row, strict=True))) for row in connection.all(name, wanted)]


def put_schedule(connection: Connection, key: str, plan: Plan, definition: Mapping[str, Any], now: int) -> None:
    """Write a schedule, or what it is from now on; what is due next stays when its times stay the same."""
    earlier = next(iter(schedules_in(connection, "schedule", key=key)), None)
    same = earlier is not None and (earlier.cron, earlier.timezone) == (plan.cron, plan.timezone)
    row = {
        "key": key, "cron": plan.cron, "timezone": plan.timezone, "catch_up": plan.catch_up,
        "definition": dumps(dict(definition)),
        "next_due": earlier.next_due if earlier is not None and same else plan.after(now),
    }  # fmt: skip
    connection.run("put_schedule", row)


def fire(connection: Connection, now: int, owner: str) -> list[WorkflowCreated]:
    """
    Start a run for each due time that counts, and return what was made; the caller commits.

    Whoever moves a schedule on to what is due next has its due times: others find it moved.
    """
    made = []
    for row in schedules_in(connection, "due_schedules", now=now, most=BATCH):
        connection.begin_part()
        try:
            made += _fire(connection, row, now, owner)
        except (StabilizeError, *UNREADABLE) as error:
            connection.undo_part()
            connection.run("break_schedule", {"key": row.key, "error": str(error)})
        connection.end_part()
    return made


def _fire(connection: Connection, row: ScheduleRow, now: int, owner: str) -> list[WorkflowCreated]:
    times, following = row.plan.firings(row.next_due or now, now)
    runs = [_definition(row, due) for due in times]
    moved = {
        "key": row.key, "seen": row.next_due, "next_due": following,
        "last_due": times[-1] if times else row.last_due, "last_run": runs[-1]["id"] if runs else row.last_run,
    }  # fmt: skip
    if not connection.changed("move_schedule", moved):
        return []
    made = []
    for definition in runs:
        if take_key(connection, definition):
            made.append(create(connection, definition, now))
            connection.run("take_custody", {"workflow_id": definition["id"], "owner": owner})
            place = due_at(now, 0, priority_in(definition["context"]))
            write_message(connection, StartWorkflow(execution_id=definition["id"]), place)
    return made


def _definition(row: ScheduleRow, due: int) -> dict[str, Any]:
    """Return what a schedule starts for a due time, with ids of its own."""
    kept: dict[str, Any] = loads(row.definition)
    at = row.plan.local(due)
    ids = {stage["id"]: new_id() for stage in kept["stages"]}
    about = {"schedule": row.key, DUE: at}
    return {
        **kept, "id": new_id(), "key": f"schedule:{row.key}:{at}", "context": {DUE: at, **kept["context"]},
        "trigger": {**kept["trigger"], "type": "schedule", "payload": {**kept["trigger"]["payload"], **about}},
        "attributes": {**kept.get("attributes", {}), "schedule": row.key},
        "stages": [_renamed(stage, ids) for stage in kept["stages"]],
    }  # fmt: skip


def _renamed(stage: Mapping[str, Any], ids: Mapping[str, str]) -> dict[str, Any]:
    spec = dict(stage["spec"])
    if "parent_stage_id" in spec:
        spec["parent_stage_id"] = ids[spec["parent_stage_id"]]
    return {**stage, "id": ids[stage["id"]], "spec": spec}
