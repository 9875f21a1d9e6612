"""WorkflowStream: what happens to one workflow, as it happens, from its log, or first the one and then the other.

Sequence numbers join the two: an event that comes live with a gap before it is preceded by those that the log has,
and one that was shown already is left out, so nothing is missed and nothing comes twice. Commits of other processes
are seen in the log. Progress is told, not logged: it is live only.

A stream is read by threads that may be interrupted, so they wait on queues of their own (store/waiting.py).
"""

from __future__ import annotations

import logging
from contextlib import suppress
from dataclasses import dataclass, field
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING, Any, Literal, Self

from stabilize_nb.events.bus import Event, EventType, get_event_bus
from stabilize_nb.events.log import EventLog, log_of
from stabilize_nb.models.ids import new_id

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from stabilize_nb.models.stage import StageExecution

log = logging.getLogger("stabilize_nb")
#: Seconds between looks at the log when nothing was heard: commits of other processes.
LOOK_OUTSIDE = 0.25
_ENDS = frozenset({EventType.WORKFLOW_COMPLETED, EventType.WORKFLOW_FAILED, EventType.WORKFLOW_CANCELED})
Source = Literal["live", "replay"]


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamItem:
    """One event of a stream.

    `event_type` is equal to its text, such as "stage.completed". `entity_type` is "workflow", "stage" or "task", and
    `entity_id` the id of that workflow or stage. `sequence` is the number of the fact in the log, and `data` what the
    log has of it. Progress, "custom.progress", is live only and has the number 0; its `data` are `message`, `fraction`,
    `stage_ref_id` and whatever else the body gave, side by side. `source` is "live", or "replay" for what was read
    from the log.
    """

    event_type: EventType
    entity_type: str
    entity_id: str
    workflow_id: str
    data: dict[str, Any] = field(default_factory=dict)
    sequence: int = 0
    source: Source = "live"


class WorkflowStream:
    """The events of one workflow of a store that is open in this process, or of which `event_store` has the log."""

    def __init__(self, workflow_id: str, event_store: EventLog | None = None) -> None:
        self.workflow_id = workflow_id
        self._event_store = event_store
        self._name = f"stream-{new_id()}"
        self._listeners: list[Callable[[StreamItem], Any]] = []
        self._inboxes: list[SimpleQueue[Event | None]] = []
        self._closed = False

    def on_event(self, listener: Callable[[StreamItem], Any]) -> Callable[[StreamItem], Any]:
        """
        Have `listener` called with every item from now on, in order, by a thread of the bus; returns it, so it may
        decorate. One that raises is reported and called again.
        """
        self._listeners.append(listener)
        self._subscribe()
        return listener

    def replay(self) -> list[StreamItem]:
        """Return what the log has now: no progress, which is not kept."""
        return [_item(event, "replay") for event in self._logged(0)]

    def follow(self, include_history: bool = True) -> Iterator[StreamItem]:
        """
        Iterate over what happens from now on, with what the log has of before in front of it unless that is unwanted.

        Ends when the workflow has ended and everything was shown, at once if it has, or when the stream is closed.
        """
        inbox: SimpleQueue[Event | None] = SimpleQueue()
        self._inboxes.append(inbox)
        self._subscribe()
        following = _Following(self, inbox)
        history = self._logged(0)
        return following.items(history) if include_history else following.after(history)

    def close(self, timeout: float = 5.0) -> None:
        """Stop listening: iterations end, and listeners get what was told before, for at most `timeout` seconds."""
        self._closed = True
        if self._listeners:
            get_event_bus().flush(timeout)
        get_event_bus().unsubscribe(self._name)
        for inbox in self._inboxes:
            inbox.put(None)

    def _subscribe(self) -> None:
        if not self._closed:
            get_event_bus().subscribe(self._name, self._deliver, workflow_id=self.workflow_id)

    def _deliver(self, event: Event) -> None:
        for inbox in list(self._inboxes):
            inbox.put(event)
        for listener in list(self._listeners):
            try:
                listener(_item(event, "live"))
            except Exception:
                log.exception("a listener of the stream of workflow %s failed; it stays", self.workflow_id)

    def _logged(self, after: int, until: int | None = None) -> list[Event]:
        """Return events between two numbers, from the store itself when it is open here: it is never late."""
        source = log_of(self.workflow_id) or self._event_store
        return [] if source is None else source.get_events(self.workflow_id, after, until)

    def _leave(self, inbox: SimpleQueue[Event | None]) -> None:
        if inbox in self._inboxes:
            self._inboxes.remove(inbox)
        if not (self._inboxes or self._listeners):
            get_event_bus().unsubscribe(self._name)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class _Following:
    """One iteration over a stream: which event was shown last, and whether the workflow had ended then."""

    def __init__(self, stream: WorkflowStream, inbox: SimpleQueue[Event | None]) -> None:
        self._stream = stream
        self._inbox = inbox
        self._last = 0
        self._ended = False

    def after(self, history: list[Event]) -> Iterator[StreamItem]:
        for event in history:
            self._note(event)
        return self.items([])

    def items(self, history: list[Event]) -> Iterator[StreamItem]:
        try:
            yield from self._logged(history, "replay")
            while True:
                if self._ended:
                    yield from self._rest()
                if self._ended or self._stream._closed:  # noqa: SLF001 - its own module
                    return
                yield from self._next()
        finally:
            self._stream._leave(self._inbox)  # noqa: SLF001 - its own module

    def _next(self) -> Iterator[StreamItem]:
        try:
            event = self._inbox.get(timeout=LOOK_OUTSIDE)
        except Empty:
            yield from self._look()
            return
        if event is not None:
            yield from self._show(event)

    def _show(self, event: Event) -> Iterator[StreamItem]:
        if event.sequence > self._last + 1:
            yield from self._look(until=event.sequence - 1)
        if event.sequence == 0 or event.sequence > self._last:
            self._note(event)
            yield _item(event, "live")

    def _look(self, until: int | None = None) -> Iterator[StreamItem]:
        yield from self._logged(self._stream._logged(self._last, until), "live")  # noqa: SLF001 - its own module

    def _logged(self, events: list[Event], source: Source) -> Iterator[StreamItem]:
        for event in events:
            self._note(event)
            yield _item(event, source)

    def _rest(self) -> Iterator[StreamItem]:
        """Show what was told before the end and what the last commit logged after it."""
        with suppress(Empty):
            while (event := self._inbox.get_nowait()) is not None:
                yield from self._show(event)
        yield from self._look()

    def _note(self, event: Event) -> None:
        if event.sequence:
            self._last = event.sequence
            self._ended = event.event_type in _ENDS or (
                self._ended and event.event_type is not EventType.WORKFLOW_RESTARTED
            )


def _item(event: Event, source: Source) -> StreamItem:
    return StreamItem(
        event_type=event.event_type, entity_type=event.entity_type, entity_id=event.entity_id,
        workflow_id=event.workflow_id, data=event.data, sequence=event.sequence, source=source,
    )  # fmt: skip


def emit_progress(stage: StageExecution, message: str, fraction: float | None = None, **data: Any) -> None:
    """
    Tell whoever follows the workflow how far a task is; `fraction` is between 0 and 1.

    Outside a running task, as in a test that calls `execute` itself, nobody listens and nothing happens.
    """
    if stage.runtime is not None:
        stage.progress(fraction, message, **data)
