"""The signals that were sent to a run, folded from its log: each is one thing, whatever became of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from stabilize_nb.events.history import Names, unfit
from stabilize_nb.store.rows import UNREADABLE

if TYPE_CHECKING:
    from collections.abc import Iterable

    from stabilize_nb.events.history import Entry

#: Type of a fact about a signal -> what has become of it.
_BECOMES = {
    "signal.buffered": "KEPT",
    "signal.delivered": "CONSUMED",
    "signal.refused": "REFUSED",
    "signal.dropped": "LOST",
}


@dataclass(slots=True)
class Sent:
    """A signal that reached a run as its fact `sequence`; times are ms since the epoch."""

    came: int
    sequence: int
    stage_id: str
    ref_id: str | None
    name: str
    data: dict[str, Any] | None
    status: str = "KEPT"
    kept: bool = False
    consumed: int | None = None
    reason: str | None = None


def sent_in(entries: Iterable[Entry]) -> list[Sent]:
    """Return the signals that a log tells of, in the order in which they came."""
    names = Names()
    sent: list[Sent] = []
    kept: dict[str, Sent] = {}
    for entry in entries:
        try:
            names.learn(entry.data)
            if entry.type in _BECOMES:
                _take(entry, names, sent, kept)
        except UNREADABLE as error:
            raise unfit(entry, error) from error
    return sent


def _take(entry: Entry, names: Names, sent: list[Sent], kept: dict[str, Sent]) -> None:
    data, id_ = entry.data, entry.data.get("signal", "")
    signal = kept.get(id_)
    if signal is None:
        stage_id = entry.stage_id
        signal = Sent(entry.at, entry.sequence, stage_id, names.refs.get(stage_id), data["name"], data.get("data"))
        sent.append(signal)
    signal.status, signal.reason = _BECOMES[entry.type], data.get("reason")
    if signal.status == "KEPT":
        signal.kept = True
        kept[id_] = signal
    elif signal.status == "CONSUMED":
        signal.consumed = entry.at
