"""
Priority: how far ahead of others a message stands in the queue.

A step of priority is worth a minute of waiting. What is queued takes the place of something that came so much earlier;
so nothing waits for ever, and the queue needs no other order than that of time.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from stabilize_nb.errors import ConfigError

#: Under which key the context of a workflow or of a stage says it.
PRIORITY: Final = "_priority"
HIGHEST: Final = 100
#: ms of waiting that one step is worth.
STEP: Final = 60_000


def checked_priority(given: object) -> int:
    """Return a priority; raises ConfigError for what is none."""
    if type(given) is not int or not 0 <= given <= HIGHEST:
        raise ConfigError(f"priority={given!r}: a whole number from 0, which is usual, to {HIGHEST} is expected")
    return given


def priority_in(context: Mapping[str, Any]) -> int:
    """Return the priority that a context says; 0 when it says none."""
    said = context.get(PRIORITY)
    return min(max(said, 0), HIGHEST) if type(said) is int else 0


def due_at(now: int, after: int, priority: int) -> int:
    """Return when a message is due (ms since the epoch), which is its place; what is to wait is never due early."""
    return now + after if after else now - priority * STEP
