"""
Limits: how many bodies may begin in a time, over all processes of a store.

What counts is any stretch of that time, not that of a clock: of 60 a minute no 61 begin within 60 seconds. Each body
that is to begin takes the next permit, which says when it may; the k-th waits for as long as the k-60th is in the way.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final

from stabilize_nb.errors import ConfigError
from stabilize_nb.models.record import named_record

#: Under which key the context of a stage says it.
LIMIT: Final = "_limit"
#: How many there may be of a limit.
MOST: Final = 1_000_000
_UNITS: Final = {
    "s": 1_000, "sec": 1_000, "second": 1_000, "m": 60_000, "min": 60_000, "minute": 60_000, "h": 3_600_000,
    "hour": 3_600_000, "d": 86_400_000, "day": 86_400_000,
}  # fmt: skip
_TEXT: Final = re.compile(r"\s*([^\s:][^:]{0,63}?)\s*:\s*(\d{1,7})\s*/\s*(\d{1,6})?\s*([a-z]+)\s*")


@named_record
class Limit:
    """At most `count` bodies begin in any `period` (ms); all that name it share it."""

    name: str
    count: int
    period: int


def limit_of(text: object) -> Limit:
    """Return the limit that a text says; raises ConfigError for one that says none."""
    found = _TEXT.fullmatch(text) if isinstance(text, str) else None
    unit = _UNITS.get(found[4].removesuffix("s") or "s") if found else None
    if found is None or unit is None or not 0 < int(found[2]) <= MOST or (found[3] is not None and not int(found[3])):
        raise ConfigError(
            f"limit={text!r}: a name, a number and a time are expected, such as 'openai: 60/min' or 'crm: 5/10s'"
        )
    return Limit(name=found[1], count=int(found[2]), period=int(found[3] or 1) * unit)


def limit_in(context: Mapping[str, Any]) -> Limit | None:
    """Return the limit that the context of a stage says; None when it says none that is one."""
    try:
        return limit_of(context[LIMIT]) if LIMIT in context else None
    except ConfigError:
        return None


def permitted(limit: Limit, now: int, earlier: int | None, last: int | None) -> int:
    """
    Return when the next permit may be used (ms since the epoch).

    `earlier`: when that may be used which is `count` before it; `last`: when the one before it may.
    """
    return max(now, last or 0, 0 if earlier is None else earlier + limit.period)
