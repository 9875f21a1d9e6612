"""Projections: what many events add up to.

Each is applied to events one by one, live or from a log or first the one and then the other: an event that was
applied before changes nothing. Their states are values and may be read from any thread.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from stabilize_nb.errors import StoreError
from stabilize_nb.events.bus import Event, EventType
from stabilize_nb.events.history import STATUS_AFTER, Names, entries_of
from stabilize_nb.events.log import log_of

if TYPE_CHECKING:
    from collections.abc import Callable

T = EventType
_ENDS = frozenset({T.WORKFLOW_COMPLETED, T.WORKFLOW_FAILED, T.WORKFLOW_CANCELED})
#: The type of stages of a workflow whose definition cannot be found.
UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True, kw_only=True)
class StageMetrics:
    """How the runs of all stages of one type went; a stage that is reset and run again has another run.

    `executions` counts runs that began, `failed` also failures that were tolerated, `retries` further attempts of
    tasks, which are no runs. Durations are of runs that succeeded or failed.
    """

    executions: int = 0
    succeeded: int = 0
    failed: int = 0
    skipped: int = 0
    canceled: int = 0
    retries: int = 0
    total_duration: timedelta = timedelta()
    shortest: timedelta | None = None
    longest: timedelta | None = None

    @property
    def success_rate(self) -> float:
        """Percentage of successes among the runs that succeeded or failed; 0.0 while there are none."""
        ended = self.succeeded + self.failed
        return 100.0 * self.succeeded / ended if ended else 0.0

    @property
    def mean_duration(self) -> timedelta | None:
        """Mean time from start to end; None while no run has succeeded or failed."""
        ended = self.succeeded + self.failed
        return self.total_duration / ended if ended else None

    def lasting(self, duration: timedelta) -> StageMetrics:
        """Return the metrics with the duration of one more run."""
        return replace(
            self,
            total_duration=self.total_duration + duration,
            shortest=duration if self.shortest is None else min(self.shortest, duration),
            longest=duration if self.longest is None else max(self.longest, duration),
        )


class _Seen:
    """Tells events that are new, and what the stages of their workflows are called."""

    def __init__(self) -> None:
        self._last: dict[str, int] = {}
        self._names: dict[str, Names] = {}

    def is_new(self, event: Event) -> bool:
        """Whether a logged event was not seen before."""
        if event.sequence <= self._last.get(event.workflow_id, 0):
            return False
        self._last[event.workflow_id] = event.sequence
        return True

    def names(self, event: Event) -> Names:
        """Return the names in the workflow of an event; from its log when its beginning was missed."""
        names = self._names.get(event.workflow_id)
        if names is None:
            names = self._names[event.workflow_id] = Names()
            if event.event_type is not T.WORKFLOW_CREATED:
                _learn_late(names, event.workflow_id)
        names.learn(event.data)
        return names

    def forget(self, workflow_id: str) -> None:
        """Keep the names of a workflow no longer."""
        self._names.pop(workflow_id, None)


def _learn_late(names: Names, workflow_id: str) -> None:
    try:
        log = log_of(workflow_id)
        entries = entries_of(log.database, workflow_id) if log is not None else []
    except StoreError:  # the store was closed meanwhile
        return
    for entry in entries:
        names.learn(entry.data)


class StageMetricsProjection:
    """Counts, success rates and durations by type of stage: `bus.subscribe("metrics", metrics.apply)`."""

    def __init__(self) -> None:
        self._metrics: dict[str, StageMetrics] = {}
        self._seen = _Seen()
        self._started: dict[str, datetime] = {}

    def apply(self, event: Event) -> None:
        """Take in an event."""
        if not self._seen.is_new(event):
            return
        names = self._seen.names(event)
        if event.event_type in _ENDS:
            self._seen.forget(event.workflow_id)
        count = _COUNTS.get(event.event_type)
        if count is None:
            return
        kind = names.types.get(event.entity_id, UNKNOWN)
        metrics = count(self._metrics.get(kind, StageMetrics()), event)
        if event.event_type is T.STAGE_STARTED:
            self._started[event.entity_id] = event.timestamp
        elif event.event_type is not T.TASK_RETRIED:
            started = self._started.pop(event.entity_id, None)
            if started is not None and event.event_type in _LASTED:
                metrics = metrics.lasting(event.timestamp - started)
        self._metrics[kind] = metrics

    def get_state(self) -> dict[str, StageMetrics]:
        """Return the metrics by type of stage."""
        return dict(self._metrics)


def _completed(metrics: StageMetrics, event: Event) -> StageMetrics:
    if event.data.get("status") == "SUCCEEDED":
        return replace(metrics, succeeded=metrics.succeeded + 1)
    return replace(metrics, failed=metrics.failed + 1)


_LASTED = frozenset({T.STAGE_COMPLETED, T.STAGE_FAILED})
_COUNTS: dict[EventType, Callable[[StageMetrics, Event], StageMetrics]] = {
    T.STAGE_STARTED: lambda metrics, _: replace(metrics, executions=metrics.executions + 1),
    T.STAGE_COMPLETED: _completed,
    T.STAGE_FAILED: _completed,
    T.STAGE_SKIPPED: lambda metrics, _: replace(metrics, skipped=metrics.skipped + 1),
    T.STAGE_CANCELED: lambda metrics, _: replace(metrics, canceled=metrics.canceled + 1),
    T.TASK_RETRIED: lambda metrics, _: replace(metrics, retries=metrics.retries + 1),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class TimelineEntry:
    """One event of a timeline. `name` is the workflow's, or the ref_id of the stage; `status` the one it brought."""

    sequence: int
    timestamp: datetime
    event_type: EventType
    entity_type: str
    entity_id: str
    name: str
    task: str | None = None
    status: str | None = None
    error: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Timeline:
    """What happened to a workflow so far, in order."""

    workflow_id: str
    name: str
    entries: tuple[TimelineEntry, ...]
    started: datetime | None = None
    ended: datetime | None = None

    @property
    def duration(self) -> timedelta | None:
        """From the start to the end; None before both are known."""
        return None if self.started is None or self.ended is None else self.ended - self.started


