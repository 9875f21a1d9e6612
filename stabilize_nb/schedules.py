"""Schedules: a flow that is started again and again, by whichever process works at the store when it is due."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from stabilize_nb.errors import ConfigError
from stabilize_nb.events.frames import TIME, Column, frame_of
from stabilize_nb.models.near import close
from stabilize_nb.models.plan import CatchUp, Plan
from stabilize_nb.models.workflow import Workflow
from stabilize_nb.store.names import checked_key
from stabilize_nb.store.schedules import DUE, ScheduleRow, put_schedule, schedules_in

if TYPE_CHECKING:
    from collections.abc import Mapping

    import pandas as pd

    from stabilize_nb.engine import Definition, Engine

SCHEDULES: Final = (
    Column("key", "string", "what the schedule is called"),
    Column("workflow", "string", "name of the workflow that it starts"),
    Column("cron", "string", "when it is due"),
    Column("timezone", "string", "in which time zone"),
    Column("says", "string", "the same in words"),
    Column("catch_up", "category", "what is done about due times that nobody saw", ("one", "all", "skip")),
    Column("paused", "boolean", "whether it starts nothing"),
    Column("next_due", TIME, "when it is due next; missing when never, or while it is paused"),
    Column("last_due", TIME, "the last time for which it started a run"),
    Column("last_run", "string", "id of that run"),
    Column("error", "string", "why it could not start a run, and was paused"),
)


class Schedule:
    """A handle on one schedule."""

    def __init__(self, engine: Engine, key: str) -> None:
        self.engine = engine
        self.key = key

    @property
    def row(self) -> ScheduleRow:
        """The schedule as it is stored now; raises ConfigError when there is none of this key."""
        rows = self.engine.database.call_read(schedules_in)
        known = {row.key: row for row in rows}
        if self.key not in known:
            there = f"; there are {', '.join(map(repr, known))}" if known else "; there are none"
            raise ConfigError(f"there is no schedule {self.key!r}{close(self.key, tuple(known)) or there}")
        return known[self.key]

    @property
    def next_due(self) -> str | None:
        """When it is due next, as ISO 8601 text in its time zone; None while it is paused, or when never."""
        row = self.row
        return None if row.paused or row.next_due is None else row.plan.local(row.next_due)

    @property
    def is_paused(self) -> bool:
        """Whether it starts nothing."""
        return bool(self.row.paused)

    def pause(self) -> None:
        """Start nothing until `resume`; what is due meanwhile is not made up for."""
        self._change("pause_schedule", self.row.key)

    def resume(self) -> None:
        """Start again what is due from now on."""
        row = self.row
        if row.paused:
            self._change("resume_schedule", row.key, next_due=row.plan.after(self.engine.database.clock()))
            self.engine.work()

    def delete(self) -> None:
        """Forget the schedule; runs that it has started stay."""
        self._change("delete_schedule", self.row.key)

    def _change(self, name: str, key: str, **values: Any) -> None:
        self.engine.database.call_write(lambda connection: connection.run(name, {"key": key, **values}))

    def __repr__(self) -> str:
        row = self.row
        when = "paused" if row.paused else f"next due {self.next_due}"
        return f"Schedule({self.key!r}, {row.cron!r} {row.timezone}, {when})"


def schedule(
    engine: Engine,
    work: Definition | Workflow,
    plan: Plan,
    key: str,
    inputs: Mapping[str, Any],
    *,
    attributes: Mapping[str, str],
    plain_secrets: bool,
) -> Schedule:
    """Store what is to be started when, under a key; one of the same key is this one from now on."""
    now = engine.database.clock()
    if plan.after(now) is None:
        raise ConfigError(f"cron={plan.cron!r} is never due; use an expression that some day has")
    if isinstance(work, Workflow):
        workflow = work
        workflow.context.update(inputs)
    else:
        work.register(engine.registry)
        asked = getattr(work, "inputs", {})
        workflow = work.build(**({DUE: ""} if DUE in asked else {}), **inputs)
    given = {name: value for name, value in workflow.context.items() if name != DUE or DUE in inputs}
    workflow.context = given
    workflow.attributes = {**workflow.attributes, **attributes}
    definition = engine.store.accepted(workflow, allow_plain_secrets=plain_secrets)
    name = checked_key(key) or workflow.name
    engine.database.call_write(lambda connection: put_schedule(connection, name, plan, definition, now))
    engine.work()
    return Schedule(engine, name)


def schedules_frame(engine: Engine) -> pd.DataFrame:
    """Frame of the schedules of a store, by key; columns: `SCHEDULES`."""
    return frame_of(SCHEDULES, (row.told for row in schedule_rows(engine)))


def schedule_rows(engine: Engine) -> list[ScheduleRow]:
    """Return the schedules of a store, by key."""
    return engine.database.call_read(schedules_in)


__all__ = ["SCHEDULES", "CatchUp", "Schedule", "schedule", "schedule_rows", "schedules_frame"]
