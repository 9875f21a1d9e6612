"""Two runs side by side, as a cell shows them: what differs is marked by a sign and set in bold."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Final

from markupsafe import Markup, escape

from stabilize_nb.models.status import WorkflowStatus
from stabilize_nb.notebook.looks import LOOKS, shorten
from stabilize_nb.notebook.tables import Table, duration
from stabilize_nb.plain import obeyed_by_none
from stabilize_nb.secrets.patterns import masked_value

if TYPE_CHECKING:
    from stabilize_nb.comparing import Comparison, Pair, Side

#: Columns of a value; what stands for a stage that a run does not have, and for one that was not run again.
VALUE: Final = 60
NONE: Final = "—"
TAKEN_OVER: Final = "taken over"
DIFFERS: Final = "≠"

_BOLD: Final = Markup("<b>{}</b>")
_HEADING: Final = Markup("<p><b>{}</b> · {}</p>")


def comparison_bundle(comparison: Comparison) -> dict[str, Any]:
    """Return what a cell shows."""
    head = _HEADING.format(shorten(comparison.a.name), _summary(comparison))
    return {"text/html": str(head + _table(comparison, marked=True).html()), "text/plain": text_of(comparison)}


def text_of(comparison: Comparison) -> str:
    """Return a comparison as text."""
    table = _table(comparison, marked=False)
    return obeyed_by_none(f"{comparison.a.name} · {_summary(comparison)}\n{table.text()}")


def _summary(comparison: Comparison) -> str:
    origin = comparison.b.forked_from
    second = f"B {comparison.b.id}"
    if origin is not None and origin.run == comparison.a.id:
        second += f", forked from it at {origin.stage or f'fact {origin.sequence}'}"
    number = sum(bool(pair.stage) for pair in comparison.pairs if pair.differs)
    found = "no stage differs" if not number else "1 stage differs" if number == 1 else f"{number} stages differ"
    return f"A {comparison.a.id} · {second} · {found}"


def _table(comparison: Comparison, *, marked: bool) -> Table:
    asked = any(side is not None and side.calls for pair in comparison.pairs for side in (pair.a, pair.b))
    calls = ("A calls", "B calls") if asked else ()
    columns = ("", "stage", "A", "B", "A took", "B took", "A tries", "B tries", *calls, "A gave", "B gave")
    rows = [list(_cells(pair, marked=marked, calls=asked)) for pair in comparison.pairs]
    return Table([_unbroken(name) if marked else name for name in columns], rows)


def _cells(pair: Pair, *, marked: bool, calls: bool) -> Iterator[str]:
    differs = pair.differs
    sides = (pair.a, pair.b)
    statuses = [NONE if side is None else _status(side) for side in sides]
    times = [_took(pair.a), TAKEN_OVER if pair.taken_over else _took(pair.b)]
    values = [NONE if side is None else _given(side, pair.stage) for side in sides]
    head = [DIFFERS if differs else "", pair.stage or "(run: its inputs)"]
    if marked:
        statuses, times = ([_unbroken(text) for text in texts] for texts in (statuses, times))
        statuses = _bold(statuses, differ="status" in differs)
        values = _bold(values, differ=values[0] != values[1])
    spent = [_spent(side, marked=marked) for side in sides] if calls else []
    yield from (*head, *statuses, *times, *_tries(pair), *spent, *values)


def _bold(texts: list[str], *, differ: bool) -> list[str]:
    return [_BOLD.format(escape(text)) if differ and text else text for text in texts]


def _unbroken(text: str) -> str:
    """Keep a few words on one line of a narrow page."""
    return text.replace(" ", "\u00a0")


def _status(side: Side) -> str:
    look = LOOKS[WorkflowStatus[side.status]]
    return f"{look.symbol} {look.word}"


def _took(side: Side | None) -> str:
    return NONE if side is None else duration(side.duration)


def _spent(side: Side | None, *, marked: bool) -> str:
    """Say how many calls of models and tools there were, and what they cost."""
    if side is None or not side.calls:
        return ""
    cost = "" if side.cost is None else f" · ${side.cost:.4f}"
    tokens = f" · {side.tokens:,} tokens" if side.tokens else ""
    text = f"{side.calls}{tokens}{cost}"
    return _unbroken(text) if marked else text


def _tries(pair: Pair) -> list[str]:
    """Return how often bodies were begun, where that says more than the status."""
    sides = (pair.a, pair.b)
    told = any(side is not None and side.attempts > 1 for side in sides)
    return [str(side.attempts) if told and side is not None else "" for side in sides]


def _given(side: Side, stage: str) -> str:
    """Say what a stage put out, or why it failed; the inputs of a run."""
    if side.error and stage:
        return shorten(side.error, VALUE)
    values = {key: value for key, value in side.outputs.items() if not key.startswith("_")}
    if not values:
        return ""
    values = masked_value(values)
    shown = values["result"] if [*values] == ["result"] else values
    return shorten(shown if isinstance(shown, str) else repr(shown), VALUE)
