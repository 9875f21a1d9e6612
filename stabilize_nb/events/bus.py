"""EventBus: facts as they are committed, and progress as it is told, to whoever listens in this process.

Events are published after the commit and delivered in order, by a thread of the bus: a slow or failing listener
never holds up the engine. Nothing is built while nobody listens.
"""

from __future__ import annotations

import logging
import os
import threading
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import StrEnum
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING, Any, Final

from stabilize_nb.core.facts import event_type, to_data

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Sequence

    from stabilize_nb.core.facts import Fact

log = logging.getLogger("stabilize_nb")


class EventType(StrEnum):
    """What happened; the values are what the log stores."""

    WORKFLOW_CREATED = "workflow.created"
    WORKFLOW_STARTED = "workflow.started"
    WORKFLOW_PAUSED = "workflow.paused"
    WORKFLOW_RESUMED = "workflow.resumed"
    WORKFLOW_ENDING = "workflow.ending"
    WORKFLOW_COMPLETED = "workflow.completed"
    WORKFLOW_FAILED = "workflow.failed"
    WORKFLOW_CANCELED = "workflow.canceled"
    WORKFLOW_RESTARTED = "workflow.restarted"
    WORKFLOW_FORKED = "workflow.forked"
    OUTPUTS_REPLACED = "outputs.replaced"
    TOKEN_ARRIVED = "token.arrived"
    JOIN_FIRED = "join.fired"
    JOIN_PASSED = "join.passed"
    STAGE_STARTED = "stage.started"
    STAGE_COMPLETED = "stage.completed"
    STAGE_FAILED = "stage.failed"
    STAGE_SKIPPED = "stage.skipped"
    STAGE_CANCELED = "stage.canceled"
    STAGE_SUSPENDED = "stage.suspended"
    STAGE_PAUSED = "stage.paused"
    STAGE_RESUMED = "stage.resumed"
    STAGE_RESET = "stage.reset"
    STAGE_RETIRED = "stage.retired"
    CONTEXT_UPDATED = "context.updated"
    TASK_STARTED = "task.started"
    TASK_COMPLETED = "task.completed"
    TASK_FAILED = "task.failed"
    TASK_RETRIED = "task.retried"
    TASK_POLLED = "task.polled"
    TASK_OUTPUT = "task.output"
    TASK_LOST = "task.lost"
    TASK_SETTLED = "task.settled"
    CODE_REPLACED = "code.replaced"
    SIGNAL_BUFFERED = "signal.buffered"
    SIGNAL_DELIVERED = "signal.delivered"
    SIGNAL_DROPPED = "signal.dropped"
    SIGNAL_REFUSED = "signal.refused"
    JUMP_EXECUTED = "jump.executed"
    PERMIT_TAKEN = "permit.taken"
    ATTRIBUTES_SET = "attributes.set"
    RESULT_DISCARDED = "result.discarded"
    WORKFLOW_BUFFERED = "workflow.buffered"
    STAGE_WAITING = "stage.waiting"
    STAGE_PHASE = "stage.phase"
    CLAIM_TAKEN = "claim.taken"
    CLAIM_RELEASED = "claim.released"
    CHOICE_MADE = "choice.made"
    SLOT_TAKEN = "slot.taken"
    SLOT_RELEASED = "slot.released"
    SLOT_DECLINED = "slot.declined"
    INSTANCE_ADDED = "instance.added"
    INSTANCE_REFUSED = "instance.refused"
    ACTIVITY_CLOSED = "activity.closed"
    CONDITION_FAILED = "condition.failed"
    CHILD_STARTED = "child.started"
    CUSTOM = "custom.progress"  # told by a body; not part of the log
    UNKNOWN = "unknown"  # written by another version; its name is in the event's metadata


#: Member `kind` of the data of progress that is words of a model, as they come.
TOKENS: Final = "tokens"
_KNOWN = frozenset(kind.value for kind in EventType)


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """One entry of the log. `sequence` has no gaps within a workflow; 0 for events that are not logged."""

    event_type: EventType
    entity_type: str
    entity_id: str
    workflow_id: str
    sequence: int
    timestamp: datetime
    data: dict[str, Any] = field(default_factory=dict)
    metadata: dict[str, Any] = field(default_factory=dict)


