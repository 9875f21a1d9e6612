"""
The log of what happened: publishing it, reading it, folding it, framing it.

The package itself can be called: `stabilize_nb.events(store)` is the frame of the logs of many runs (logs.py).
"""

from __future__ import annotations

import sys
from importlib import import_module
from types import ModuleType
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


class _Callable(ModuleType):
    """A name cannot be both a package and a function, so this package is a module that can be called."""

    def __call__(self, store: Any = None, **which: Any) -> Any:
        return import_module("stabilize_nb.logs").events(store, **which)


sys.modules[__name__].__class__ = _Callable