class WorkflowTimelineProjection:
    """The timeline of one workflow."""

    def __init__(self, workflow_id: str) -> None:
        self.workflow_id = workflow_id
        self._seen = _Seen()
        self._name = ""
        self._started: datetime | None = None
        self._ended: datetime | None = None
        self._entries: list[TimelineEntry] = []

    def apply(self, event: Event) -> None:
        """Take in an event; those of other workflows, and progress, are left out."""
        if event.workflow_id != self.workflow_id or not self._seen.is_new(event):
            return
        names = self._seen.names(event)
        if event.event_type is T.WORKFLOW_CREATED:
            self._name = event.data["definition"].get("name", "")
        elif event.event_type is T.WORKFLOW_STARTED:
            self._started = event.timestamp
        elif event.event_type is T.WORKFLOW_RESTARTED:
            self._ended = None
        elif event.event_type in _ENDS:
            self._ended = event.timestamp
        self._entries.append(self._entry(event, names, event.data))

    def _entry(self, event: Event, names: Names, data: dict[str, Any]) -> TimelineEntry:
        kind = event.event_type.value
        about_workflow = event.entity_type == "workflow"
        return TimelineEntry(
            sequence=event.sequence,
            timestamp=event.timestamp,
            event_type=event.event_type,
            entity_type=event.entity_type,
            entity_id=event.entity_id,
            name=self._name if about_workflow else names.refs.get(event.entity_id, event.entity_id),
            task=names.task(event.entity_id, data.get("position")),
            status=None if event.event_type is T.WORKFLOW_ENDING else data.get("status", STATUS_AFTER.get(kind)),
            error=data.get("error"),
        )

    def get_state(self) -> Timeline:
        """Return the timeline so far."""
        return Timeline(
            workflow_id=self.workflow_id, name=self._name, entries=tuple(self._entries), started=self._started,
            ended=self._ended,
        )  # fmt: skip