def make_event(
    kind: str, workflow_id: str, sequence: int, at: int, stage_id: str | None, data: dict[str, Any]
) -> Event:
    """Make an event of the columns of a log row; `at` is ms since the epoch."""
    entity = kind.partition(".")[0]
    is_workflow = entity == "workflow" or stage_id is None
    return Event(
        event_type=EventType(kind) if kind in _KNOWN else EventType.UNKNOWN,
        entity_type="workflow" if is_workflow else ("task" if entity == "task" else "stage"),
        entity_id=workflow_id if is_workflow else str(stage_id),
        workflow_id=workflow_id,
        sequence=sequence,
        timestamp=datetime.fromtimestamp(at / 1_000, UTC),
        data=data,
        metadata={} if kind in _KNOWN else {"type": kind},
    )


@dataclass(frozen=True, slots=True)
class _Subscriber:
    call: Callable[[Event], Any]
    types: frozenset[EventType] | None
    workflow_id: str | None

    def wants(self, event: Event) -> bool:
        return (self.types is None or event.event_type in self.types) and (
            self.workflow_id is None or event.workflow_id == self.workflow_id
        )


class EventBus:
    """Delivers events to subscribers, each in order and each event once."""

    def __init__(self) -> None:
        self._subscribers: dict[str, _Subscriber] = {}
        self._queue: SimpleQueue[Sequence[Event] | SimpleQueue[None]] = SimpleQueue()
        self._thread: threading.Thread | None = None
        self._lock = threading.Lock()

    @property
    def wanted(self) -> bool:
        """Whether anybody listens."""
        return bool(self._subscribers)

    def subscribe(
        self,
        name: str,
        handler: Callable[[Event], Any],
        event_types: Collection[EventType] | None = None,
        workflow_id: str | None = None,
    ) -> None:
        """Have `handler` called with every event (of these types, of this workflow); a name subscribes once."""
        types = None if event_types is None else frozenset(event_types)
        with self._lock:
            self._subscribers[name] = _Subscriber(handler, types, workflow_id)

    def unsubscribe(self, name: str) -> None:
        """Stop calling the subscriber of this name."""
        with self._lock:
            self._subscribers.pop(name, None)

    def publish(self, events: Iterable[Event]) -> None:
        """Queue events for delivery."""
        if not self._subscribers:
            return
        if self._thread is None:
            with self._lock:
                if self._thread is None:
                    self._thread = threading.Thread(target=self._deliver, name="stabilize-events", daemon=True)
                    self._thread.start()
        self._queue.put(tuple(events))

    def flush(self, timeout: float = 5.0) -> None:
        """Wait until everything published so far has been delivered, at most `timeout` seconds. May be interrupted."""
        if self._thread is None or threading.current_thread() is self._thread:
            return
        done: SimpleQueue[None] = SimpleQueue()
        self._queue.put(done)
        with suppress(Empty):
            done.get(timeout=timeout)

    def _deliver(self) -> None:
        while True:
            batch = self._queue.get()
            if isinstance(batch, SimpleQueue):
                batch.put(None)
                continue
            for event in batch:
                for name, subscriber in list(self._subscribers.items()):
                    if subscriber.wants(event):
                        self._call(name, subscriber, event)

    def _call(self, name: str, subscriber: _Subscriber, event: Event) -> None:
        try:
            subscriber.call(event)
        except Exception:
            log.exception("event subscriber %r failed on %s; it stays subscribed", name, event.event_type.value)


_process_bus = EventBus()


def get_event_bus() -> EventBus:
    """Return the bus that carries the events of every store opened in this process."""
    return _process_bus


def _forget() -> None:
    """A thread does not pass to a forked child, and its listeners belong to the parent."""
    global _process_bus  # noqa: PLW0603 - one bus a process
    _process_bus = EventBus()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget)


def reset_event_bus() -> None:
    """Forget every subscriber of the process-wide bus."""
    for name in list(_process_bus._subscribers):  # noqa: SLF001 - its own module
        _process_bus.unsubscribe(name)


def announce(bus: EventBus, workflow_id: str, last: int, facts: Sequence[Fact], at: int) -> None:
    """Publish committed facts to a store's bus and the process-wide one; `last` numbers the last of them."""
    if not (bus.wanted or _process_bus.wanted):
        return
    first = last - len(facts) + 1
    events = [
        make_event(event_type(fact), workflow_id, first + index, at, getattr(fact, "stage", None), to_data(fact))
        for index, fact in enumerate(facts)
    ]
    bus.publish(events)
    _process_bus.publish(events)


def tell(bus: EventBus, workflow_id: str, stage_id: str, data: dict[str, Any], at: int) -> None:
    """Publish progress that a body tells; it is not part of the log."""
    if bus.wanted or _process_bus.wanted:
        event = make_event(EventType.CUSTOM.value, workflow_id, 0, at, stage_id, data)
        bus.publish((event,))
        _process_bus.publish((event,))
