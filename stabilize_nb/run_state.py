"""RunState: a run as it was at one moment of its log. It is read-only, and the same moment is always the same state."""

from __future__ import annotations

from copy import deepcopy
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time, timedelta
from importlib import import_module
from operator import index
from typing import TYPE_CHECKING, Any

from stabilize_nb.core.draft import Draft, Env
from stabilize_nb.core.evolve import ENGINE_KEYS
from stabilize_nb.core.inputs import visible
from stabilize_nb.core.rows import StageRow
from stabilize_nb.core.view import TaskKey, View
from stabilize_nb.deterministic import is_deterministic
from stabilize_nb.errors import ConfigError, StageNotFoundError
from stabilize_nb.events.past import Past
from stabilize_nb.events.replay import picture_of
from stabilize_nb.explain_stage import explain_stage
from stabilize_nb.gates import Gate, gate_of
from stabilize_nb.models.near import listed
from stabilize_nb.models.status import WorkflowStatus

if TYPE_CHECKING:
    from stabilize_nb.models.stage import StageExecution
    from stabilize_nb.models.workflow import Workflow
    from stabilize_nb.store.database import Database

S = WorkflowStatus
#: A moment of a run: the number of a fact, or a time. Text is a time in ISO 8601, or one of the day: "06:31:41".
Moment = int | str | datetime
_EPOCH = datetime.fromtimestamp(0, UTC)
_MS = timedelta(milliseconds=1)
#: Milliseconds that a time written in whole seconds covers beside its first.
SECOND = 999


@dataclass(frozen=True, slots=True)
class StageState:
    """A stage as it was at one moment; what is asked for is a copy. Times are UTC."""

    view: View = field(repr=False, compare=False)
    row: StageRow = field(repr=False)

    @property
    def ref_id(self) -> str:
        """The name of the stage; `#2` and up for further activations."""
        return self.row.ref_id

    @property
    def id(self) -> str:
        """The id of its row."""
        return self.row.id

    @property
    def status(self) -> WorkflowStatus:
        """Where it stood."""
        return self.row.status

    @property
    def inputs(self) -> dict[str, Any]:
        """What its tasks saw or would have seen: its own context over the outputs before it over the run's inputs.

        What the engine itself keeps there is left out: errors, and names with a leading underscore.
        """
        seen = visible(Draft(self.view, Env(now=0)), self.row)
        return {
            key: deepcopy(value) for key, value in seen.items() if not key.startswith("_") and key not in ENGINE_KEYS
        }

    @property
    def context(self) -> dict[str, Any]:
        """Its own context, everything in it."""
        return deepcopy(dict(self.row.context))

    @property
    def outputs(self) -> dict[str, Any]:
        """What it had put out."""
        return deepcopy(dict(self.row.outputs))

    @property
    def error(self) -> str | None:
        """Why it had failed, when it had."""
        return self.row.error

    @property
    def attempts(self) -> int:
        """How many task bodies it had begun in its present round."""
        tasks = (self.view.get(TaskKey(self.row.id, at)) for at in range(len(self.row.spec.tasks)))
        return sum(task.attempt for task in tasks if task is not None)

    @property
    def round(self) -> int:
        """1, and one more for each time it had been reset by a jump or a restart."""
        return self.row.generation + 1

    @property
    def started(self) -> datetime | None:
        """When it had begun."""
        return _utc(self.row.started_at)

    @property
    def finished(self) -> datetime | None:
        """When it had ended."""
        return _utc(self.row.ended_at)

    def __repr__(self) -> str:
        return f"StageState({self.ref_id!r}, {self.status})"


def _utc(ms: int | None) -> datetime | None:
    return None if ms is None else datetime.fromtimestamp(ms / 1_000, UTC)


