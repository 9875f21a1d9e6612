"""The log of what happened: publishing it, reading it, folding it, framing it."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from stabilize_nb.events.bus import Event, EventBus, EventType, get_event_bus, reset_event_bus

if TYPE_CHECKING:
    from stabilize_nb.events.log import SqliteEventStore, configure_event_sourcing
    from stabilize_nb.events.projections import StageMetricsProjection, WorkflowTimelineProjection
    from stabilize_nb.events.replay import EventReplayer

_HOMES = {
    "SqliteEventStore": "log",
    "configure_event_sourcing": "log",
    "EventReplayer": "replay",
    "StageMetricsProjection": "projections",
    "WorkflowTimelineProjection": "projections",
}

__all__ = [
    "Event",
    "EventBus",
    "EventReplayer",
    "EventType",
    "SqliteEventStore",
    "StageMetricsProjection",
    "WorkflowTimelineProjection",
    "configure_event_sourcing",
    "get_event_bus",
    "reset_event_bus",
]


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(import_module(f"stabilize_nb.events.{_HOMES[name]}"), name)
    msg = f"module {__name__!r} has no attribute {name!r}"
    raise AttributeError(msg)
