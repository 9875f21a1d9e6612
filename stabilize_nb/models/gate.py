"""
What a gate asks, as the context of its stage says it: the question, what is shown, the form, choices, a deadline.

A decision may carry the fingerprint of what its maker saw; it counts only while the gate shows exactly that. Nothing
here knows who shows a gate or how.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from enum import StrEnum
from hashlib import blake2b
from typing import Any, Final

#: The task that waits for a decision, the decisions that every gate knows, and who decides when nobody did.
APPROVAL: Final = "approval"
APPROVE: Final = "approve"
REJECT: Final = "reject"
DEADLINE: Final = "deadline"
#: What `on_timeout` may say beside a choice of the gate: the stage fails, whatever a rejection would do.
FAIL: Final = "fail"
#: Names of the signals that end the waiting of a gate.
DECISIONS: Final = frozenset({APPROVE, REJECT, DEADLINE})
#: Under which key the context of a stage has what a body of it asks a person, with the keys that a gate has.
ASKS: Final = "_asks"
#: Keys of the context that a person sees, and the number of a question of a body: the same question again is another.
SEEN: Final = ("message", "show", "form", "choices", "step")

_UNITS: Final = {"ms": 0.001, "s": 1, "sec": 1, "m": 60, "min": 60, "h": 3_600, "d": 86_400, "w": 604_800}
_AMOUNT: Final = re.compile(r"\s*(\d+(?:\.\d+)?)\s*(min|sec|ms|[smhdw])(?![a-z])\s*")


class Refusal(StrEnum):
    """Why a decision had no effect."""

    CHANGED = "changed"  # it was about something else than what the gate shows
    CHOICE = "choice"  # the gate does not offer it
    NOT_WAITING = "not waiting"  # the gate was decided, withdrawn, or does not wait yet


def asked_in(context: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return what a stage asks: what a body of it asks, or else what stands in its context."""
    return context.get(ASKS) or context


def is_gate(tasks: Iterable[str]) -> bool:
    """Whether a person decides at a stage that has tasks of these classes."""
    return APPROVAL in tasks


def choices_of(context: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the decisions that a gate offers, in the order of its buttons."""
    declared = asked_in(context).get("choices")
    return tuple(map(str, declared)) if isinstance(declared, list) and declared else (APPROVE, REJECT)


def fingerprint_of(context: Mapping[str, Any]) -> str:
    """Return what stands for all that a person sees of a gate: 32 hex digits (BLAKE2b of canonical JSON)."""
    asked = asked_in(context)
    seen = [asked.get(key) for key in SEEN]
    text = json.dumps(seen, sort_keys=True, separators=(",", ":"), allow_nan=False, default=dict)
    return blake2b(text.encode(), digest_size=16).hexdigest()


def signal_for(choice: str) -> str:
    """Return the name of the signal that carries a choice: every one but "reject" approves."""
    return REJECT if choice == REJECT else APPROVE


def is_offered(context: Mapping[str, Any], signal: str, data: Mapping[str, Any]) -> bool:
    """Whether a decision is one of those that the gate offers."""
    if not asked_in(context).get("choices"):
        return True
    choice = data.get("decision", signal)
    return choice in choices_of(context) and signal_for(choice) == signal


def with_decision(context: Mapping[str, Any], signal: str, data: Mapping[str, Any]) -> dict[str, Any]:
    """Return the data of a decision; where a gate names its choices, with the one that was taken."""
    named = bool(asked_in(context).get("choices"))
    return {**data, "decision": data.get("decision", signal)} if named else dict(data)


# -- deadlines ----------------------------------------------------------------------------------------


def seconds_of(given: Any) -> float:
    """
    Return a time as seconds: a number, a timedelta, or text such as "2h", "90 min", "1h 30m", "2d".

    Raises ValueError with the end of a sentence that begins with what was given.
    """
    if hasattr(given, "total_seconds"):
        given = given.total_seconds()
    if isinstance(given, int | float) and not isinstance(given, bool):
        seconds = float(given)
    elif isinstance(given, str):
        seconds = _seconds_in(given)
    else:
        seconds = 0.0
    if not 0 < seconds < 2**43:  # ms that stay within 64 bits, and neither NaN nor infinite
        raise ValueError(
            'is no time: seconds above 0, a timedelta, or text such as "2h", "90 min" or "1h 30m" are expected'
        )
    return seconds


def _seconds_in(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        pass
    amounts = list(_AMOUNT.finditer(text))
    is_whole = "".join(amount[0] for amount in amounts) == text
    return sum(float(amount[1]) * _UNITS[amount[2]] for amount in amounts) if is_whole else 0.0


def deadline_of(context: Mapping[str, Any], since: int | None) -> int | None:
    """Return when a gate that waits `since` then decides itself; both in ms since the epoch."""
    timeout = asked_in(context).get("timeout")
    return None if timeout is None or since is None else since + round(seconds_of(timeout) * 1_000)


def on_timeout_of(context: Mapping[str, Any]) -> str:
    """Return what happens at the deadline: a choice of the gate, "reject" if nothing is said, or "fail"."""
    return str(context.get("on_timeout") or REJECT)


def fault_in(context: Mapping[str, Any]) -> str:
    """Return what is wrong with the deadline and choices of a gate, as a sentence; nothing when nothing is."""
    choices = context.get("choices")
    if choices is not None and not (isinstance(choices, list) and choices and all(map(_is_name, choices))):
        return f"choices={choices!r} is no list of names; write such as ['approve', 'revise', 'reject']"
    if context.get("timeout") is not None:
        try:
            seconds_of(context["timeout"])
        except ValueError as wrong:
            return f"timeout={context['timeout']!r} {wrong}"
    outcome, known = on_timeout_of(context), dict.fromkeys((*choices_of(context), REJECT, FAIL))
    words = ", ".join(map(repr, known))
    return "" if outcome in known else f"on_timeout={outcome!r} is not known; write one of {words}"


def _is_name(choice: Any) -> bool:
    return isinstance(choice, str) and bool(choice.strip())


def at_deadline(context: Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
    """Return the signal, and its data, by which a gate decides itself."""
    outcome = on_timeout_of(context)
    data = {"user": DEADLINE, "reason": f"nobody decided within {_time(seconds_of(context['timeout']))}"}
    if outcome == FAIL:
        return DEADLINE, data
    return signal_for(outcome), with_decision(context, outcome, data)


def _time(seconds: float) -> str:
    for unit, size in (("d", 86_400), ("h", 3_600), ("min", 60)):
        if seconds >= size and seconds % size == 0:
            return f"{seconds / size:g} {unit}"
    return f"{seconds:g} s"