@dataclass(frozen=True, slots=True, kw_only=True)
class RunState:
    """A run as it was right after the fact number `sequence`. Two states of one run and number are equal."""

    run_id: str
    sequence: int
    past: Past = field(repr=False, compare=False)
    view: View = field(repr=False, compare=False)

    @classmethod
    def of(cls, past: Past, sequence: int) -> RunState:
        """Return the state after a fact that the past has."""
        return cls(run_id=past.run_id, sequence=sequence, past=past, view=past.view(sequence))

    @property
    def time(self) -> datetime:
        """When the fact was committed (UTC)."""
        return self.past.time(self.sequence)

    @property
    def name(self) -> str:
        """The name of the workflow."""
        return self.view.head.name

    @property
    def status(self) -> WorkflowStatus:
        """The status of the workflow."""
        return self.view.head.status

    @property
    def error(self) -> str | None:
        """Why the run had failed, when it had."""
        return self.view.head.error

    @property
    def inputs(self) -> dict[str, Any]:
        """What the run was started with."""
        return deepcopy(dict(self.view.head.context))

    @property
    def outputs(self) -> dict[str, dict[str, Any]]:
        """The outputs of every stage that had some, by ref_id."""
        return {stage.ref_id: stage.outputs for stage in self.stages if stage.outputs}

    @property
    def rows(self) -> list[StageRow]:
        """The stages as stored, in the order in which they were written, further activations last."""
        rows = [row for key, row in self.view.changed.items() if key.kind == "stage" and row is not None]
        return sorted(rows, key=lambda row: (row.activation > 1, row.ordinal, row.activation))

    @property
    def stages(self) -> list[StageState]:
        """The stages in the order in which they were written, further activations last."""
        return [StageState(self.view, row) for row in self.rows]

    @property
    def gates(self) -> list[Gate]:
        """The gates that waited for a decision, oldest first."""
        waiting = sorted(filter(_is_waiting, self.workflow.stages), key=lambda stage: (stage.start_time or 0, stage.id))
        return [gate_of(self.run_id, self.name, stage) for stage in waiting]

    @property
    def workflow(self) -> Workflow:
        """A picture of the workflow as it was, with all stages; changing it changes nothing else."""
        return deepcopy(picture_of(self.view, self.past.entry(1).data["definition"]))

    def stage(self, name: str) -> StageState:
        """Return a stage by its ref_id or id; raises StageNotFoundError."""
        rows = self.rows
        for row in rows:
            if name in (row.ref_id, row.id):
                return StageState(self.view, row)
        there = listed(name, [row.ref_id for row in rows])
        msg = f"run {self.run_id} had no stage {name!r} after fact {self.sequence}; its stages were: {there}"
        raise StageNotFoundError(msg)

    def explain(self, name: str) -> str:
        """Return one sentence: why a stage had not run, what it waited for, or how it had ended."""
        return explain_stage(self, name)

    def __repr__(self) -> str:
        rows = self.rows
        done = sum(row.status.is_complete for row in rows)
        return f"RunState({self.name!r}, {self.run_id}, fact {self.sequence}, {self.status}, {done}/{len(rows)} stages)"

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> dict[str, Any]:
        # IPython calls this; nothing below the notebook may import it.
        bundle: dict[str, Any] = import_module("stabilize_nb.notebook.past").state_bundle(self)
        return bundle


def _is_waiting(stage: StageExecution) -> bool:
    """Whether a stage waits for a decision or a signal; one that waits for its sub-workflow does not."""
    return stage.status is S.SUSPENDED and any(
        task.status is S.SUSPENDED and task.implementing_class != "sub_workflow" for task in stage.tasks
    )


def state_at(database: Database, run_id: str, moment: Moment) -> RunState:
    """Return a run as it was at a moment; raises ConfigError for one that the run does not have."""
    past = Past(database, run_id)
    return RunState.of(past, sequence_of(past, moment))


def sequence_of(past: Past, moment: Moment) -> int:
    """
    Return the number of the last fact up to a moment.

    A time without a zone is local time, as cells show it (deterministic: UTC); text without parts of a second means
    all of the second, as cells show no parts.

    Raises ConfigError for a moment before the run, or one that has no fact yet, and for what is no moment.
    """
    if isinstance(moment, str):
        when = _written(past, moment.strip())
        return _sequence_at(past, aware(when), SECOND if when.microsecond == 0 else 0)
    if isinstance(moment, datetime):
        if moment != moment:  # noqa: PLR0124 - NaT is a datetime, and not equal to itself
            raise ConfigError(_no_moment(past, moment))
        return _sequence_at(past, aware(moment), 0)
    try:
        number = index(moment)
    except TypeError:
        raise ConfigError(_no_moment(past, moment)) from None
    if isinstance(moment, bool):
        raise ConfigError(_no_moment(past, moment))
    if not 1 <= number <= past.last:
        msg = f"run {past.run_id} has no fact {number}; its facts have the numbers 1 to {past.last}"
        raise ConfigError(msg)
    return number


def _no_moment(past: Past, given: object) -> str:
    return (
        f"{given!r} is no moment of run {past.run_id}: give the number of a fact (1 to {past.last}), a datetime, or a "
        "time as text such as '2026-11-22 06:31:41' or '06:31:41'"
    )


def aware(when: datetime) -> datetime:
    """Return a time with its zone: this machine's where none is said, in deterministic mode UTC."""
    if when.tzinfo is not None:
        return when
    return when.replace(tzinfo=UTC) if is_deterministic() else when.astimezone()


def _written(past: Past, text: str) -> datetime:
    try:
        return datetime.fromisoformat(text)
    except ValueError:
        pass
    try:
        return _within(past, time.fromisoformat(text))
    except ValueError:
        raise ConfigError(_no_moment(past, text)) from None


def _within(past: Past, of_day: time) -> datetime:
    """Return a time of day as one of the run: of the day it began, or of the day of its last fact."""
    begin, end = (_local(past.time(sequence)) for sequence in (1, past.last))
    days: dict[date, None] = {begin.date(): None, end.date(): None}
    found = [datetime.combine(day, of_day, of_day.tzinfo or begin.tzinfo) for day in days]
    return next((each for each in found if begin.replace(microsecond=0) <= each <= end), found[0])


def _local(moment: datetime) -> datetime:
    return moment if is_deterministic() else moment.astimezone()


def _sequence_at(past: Past, when: datetime, more: int) -> int:
    at = (when - _EPOCH) // _MS
    if at > past.now():
        msg = f"{when.isoformat()} is still to come; run {past.run_id} has {past.last} facts so far"
        raise ConfigError(msg)
    found = max((entry.sequence for entry in past.entries if entry.at <= at + more), default=0)
    if not found:
        begun = _local(past.time(1)).isoformat(timespec="milliseconds")
        msg = f"run {past.run_id} was not there yet at {when.isoformat()}; it was stored at {begun}"
        raise ConfigError(msg)
    return found
